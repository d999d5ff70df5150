"""JSON that the watchdog reads. It takes plain values from the top of an object, and travels in
user data, which has no room for the whole of `remote.contract.files.untrusted_json`: so the size
and the kind of file are bounded here, and any depth is an error like any other.
"""

import json
from pathlib import Path
from typing import Any

from remote.contract.files import regular_files

MAX_BYTES = 4 << 20


def of_text(text: str | bytes) -> dict[str, Any]:
    """The object that a text is. Raises ValueError for anything else."""
    try:
        told = json.loads(text)
    except RecursionError:
        told = None
    if not isinstance(told, dict):
        raise ValueError("no JSON object")
    return told


def of_file(path: Path) -> dict[str, Any]:
    """The object in a file. Raises OSError or ValueError."""
    return of_text(regular_files.content_of(path, MAX_BYTES))
