"""Which files go to a box, which stay, and why: Windlass's code, what a playbook names, what
`push.include` names.

A file that is named goes. Of a folder that is named, and of the project, what git ignores stays,
and what `push.exclude` names.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from remote.control.errors import ConfigError, Finding, LaptopError
from remote.control.output.sanitize import sized
from remote.control.project import CODE, name_of, root
from remote.control.transport.push import ignored

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from remote.control.config.inventory import Inventory

FILES = "files"
"""The folder of a release that holds what is not Windlass's own, by `project.name_of`."""
_LARGEST = 3
Found = TypeVar("Found")


@dataclass(frozen=True)
class Push:
    """What the inventory says about pushing: patterns of .gitignore, and how many MB are worth a
    warning."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    warn_mb: float = 200.0

    @classmethod
    def of(cls, inventory: "Inventory") -> "Push":
        """What this inventory says."""
        return cls(**inventory.push.model_dump())


NOTHING_MORE = Push()
"""Windlass's code and what is named, and no more."""


@dataclass(frozen=True)
class Member:
    """A file or link that goes: its name in the release, where it is here, why.

    `target` is where a link leads, in the release; `sha256` that of a file, once it has been read.
    """

    name: str
    source: Path
    why: str
    size: int
    executable: bool
    target: str = ""
    sha256: str = ""

    @property
    def entry(self) -> list[Any]:
        """The member in a manifest: see `remote/payload/transfer/receive.py`."""
        kind = "l" if self.target else "x" if self.executable else "-"
        return [self.name, kind, self.target or self.sha256, self.size]


@dataclass(frozen=True)
class Staying:
    """What stays, a file or the sum of several, and why."""

    name: str
    why: str
    size: int
    files: int = 1


@dataclass(frozen=True)
class Selection:
    """What goes and what stays. `stays` leaves out the rest of the project, of which nobody ever
    spoke."""

    goes: tuple[Member, ...]
    stays: tuple[Staying, ...]
    warnings: tuple[str, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of all that goes."""
        return sum(going.size for going in self.goes)


def select(files: Iterable[Path] = (), push: Push = NOTHING_MORE, code: Path = CODE) -> Selection:
    """What goes beside Windlass's code when a playbook names `files` (folders with what git keeps
    of them).

    Raises ConfigError for names without a file, folders of which nothing goes, and links that lead
    out; LaptopError for the unreadable.
    """
    chosen = _Chosen(push)
    for path in _code_files(code):
        chosen.add(path.relative_to(code).as_posix(), path, "Windlass's code")
    for path in dict.fromkeys(_resolved(each) for each in files):
        chosen.name(path)
    if push.include:
        chosen.include(root())
    return chosen.selection()


def rest_of_project(selection: Selection) -> list[Staying]:
    """What the project holds besides, of which nobody ever spoke: a line for what git keeps, and
    one for what it ignores."""
    spoken_of = {going.source for going in selection.goes} | {
        root() / staying.name for staying in selection.stays
    }
    listed = _listing(root())
    kept = [path for name in listed.kept if (path := root() / name) not in spoken_of]
    size = sum(_sum_of(path)[1] for path in kept)
    ignored_too = [
        _sum_of(path) for left in listed.left if (path := root() / left.name) not in spoken_of
    ]
    files_ignored, size_ignored = (sum(each) for each in zip(*ignored_too, (0, 0), strict=True))
    return [
        Staying(
            "the rest of the project",
            "named by no playbook and not in `push.include`",
            size,
            len(kept),
        ),
        Staying(
            f"what {listed.rules} ignores", "named by nobody either", size_ignored, files_ignored
        ),
    ]


class _Chosen:
    def __init__(self, push: Push) -> None:
        self._push = push
        self._goes: dict[str, Member] = {}
        self._links: list[tuple[str, Path, str]] = []
        self._stays: list[Staying] = []
        self._findings: list[Finding] = []
        self._warnings: list[str] = []

    @cached_property
    def _exclude(self) -> "GitIgnoreSpec":
        return _spec(self._push.exclude)

    def add(self, name: str, source: Path, why: str) -> None:
        """This file goes, or this link if it leads to what goes too."""
        facts = _facts(source)
        if stat.S_ISLNK(facts.st_mode):
            self._links.append((name, source, why))
        elif stat.S_ISREG(facts.st_mode):
            self._put(Member(name, source, why, facts.st_size, bool(facts.st_mode & 0o111)))
        else:
            self._stays.append(Staying(name, "neither file nor link", 0))

    def name(self, path: Path) -> None:
        """A playbook names this file or folder."""
        if path.is_file():
            self.add(f"{FILES}/{name_of(path)}", path, "named by the playbook")
        elif path.is_dir():
            self._name_folder(path)
        else:
            what = "neither a file nor a folder" if os.path.lexists(path) else "no such file"
            self._findings.append(
                Finding(str(path), what, "a file to send to the box", "name one that exists")
            )

    def include(self, project: Path) -> None:
        """What the patterns of `push.include` name in the project."""
        listed = _listing(project)
        spec, used = _spec(self._push.include), set[int]()
        for name in listed.kept:
            found = spec.check_file(name)
            if not found.include or _is_never(name) or found.index is None:
                continue
            used.add(found.index)
            self._add_unless_excluded(
                name,
                f"{FILES}/{name}",
                project / name,
                f"push.include: {self._push.include[found.index]}",
            )
        hit = [
            left for left in listed.left if spec.match_file(left.name) and not _is_never(left.name)
        ]
        self._leave(project, hit, "")
        for number, pattern in enumerate(self._push.include):
            if number not in used and not pattern.startswith("!"):
                why = f" ({hit[0].name}: {hit[0].why})" if hit else ""
                self._warnings.append(f"push.include `{pattern}`: nothing goes by it{why}")

    def selection(self) -> Selection:
        """All of it. Raises ConfigError with every finding."""
        self._resolve_links()
        self._look_for_clashes()
        if self._findings:
            raise ConfigError(self._findings)
        goes = tuple(sorted(self._goes.values(), key=lambda going: going.name))
        return Selection(goes, tuple(self._stays), (*self._warnings, *self._surprise(goes)))

    def _name_folder(self, folder: Path) -> None:
        base = f"{FILES}/{name_of(folder)}"
        before = len(self._goes) + len(self._links)
        listed = _listing(folder)
        within, why = (
            (f"{name_of(folder)}/" if folder.is_relative_to(root()) else ""),
            f"in {name_of(folder)}, named by the playbook",
        )
        for name in listed.kept:
            if not _is_never(name):
                self._add_unless_excluded(f"{within}{name}", f"{base}/{name}", folder / name, why)
        self._leave(folder, listed.left, f"{base}/")
        if len(self._goes) + len(self._links) == before and not any(
            going.startswith(f"{base}/") for going in self._goes
        ):
            is_empty = not any(folder.iterdir())
            what = "an empty folder" if is_empty else "nothing of this folder goes to the box"
            remedy = (
                "look at .gitignore and `push.exclude`; `./inv deploy --plan` tells what stays"
                " and why"
            )
            remedy = (
                f"fill it; where it is a submodule: `git submodule update --init {folder}`"
                if is_empty
                else remedy
            )
            self._findings.append(
                Finding(str(folder), what, "a folder with files that git does not ignore", remedy)
            )

    def _add_unless_excluded(self, tested: str, name: str, source: Path, why: str) -> None:
        found = self._exclude.check_file(tested)
        if found.include and found.index is not None:
            why = f"push.exclude: {self._push.exclude[found.index]}"
            self._stays.append(Staying(name.removeprefix(f"{FILES}/"), why, _facts(source).st_size))
        else:
            self.add(name, source, why)

    def _leave(self, folder: Path, left: list[ignored.Left], base: str) -> None:
        for each in left:
            files, size = _sum_of(folder / each.name)
            self._stays.append(
                Staying(f"{base.removeprefix(f'{FILES}/')}{each.name}", each.why, size, files)
            )

    def _put(self, going: Member) -> None:
        there = self._goes.setdefault(going.name, going)
        if there.source != going.source:
            what = f"{there.source} has that name on the box too"
            self._findings.append(
                Finding(
                    str(going.source),
                    what,
                    "one file of a name",
                    "rename one of them, or name one alone",
                )
            )

    def _look_for_clashes(self) -> None:
        for name, going in self._goes.items():
            for folder in PurePosixPath(name).parents:
                if file := self._goes.get(str(folder)):
                    what, remedy = (
                        f"on the box it would lie in {file.source}, which is a file",
                        "rename one of them, or name one alone",
                    )
                    self._findings.append(
                        Finding(
                            str(going.source), what, "a name that is a file or a folder", remedy
                        )
                    )

    def _resolve_links(self) -> None:
        """Links go where what they lead to goes too; they lead there by a way that exists in the
        release."""
        places = {going.source: going.name for going in self._goes.values()} | {
            source: name for name, source, _ in self._links
        }
        for source, name in list(places.items()):
            for inner, outer in zip(source.parents, Path(name).parents, strict=False):
                if inner.name != outer.name:
                    break
                places.setdefault(inner, outer.as_posix())
        for name, source, why in self._links:
            aim = str(readable(source, source.readlink))
            leads_anywhere = readable(source, source.exists)
            place = _place_of(source, aim, places) if leads_anywhere else None
            if place is None:
                self._findings.append(
                    _leads_out(name.removeprefix(f"{FILES}/"), aim, leads_anywhere)
                )
                continue
            target = os.path.relpath(place, PurePosixPath(name).parent)
            self._put(Member(name, source, why, 0, False, target))

    def _surprise(self, goes: Sequence[Member]) -> Iterator[str]:
        size = sum(going.size for going in goes)
        if size > self._push.warn_mb * 1e6:
            largest = sorted(goes, key=lambda going: going.size, reverse=True)[:_LARGEST]
            named = ", ".join(
                f"{going.name.removeprefix(f'{FILES}/')} ({sized(going.size)})" for going in largest
            )
            yield (
                f"the release holds {sized(size)} (push.warn_mb: {self._push.warn_mb:g}); the"
                f" largest: {named}"
            )


def _place_of(source: Path, aim: str, places: dict[Path, str]) -> str | None:
    """Where in the release lies what a link leads to: the next link of a chain if that goes too,
    else what stands at its end."""
    end = source.resolve()
    direct = Path(
        os.path.normpath(source.parent / aim)
    )  # by its letters: `..` behind a link to a folder means another one
    return places.get(direct) or places.get(end) if direct.resolve() == end else places.get(end)


def _leads_out(name: str, aim: str, leads_anywhere: bool) -> Finding:
    what = f"a link to {aim}, " + (
        "which does not travel" if leads_anywhere else "where nothing is"
    )
    remedy = f"replace it by what it leads to, or add `{name}` to `push.exclude` in inventory.yaml"
    return Finding(name, what, "a link that leads to something that goes to the box too", remedy)


def _code_files(code: Path) -> list[Path]:
    found = [code / "remote/__init__.py"]
    for folder in (code / "remote/contract", code / "remote/payload"):
        for place, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name != "__pycache__" and name[0] != "."]
            found += [
                Path(place) / name for name in names if name[0] != "." and not name.endswith(".pyc")
            ]
    return found


def _is_never(name: str) -> bool:
    return any(part in ignored.NEVER for part in name.split("/"))


def _spec(patterns: Sequence[str]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns)


def _facts(path: Path) -> os.stat_result:
    return readable(path, path.lstat)


def readable(path: Path, look: Callable[[], Found]) -> Found:
    """What `look` finds at `path`. Raises LaptopError where it cannot be read."""
    try:
        return look()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> LaptopError:
    return LaptopError(
        f"{path} cannot be sent to the box",
        where="this laptop",
        why=error.strerror or str(error),
        remedy=(
            "make it readable, or leave it out (.gitignore, or another name in the playbook); then"
            " run the same command again"
        ),
    )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (
        RuntimeError,
        OSError,
    ):  # links in a circle: told as what they are, where they are looked at
        return path.absolute()


def _listing(folder: Path) -> ignored.Listing:
    try:
        return ignored.listing(folder, root())
    except OSError as error:
        raise _unreadable(Path(error.filename or folder), error) from None


def _sum_of(path: Path) -> tuple[int, int]:
    """How many files, and their bytes, as far as they can be seen: they do not travel, and may
    vanish meanwhile."""
    if path.is_symlink() or not path.is_dir():
        return 1, _size_of(path)
    sizes = [_size_of(Path(place) / name) for place, _, names in os.walk(path) for name in names]
    return len(sizes), sum(sizes)


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
