"""Where the user's project lies on the laptop: inventory, playbooks, runs, and Windlass's own
state."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

CODE = Path(__file__).resolve().parents[3]
"""The folder that holds `remote/`: the checkout, or the site-packages that a wheel was installed
in."""

_IN_WHEEL = CODE / "remote" / "shipped"
IS_INSTALLED = _IN_WHEEL.is_dir()
"""Whether this is a wheel, and no checkout."""

SHIPPED = _IN_WHEEL if IS_INSTALLED else CODE
"""The folder that holds what ships beside the code: `templates/`, `playbooks/` and `data/`."""

INVENTORY = "inventory.yaml"

MARK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{2,60}$"
"""What the mark in `mark_file` looks like, drawn or named by the inventory."""


def root() -> Path:
    """The user's project: `WINDLASS_PROJECT`, or the checkout itself. The `windlass` command sets
    the variable: see `around`."""
    return Path(os.environ.get("WINDLASS_PROJECT") or CODE).resolve()


def around(folder: Path) -> Path:
    """The project that a folder lies in: the nearest one, from itself upwards, with an
    inventory.yaml; else the folder itself."""
    with_inventory = (each for each in (folder, *folder.parents) if is_file(each / INVENTORY))
    return next(with_inventory, folder)


def state_folder() -> Path:
    """Windlass's own files (known_hosts, keys, the embedded cloud, caches): private, never in git,
    one for each project."""
    folder = root() / ".windlass"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return keep_private(folder)


def mark_file() -> Path:
    """What marks this project's boxes in the cloud, once something was asked of one: see
    `cloud.identity`."""
    return state_folder() / "project"


def runs_folder() -> Path:
    """One folder a run: its ledger, logs and pulled artifacts; private, as are prompts, data and
    what they were made of."""
    folder = root() / "runs"
    return keep_private(folder) if folder.exists() else folder


def keep_private(folder: Path, whole: bool = False) -> Path:
    """The folder, its owner's alone whatever the umask was when it was made; `whole`: with all that
    is in it. A file of somebody else stays as it is."""
    inside = (
        (Path(base) / name for base, folders, files in os.walk(folder) for name in folders + files)
        if whole
        else ()
    )
    for path in (folder, *inside):
        with contextlib.suppress(OSError):
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & 0o700)
    return folder


def find_file(name: str | Path) -> Path:
    """A file named by the user: as given, in the project, or among the shipped ones. Returns the
    first that exists, else the project's."""
    given = _at_home(Path(name))
    candidates = [given] if given.is_absolute() else [root() / given, SHIPPED / given]
    return next((path for path in candidates if is_there(path)), candidates[0])


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # `~name` of nobody: a file of that very name
        return path


def is_there(path: Path) -> bool:
    """Whether something is at `path`: not, where no file can have that name."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def is_file(path: Path) -> bool:
    """Whether a file is at `path`; the same."""
    return is_there(path) and path.is_file()


def typed(name: str) -> str:
    """A path as a person typed it, for `find_file`: of what lies where that person stands, the way
    to it; else the word as it is."""
    try:
        here = Path.cwd() / Path(name).expanduser() if name else None
        if here is None or not is_there(here):
            return name
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # a folder that is gone, an unknown user's home, a name that no file can have
        return name
    path = here.absolute()
    within = os.path.relpath(path, root()) if path.is_relative_to(root()) else str(path)
    return within if "/" in within else f"./{within}"  # never to be taken for `stage.output`


def named_file(name: str | Path, folder: str) -> Path:
    """A YAML file by its path, or by its bare name in that folder: `demo` of `playbooks` is
    `playbooks/demo.yaml`."""
    file, named = find_file(name), find_file(f"{folder}/{name}.yaml")
    return named if not is_file(file) and is_file(named) else file


def names_in(folder: str) -> list[str]:
    """The bare names of the YAML files in that folder, of the project and of the shipped ones."""
    return sorted(
        {path.stem for base in (SHIPPED, root()) for path in (base / folder).glob("*.yaml")}
    )


_ELSEWHERE = "elsewhere"


def name_of(path: Path) -> str:
    """A laptop file's name in ledgers and releases: relative to the project, else to what ships
    with Windlass, else all of it under `elsewhere/`."""
    resolved = path.resolve()
    for folder in (root(), SHIPPED):
        if resolved.is_relative_to(folder):
            return resolved.relative_to(folder).as_posix()
    return f"{_ELSEWHERE}{resolved.as_posix()}"


def path_of(name: str) -> Path:
    """The laptop file of that name; the inverse of `name_of`."""
    if name.startswith(f"{_ELSEWHERE}/"):
        return Path(name.removeprefix(_ELSEWHERE))
    return find_file(name).resolve()


def code_state() -> dict[str, object]:
    """Which Windlass this is: the wheel's version; or commit, and digest of the difference where
    files were changed. Empty outside git."""
    if IS_INSTALLED:  # what git says there is about the repository around it
        from importlib.metadata import version

        return {"version": version("windlass")}
    import subprocess

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(CODE), *words], capture_output=True, text=True, check=False
        ).stdout

    commit, difference = git("rev-parse", "HEAD").strip(), git("diff", "HEAD")
    return (
        {
            "commit": commit,
            "changed": hashlib.sha256(difference.encode()).hexdigest()[:12] if difference else "",
        }
        if commit
        else {}
    )
