"""Several streams as one, by time: each is in order itself, and none may wait for another for long."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from remote.control.logs.told import Told

LIVE_SECONDS = 0.3
"""So long a line waits for older ones of other boxes while they are followed."""
BACKLOG_SECONDS = 5.0
"""And so long while another box has not told yet what it has."""
HELD_BYTES = 8 * 1024 * 1024
"""What one stream may be ahead: then it is not read on, and its box waits."""
_OVERHEAD_BYTES = 512
"""What is told takes up so much beside its content: a million empty lines are not nothing."""


@dataclass
class _Lane:
    waiting: "deque[tuple[float, float, Told]]" = field(default_factory=deque)
    newest: float = 0.0
    held: int = 0
    is_live: bool = False
    has_ended: bool = False


class Merging:
    """Takes what the streams tell, from their threads; iterate for all of it, until every stream has ended."""

    def __init__(self, names: Iterable[str]) -> None:
        self._lanes = {name: _Lane() for name in names}
        self._changed = threading.Condition()

    @property
    def names(self) -> list[str]:
        """The streams."""
        return list(self._lanes)

    def put(self, name: str, told: Told) -> None:
        """Take something; waits while that stream is far ahead."""
        lane = self._lanes[name]
        with self._changed:
            while lane.held > HELD_BYTES:
                self._changed.wait()
            lane.newest = max(lane.newest, told.at)  # a clock that is set back holds up nobody
            lane.waiting.append((lane.newest, time.monotonic(), told))
            lane.held += len(told.content) + _OVERHEAD_BYTES
            self._changed.notify_all()

    def live(self, name: str) -> None:
        """From here on that stream tells what happens as it happens."""
        with self._changed:
            self._lanes[name].is_live = True
            self._changed.notify_all()

    def end(self, name: str) -> None:
        """That stream has told all."""
        with self._changed:
            self._lanes[name].has_ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Told]:
        while True:
            with self._changed:
                told = self._next()
                while told is None:
                    if all(lane.has_ended and not lane.waiting for lane in self._lanes.values()):
                        return
                    self._changed.wait(self._patience())
                    told = self._next()
            yield told

    def _next(self) -> Told | None:
        lanes = [lane for lane in self._lanes.values() if lane.waiting]
        if not lanes:
            return None
        first = min(lanes, key=lambda lane: lane.waiting[0][0])
        if self._left(first) > 0:
            return None
        _, _, told = first.waiting.popleft()
        first.held -= len(told.content) + _OVERHEAD_BYTES
        self._changed.notify_all()
        return told

    def _left(self, first: _Lane) -> float:
        """For how many seconds the first of a lane has yet to wait for older ones of others."""
        waited = time.monotonic() - first.waiting[0][1]
        silent = [lane for lane in self._lanes.values() if not lane.waiting and not lane.has_ended]
        return max((LIVE_SECONDS if lane.is_live else BACKLOG_SECONDS) - waited for lane in silent) if silent else 0.0

    def _patience(self) -> float | None:
        lanes = [lane for lane in self._lanes.values() if lane.waiting]
        return max(0.001, self._left(min(lanes, key=lambda lane: lane.waiting[0][0]))) if lanes else None
