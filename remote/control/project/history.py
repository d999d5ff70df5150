"""What happened to the boxes of this project, as this laptop saw it: `.windlass/history.jsonl`, one
JSON object a line.

A memory, never the truth, which is the cloud's: it tells where to look for a box besides its
offers, what was asked for when a launch was cut off, and how long each phase took. Every entry has
`box`, `kind` and `at` (seconds since the epoch, UTC); a line that a full disk cut short is passed
over.
"""

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.control import project


@dataclass(frozen=True)
class Launched:
    """An instance that this checkout launched: for which box, where, and under which mark of the
    project; the last two may be empty."""

    box: str
    id: str
    region: str
    mark: str = ""
    provider: str = ""


def append(box_name: str, kind: str, **facts: Any) -> None:
    """Remember that `kind` happened to a box: adopted, asking, attempt, launched, moved, phases,
    started, stopped, terminated …"""
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
    """Where the box was launched, adopted or moved to since it was last terminated: it may be
    there, whatever the inventory says now."""
    found: dict[str, None] = {}
    for entry in read(box_name):
        if entry["kind"] == "terminated":
            found.clear()
        elif entry["kind"] in ("asking", "launched", "adopted", "moved") and _text(entry, "region"):
            found[entry["region"]] = None
    return list(
        dict.fromkeys([*found, *(each.region for each in launched([box_name]) if each.region)])
    )


def launched(names: Sequence[str] | None = None) -> list[Launched]:
    """The instances that this checkout launched and is not known to have ended, oldest first; those
    of `names`, or of every box.

    Whether they still are, the cloud knows.
    """
    by_box = _by_box()
    return [
        each
        for name in (by_box if names is None else names)
        for each in _launched(name, by_box.get(name, []))
    ]


def marks() -> list[str]:
    """Every mark under which this checkout asked for a box, oldest first."""
    found = sorted(
        (entry["at"], entry["project"])
        for entries in _by_box().values()
        for entry in entries
        if _text(entry, "project")
    )
    return [mark for _, mark in found]


def last_mark() -> str:
    """The newest of them; empty where none is remembered."""
    return next(reversed(marks()), "")


def _launched(name: str, entries: list[dict[str, Any]]) -> list[Launched]:
    alive: dict[str, Launched] = {}
    for entry in entries:
        found = _text(entry, "id")
        if entry["kind"] == "launched" and found:
            alive[found] = Launched(
                name,
                found,
                _text(entry, "region"),
                _text(entry, "project"),
                _text(entry, "provider"),
            )
        elif entry["kind"] in ("terminated", "replaced"):
            alive.pop(found, None)
    return list(alive.values())


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


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
        with contextlib.suppress(ValueError):
            entry = untrusted_json.loads_object(line)
            if (
                _text(entry, "box")
                and _text(entry, "kind")
                and isinstance(entry.get("at"), int | float)
            ):
                by_box.setdefault(entry["box"], []).append(entry)
    return by_box
