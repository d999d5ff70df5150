"""What happened to the boxes of this project, as this laptop saw it: `.windlass/history.jsonl`, one JSON object a line.

A memory, never the truth, which is the cloud's: it tells where to look for a box besides its offers, what was asked for when a
launch was cut off, and how long each phase took. Every entry has `box`, `kind` and `at` (seconds since the epoch, UTC); a line
that a full disk cut short is passed over.
"""

import fcntl
import json
import os
import stat
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.contract import untrusted_json
from remote.control import project


def append(box_name: str, kind: str, **facts: Any) -> None:
    """Remember that `kind` happened to a box: adopted, asking, attempt, launched, moved, phases, started, stopped, terminated …"""
    line = json.dumps({"at": time.time(), "box": box_name, "kind": kind, **facts}, sort_keys=True)
    with open(_path(), "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        is_torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write(b"\n" * is_torn + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(box_name: str) -> list[dict[str, Any]]:
    """All that is remembered of a box, oldest first."""
    return list(_by_box().get(box_name, ()))


def last(box_name: str, kind: str) -> dict[str, Any] | None:
    """The newest entry of that kind."""
    return next((entry for entry in reversed(read(box_name)) if entry["kind"] == kind), None)


def regions(box_name: str) -> list[str]:
    """Where the box was launched, adopted or moved to since it was last terminated: it may be there, whatever the inventory says now."""
    found: dict[str, None] = {}
    for entry in read(box_name):
        if entry["kind"] == "terminated":
            found.clear()
        elif entry["kind"] in ("asking", "launched", "adopted", "moved") and entry.get("region"):
            found[entry["region"]] = None
    return list(found)


def _path() -> Path:
    return project.state_folder() / "history.jsonl"


def _by_box() -> dict[str, list[dict[str, Any]]]:
    try:
        stamp = _path().stat()
    except OSError:
        return {}
    return _read(_path(), stamp.st_mtime_ns, stamp.st_size) if stat.S_ISREG(stamp.st_mode) else {}


@lru_cache(maxsize=2)
def _read(path: Path, _mtime: int, _size: int) -> dict[str, list[dict[str, Any]]]:
    by_box: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_bytes().splitlines():
        try:
            entry = untrusted_json.loads_object(line)
            if isinstance(entry["kind"], str) and isinstance(entry["at"], int | float):
                by_box.setdefault(entry["box"], []).append(entry)
        except (ValueError, KeyError, TypeError):
            continue
    return by_box
