"""What git would keep of a folder: git says so itself; outside a checkout the `.gitignore` files
say it.

Names are relative to the folder, with `/` between their parts, and as the file system has them.
"""

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

BY_GIT, BY_FILES, BY_NOBODY = "git", ".gitignore", "nobody"
NEVER = (".git", ".windlass")
"""Git's own files, and Windlass's, keys among them."""

_ELSEWHERE = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
"""What a git hook has in its environment: it would have git tell of another repository than the
folder's."""
_UNOPENED = re.compile(rb"warning: could not open directory '(.*)/?': (.*)")


@dataclass(frozen=True)
class Left:
    """What does not travel: a file, or a folder as a whole (its name ends in `/`), and the rule
    that says so."""

    name: str
    why: str


@dataclass(frozen=True)
class Listing:
    """Files and links of a folder. `rules`: who told them apart."""

    kept: list[str]
    left: list[Left]
    rules: str


def listing(folder: Path, project: Path) -> Listing:
    """What git keeps of `folder`, and what it ignores. A folder that is ignored itself, and named
    all the same, is kept whole.

    Raises OSError for a folder in it that cannot be read.
    """
    told = _by_git(folder)
    return told if told is not None else _by_files(folder, project)


def _by_git(folder: Path) -> Listing | None:
    here = _git(folder, "rev-parse", "--is-inside-work-tree")
    if here is None or here.strip() != b"true":
        return None
    if _git(folder, "check-ignore", "-q", "--", ".") is not None:
        return Listing(sorted(_walked(folder)), [], BY_NOBODY)
    named = _names(_git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    kept = sorted({each for name in named for each in _expanded(folder, name)})
    ignored = _names(
        _git(folder, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    )
    return Listing(kept, [*_explained(folder, ignored), *_not_checked_out(folder, named)], BY_GIT)


def _expanded(folder: Path, name: str) -> Iterator[str]:
    """The files behind a name of git's: itself, or what a repository within this one keeps. A
    submodule that was never checked out is no repository, and git still speaks of the one around it
    there: it is a folder like any other, mostly an empty one.
    """
    path = folder / name
    if not path.is_symlink() and path.is_dir():
        inner = _by_git(path) if _is_own_repository(path) else None
        within = os.path.relpath(path, folder)
        yield from (
            each if within == "." else f"{within}/{each}"
            for each in (inner.kept if inner else _walked(path))
        )
    elif os.path.lexists(path):  # what git knows may be deleted
        yield name


def _is_own_repository(folder: Path) -> bool:
    """Whether the repository that git speaks of in `folder` begins there."""
    return os.path.lexists(folder / ".git") and _git(folder, "rev-parse", "--show-prefix") == b"\n"


def _not_checked_out(folder: Path, named: list[str]) -> Iterator[Left]:
    for name in named:
        path = folder / name
        if name != "./" and not path.is_symlink() and path.is_dir() and not any(path.iterdir()):
            yield Left(
                f"{name.rstrip('/')}/",
                "an empty folder: a submodule that is not checked out (`git submodule update"
                " --init`)",
            )


def _explained(folder: Path, names: list[str]) -> Iterator[Left]:
    if not names:
        return
    asked = "\0".join(names).encode(errors="surrogateescape")
    words = _names(_git(folder, "check-ignore", "-z", "-v", "--no-index", "--stdin", stdin=asked))
    for source, line, pattern, name in zip(*[iter(words)] * 4, strict=False):
        yield Left(name, f"git ignores it: {source}:{line} `{pattern}`")


def _git(folder: Path, *words: str, stdin: bytes = b"") -> bytes | None:
    """What git answers; None where it refuses. Raises OSError for a folder that it cannot read, and
    would leave out."""
    surroundings = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE} | {
        "LC_ALL": "C"
    }
    command = [
        "git",
        "-c",
        "core.fsmonitor=false",
        "-C",
        str(folder),
        *words,
    ]  # a repository may name a program to be run there
    try:
        answer = subprocess.run(
            command, input=stdin, capture_output=True, check=False, env=surroundings
        )
    except OSError:  # there is no git here
        return None
    if unopened := _UNOPENED.search(answer.stderr):
        raise PermissionError(
            errno.EACCES, os.fsdecode(unopened[2]), str(folder / os.fsdecode(unopened[1]))
        )
    return answer.stdout if answer.returncode == 0 else None


def _names(output: bytes | None) -> list[str]:
    return [os.fsdecode(name) for name in (output or b"").split(b"\0")[:-1]]


# ---- outside a checkout ----

Rules = list[tuple[Path, "GitIgnoreSpec", list[str]]]
"""The `.gitignore` files on the way to a folder: where each lies, its patterns, its lines."""


def _by_files(folder: Path, project: Path) -> Listing:
    is_inside = folder.is_relative_to(project)
    top, rules = project if is_inside else folder, Rules()
    for each in reversed(folder.parents) if is_inside else ():
        if each.is_relative_to(top):
            rules += _rules_of(each)
    if is_inside and any(_why(rules, each, True, top) for each in (folder, *folder.parents)):
        return Listing(sorted(_walked(folder)), [], BY_NOBODY)
    kept, left, below = list[str](), list[Left](), [(folder, rules)]
    while below:
        place, rules = below.pop()
        rules = [*rules, *_rules_of(place)]
        for path in place.iterdir():
            name, is_folder = (
                path.relative_to(folder).as_posix(),
                path.is_dir() and not path.is_symlink(),
            )
            if path.name in NEVER:
                continue
            if why := _why(rules, path, is_folder, top):
                left.append(Left(f"{name}/" if is_folder else name, f"ignored: {why}"))
            elif is_folder:
                below.append((path, rules))
            else:
                kept.append(name)
    return Listing(sorted(kept), left, BY_FILES)


def _why(rules: Rules, path: Path, is_folder: bool, top: Path) -> str:
    """The rule that ignores `path`, or nothing: the last word of the `.gitignore` nearest to it
    counts."""
    for place, spec, lines in reversed(rules):
        if place in path.parents:
            found = spec.check_file(path.relative_to(place).as_posix() + ("/" if is_folder else ""))
            if found.include is not None and found.index is not None:
                file = (place / ".gitignore").relative_to(top).as_posix()
                return f"{file} `{lines[found.index]}`" if found.include else ""
    return ""


def _rules_of(folder: Path) -> Rules:
    try:
        lines = (folder / ".gitignore").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    from pathspec import GitIgnoreSpec

    return [(folder, GitIgnoreSpec.from_lines(lines), lines)]


def _walked(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name not in NEVER]
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(place) / name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # what is gone by now needs not be sent
        raise error
