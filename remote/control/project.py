"""Where the user's project lies on the laptop: inventory, playbooks, runs, and Windlass's own state."""

import os
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
"""The checkout that holds `remote/`, `templates/` and the shipped playbooks."""

MARK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{2,60}$"
"""What the mark in `mark_file` looks like, drawn or named by the inventory."""


def root() -> Path:
    """The user's project: `WINDLASS_PROJECT`, or the checkout itself."""
    return Path(os.environ.get("WINDLASS_PROJECT") or CODE).resolve()


def state_folder() -> Path:
    """Windlass's own files (known_hosts, keys, the embedded cloud, caches): private, never in git, one for each project."""
    folder = root() / ".windlass"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def mark_file() -> Path:
    """What marks this project's boxes in the cloud, once something was asked of one: see `cloud.identity`."""
    return state_folder() / "project"


def runs_folder() -> Path:
    """One folder a run: its ledger, logs and pulled artifacts."""
    return root() / "runs"


def find_file(name: str | Path) -> Path:
    """A file named by the user: as given, in the project, or among the shipped ones. Returns the first that exists, else the project's."""
    given = _at_home(Path(name))
    candidates = [given] if given.is_absolute() else [root() / given, CODE / given]
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


_ELSEWHERE = "elsewhere"


def name_of(path: Path) -> str:
    """A laptop file's name in ledgers and releases: relative to the project, else to the checkout, else all of it under `elsewhere/`."""
    resolved = path.resolve()
    for folder in (root(), CODE):
        if resolved.is_relative_to(folder):
            return resolved.relative_to(folder).as_posix()
    return f"{_ELSEWHERE}{resolved.as_posix()}"


def path_of(name: str) -> Path:
    """The laptop file of that name; the inverse of `name_of`."""
    if name.startswith(f"{_ELSEWHERE}/"):
        return Path(name.removeprefix(_ELSEWHERE))
    return find_file(name).resolve()
