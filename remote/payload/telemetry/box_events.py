"""What happened to the box beside its jobs, as it comes: its timeline, and the log of its
watchdog."""

import calendar
import contextlib
import heapq
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remote.contract.telemetry.timeline import Event

WATCHDOGS = (Path("/var/lib/windlass"), Path.home() / ".windlass-box")
"""Where the box's watchdog writes its log and how its clocks stand; see
`remote.payload.watchdog`."""

Seen = list[int]
"""An inode, and how many bytes of that file have been read; empty for none yet."""

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)")
_SPOT = re.compile(r"spot|taken back|rebalance")
_GRAVE = re.compile(r"failed|stops:|is stuck|taken back|the cloud will", re.IGNORECASE)


class GrowingFile:
    """A file of lines that is replaced when it is large, its past kept as `NAME.1`. `seen` (its
    inode, and how far it has been read) is where to go on, over a replacement too."""

    def __init__(self, path: Path, seen: Seen) -> None:
        self._path, self._older = path, path.with_name(f"{path.name}.1")
        self._inode, self._offset = seen if len(seen) == 2 else (0, 0)

    def new_lines(self) -> Iterator[tuple[str, Seen]]:
        """The whole lines that came since, each with where to go on after it."""
        inode = _inode_of(self._path)
        if inode != self._inode:
            if _inode_of(self._older) != self._inode:
                self._inode, self._offset = (
                    _inode_of(self._older),
                    0,
                )  # replaced more than once, or never read: all that is kept is new
            yield from self._rest_of(self._older)
            self._inode, self._offset = inode, 0
        yield from self._rest_of(self._path)

    def _rest_of(self, path: Path) -> Iterator[tuple[str, Seen]]:
        content = b""
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        for line in content.split(b"\n")[:-1]:
            self._offset += len(line) + 1
            yield line.decode(errors="replace"), [self._inode, self._offset]


@dataclass(frozen=True)
class BoxEvent:
    """An event, the file that tells it, and where to go on there after it."""

    event: Event
    file: str
    seen: Seen


class BoxEvents:
    """The events of a box from the moment `since` on, each once. `seen` goes on where an earlier
    one was: what follows is new, whatever its time says."""

    def __init__(
        self, timeline: Path, watchdogs: Sequence[Path], since: float, seen: dict[str, Seen]
    ) -> None:
        logs = [folder / "log" for folder in watchdogs]
        self._files = {
            str(path): GrowingFile(path, seen.get(str(path), [])) for path in (timeline, *logs)
        }
        self._readers = {str(timeline): _of_timeline, **{str(log): _of_watchdog for log in logs}}
        self._since = {name: -math.inf if seen.get(name) else since for name in self._files}

    def new(self) -> list[BoxEvent]:
        """What happened since the last look, by time; those of one file stay in its order, whatever
        a clock did meanwhile."""
        files = [self._ranked(name, file.new_lines()) for name, file in self._files.items()]
        merged = heapq.merge(*files, key=lambda each: each[0])
        found = [
            happening
            for _, happening in merged
            if happening.event.time >= self._since[happening.file]
        ]
        self._since = dict.fromkeys(self._files, -math.inf)
        return found

    def _ranked(
        self, name: str, lines: Iterator[tuple[str, Seen]]
    ) -> Iterator[tuple[float, BoxEvent]]:
        before, newest = None, 0.0
        for line, seen in lines:
            if event := self._readers[name](line, before):
                before, newest = event, max(newest, event.time)
                yield newest, BoxEvent(event, name, seen)


def _of_timeline(line: str, _before: Event | None) -> Event | None:
    try:
        return Event.from_line(line)
    except (ValueError, TypeError):
        return None


def _of_watchdog(line: str, before: Event | None) -> Event | None:
    """What the watchdog wrote; a line without a time belongs to the one before."""
    if stamped := _STAMPED.match(line):
        moment = calendar.timegm(time.strptime(stamped[1], "%Y-%m-%d %H:%M:%S"))
        return _event_of(float(moment), stamped[2])
    return _event_of(before.time, line, before.level) if before and line else None


def _event_of(moment: float, text: str, level: str = "") -> Event:
    return Event(
        moment,
        "spot" if _SPOT.search(text) else "watchdog",
        level or ("warning" if _GRAVE.search(text) else "info"),
        text,
    )


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
