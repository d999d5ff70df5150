"""Several streams as one, by time: each is in order itself, and none may wait for another for
long."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from remote.control.logs.record import LogRecord

LIVE_SECONDS = 0.3
"""So long a line waits for older ones of other boxes while they are followed."""
BACKLOG_SECONDS = 5.0
"""And so long while another box has not sent yet what it has."""
HELD_BYTES = 8 * 1024 * 1024
"""What one stream may be ahead: then it is not read on, and its box waits."""
_OVERHEAD_BYTES = 512
"""A record takes up so much beside its content: a million empty lines are not nothing."""


@dataclass
class _Stream:
    waiting: "deque[tuple[float, float, LogRecord]]" = field(default_factory=deque)
    newest: float = 0.0
    held: int = 0
    is_live: bool = False
    has_ended: bool = False


class Merging:
    """Takes records of several streams, from their threads; iterate for all of them, until every
    stream has ended."""

    def __init__(self, names: Iterable[str]) -> None:
        self._streams = {name: _Stream() for name in names}
        self._changed = threading.Condition()

    @property
    def names(self) -> list[str]:
        """The streams."""
        return list(self._streams)

    def put(self, name: str, record: LogRecord) -> None:
        """Take a record; waits while that stream is far ahead."""
        stream = self._streams[name]
        with self._changed:
            while stream.held > HELD_BYTES:
                self._changed.wait()
            stream.newest = max(
                stream.newest, record.at
            )  # a clock that is set back holds up nobody
            stream.waiting.append((stream.newest, time.monotonic(), record))
            stream.held += len(record.content) + _OVERHEAD_BYTES
            self._changed.notify_all()

    def live(self, name: str) -> None:
        """From here on that stream sends what happens as it happens."""
        with self._changed:
            self._streams[name].is_live = True
            self._changed.notify_all()

    def end(self, name: str) -> None:
        """That stream has ended."""
        with self._changed:
            self._streams[name].has_ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[LogRecord]:
        while True:
            with self._changed:
                record = self._next()
                while record is None:
                    if all(
                        stream.has_ended and not stream.waiting for stream in self._streams.values()
                    ):
                        return
                    self._changed.wait(self._patience())
                    record = self._next()
            yield record

    def _next(self) -> LogRecord | None:
        streams = [stream for stream in self._streams.values() if stream.waiting]
        if not streams:
            return None
        first = min(streams, key=lambda stream: stream.waiting[0][0])
        if self._left(first) > 0:
            return None
        _, _, record = first.waiting.popleft()
        first.held -= len(record.content) + _OVERHEAD_BYTES
        self._changed.notify_all()
        return record

    def _left(self, first: _Stream) -> float:
        """For how many seconds the first of a stream has yet to wait for older ones of others."""
        waited = time.monotonic() - first.waiting[0][1]
        silent = [
            stream
            for stream in self._streams.values()
            if not stream.waiting and not stream.has_ended
        ]
        return (
            max((LIVE_SECONDS if stream.is_live else BACKLOG_SECONDS) - waited for stream in silent)
            if silent
            else 0.0
        )

    def _patience(self) -> float | None:
        streams = [stream for stream in self._streams.values() if stream.waiting]
        return (
            max(0.001, self._left(min(streams, key=lambda stream: stream.waiting[0][0])))
            if streams
            else None
        )
