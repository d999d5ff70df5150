"""What happened to a box, beside what its jobs say themselves: one line of JSON an event, bounded in size."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT_BYTES = 4 * 1024 * 1024
"""When the file is larger, it becomes `timeline.jsonl.1`, in place of an older one."""


@dataclass(frozen=True)
class Event:
    """`time` in seconds since the epoch, UTC, by the box's clock; `source`: kernel, gpu, watchdog, spot, job or windlass; `level`: info,
    warning or error; `job`: the job's id where it is about one."""

    time: float
    source: str
    level: str
    text: str
    job: str = ""

    def to_line(self) -> str:
        """The event as one line, newline included."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Event":
        """Read a line; raises ValueError or TypeError when it is none. Unknown keys of a newer Windlass are left out."""
        raw = json.loads(line)
        return cls(**{key: raw[key] for key in raw if key in cls.__dataclass_fields__})


def append(path: Path, event: Event) -> None:
    """Add an event. Whole or not at all, whoever else writes; a full disk drops it: what happens must not fail for want of its record."""
    try:
        if path.exists() and path.stat().st_size > KEPT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, event.to_line().encode())
        finally:
            os.close(descriptor)
    except OSError:
        return


def read(path: Path) -> list[Event]:
    """All that is kept, oldest first; lines that are no events are left out."""
    found = []
    for part in (path.with_name(f"{path.name}.1"), path):
        for line in part.read_text(errors="replace").splitlines() if part.exists() else ():
            try:
                found.append(Event.from_line(line))
            except (ValueError, TypeError):
                continue
    return found
