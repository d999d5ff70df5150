"""Where the user's project lies on the laptop: inventory, playbooks, runs, and Windlass's own state."""

import os
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
"""The checkout that holds `remote/`, `templates/` and the shipped playbooks."""


def root() -> Path:
    """The user's project: `WINDLASS_PROJECT`, or the checkout itself."""
    return Path(os.environ.get("WINDLASS_PROJECT") or CODE).resolve()


def state_folder() -> Path:
    """Windlass's own files (known_hosts, keys, the embedded cloud, caches): private, never in git, one for each project."""
    folder = root() / ".windlass"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def runs_folder() -> Path:
    """One folder a run: its ledger, logs and pulled artifacts."""
    return root() / "runs"


def find_file(name: str | Path) -> Path:
    """A file named by the user: as given, in the project, or among the shipped ones. Returns the first that exists, else the project's."""
    given = Path(name).expanduser()
    candidates = [given] if given.is_absolute() else [root() / given, CODE / given]
    return next((path for path in candidates if path.exists()), candidates[0])
