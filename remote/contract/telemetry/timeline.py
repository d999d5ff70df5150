"""What happened to a box, beside what its jobs say themselves: one line of JSON an event, bounded
in size."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from remote.contract.files import records, typed, untrusted_json

KEPT_BYTES = 4 * 1024 * 1024
"""When the file is larger, it becomes `timeline.jsonl.1`, in place of an older one."""


@dataclass(frozen=True)
class Event:
    """`time` in seconds since the epoch, UTC, by the box's clock; `source`: kernel, gpu, watchdog,
    spot, job or windlass; `level`: info, warning or error; `job`: the job's id where it is about
    one."""

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
        """Read a line; raises ValueError or TypeError when it is none. Unknown keys of a newer
        Windlass are left out."""
        return typed.read(cls, untrusted_json.loads(line))


def append(path: Path, event: Event) -> None:
    """Add an event, whoever else writes. Never raises OSError: what happens must not fail for want
    of its record."""
    records.append(path, event.to_line(), KEPT_BYTES)


def read(path: Path, since: float = 0.0) -> list[Event]:
    """All events at or after `since` that are kept, oldest first; lines that are no events are left
    out."""
    found = []
    for line in records.lines(path):
        with contextlib.suppress(ValueError, TypeError):
            event = Event.from_line(line)
            if event.time >= since:
                found.append(event)
    return found
