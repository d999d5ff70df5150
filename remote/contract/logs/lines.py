"""The lines of a log that are wanted, and when each was written. The box and the laptop read logs
by the same words."""

import itertools
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remote.contract.logs import job_log
from remote.contract.logs.frames import mark, marked_bytes
from remote.contract.logs.query import LogQuery
from remote.contract.logs.search import LineSearch

LEVELS = ("info", "warning", "error")
READ_BYTES = 1024 * 1024
LINE_BYTES = 4 * 1024 * 1024
"""What has no end by then is taken for a line."""
LOOK_BACK_BYTES = 8192

_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|^Traceback"
    r" \(most|^(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt)\b(?::|$)|^error: "
    r"|^(?:oom|nan|disk_full|xid|spot|deadman|data|model_missing|artifact|config|code): \{"
)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|Warning: |^warning: ")
_HINTS = (
    "ERROR",
    "CRITICAL",
    "FATAL",
    "Error",
    "Exception",
    "Interrupt",
    "error: ",
    ": {",
    "WARN",
    "arning: ",
    "Traceback",
)
"""A line without any of these weighs nothing: found ten times sooner than by the expressions."""
_HINT_BYTES = tuple(hint.encode() for hint in _HINTS)
_TRACEBACK = "Traceback (most recent call last)"


class Log(Protocol):
    """A run of bytes that may grow at its end, and lose its beginning."""

    def bounds(self) -> tuple[int, int]:
        """The offsets of the first byte that is there, and behind the last."""
        ...

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """At most `size` bytes from `offset` on, and the offset that they begin at: a later one
        where bytes are gone."""
        ...

    def times(self) -> Iterable[tuple[int, float]]:
        """When which byte was written, oldest first."""
        ...


class FolderLog:
    """The log of a job, or another of its growing files, in the job's folder."""

    def __init__(self, folder: Path, name: str = job_log.NAME) -> None:
        self._folder, self._name = folder, name

    def bounds(self) -> tuple[int, int]:
        """The offsets of the first byte that is there, and behind the last."""
        parts = job_log.parts(self._folder, self._name)
        return parts[0].start, parts[-1].end

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """At most `size` bytes from `offset` on, and the offset that they begin at."""
        return job_log.read(self._folder, offset, size, self._name)

    def times(self) -> Iterable[tuple[int, float]]:
        """When which byte was written; known of the log alone."""
        return job_log.times(self._folder) if self._name == job_log.NAME else ()


class Moments:
    """When which byte of a log was written."""

    def __init__(self, times: Iterable[tuple[int, float]]) -> None:
        pairs = list(times)
        self._offsets, self._times = (
            [offset for offset, _ in pairs],
            [moment for _, moment in pairs],
        )

    def of(self, offset: int) -> float:
        """Seconds since the epoch; 0 where that is not known."""
        number = bisect_right(self._offsets, offset)
        return self._times[number - 1] if number else 0.0

    def changes(self, start: int, end: int) -> list[int]:
        """The offsets between the two at which another moment begins."""
        return self._offsets[bisect_right(self._offsets, start) : bisect_left(self._offsets, end)]

    def since(self, moment: float, end: int) -> int:
        """The first byte written at `moment` or later; `end` where there is none, 0 where no times
        are known.

        That is what follows the last one written before: what came ahead of a clock that was set
        back is older, whatever its time says.
        """
        number = next(
            (
                number
                for number in range(len(self._times), 0, -1)
                if self._times[number - 1] < moment
            ),
            0,
        )
        if number == len(self._times):
            return end if self._times else 0
        return self._offsets[number]


@dataclass(frozen=True)
class Piece:
    """Whole lines written at the moment `at`; `next` is the byte to go on from. `dropped`: so many
    bytes are not there any more."""

    at: float
    next: int
    content: bytes = b""
    dropped: int = 0


class Levels:
    """How much each line of a text weighs; a traceback weighs as a whole."""

    def __init__(self) -> None:
        self._is_inside = False

    def all_light(self, content: bytes) -> bool:
        """Whether no line of it weighs anything, as can be seen at once."""
        return not self._is_inside and not any(hint in content for hint in _HINT_BYTES)

    def of(self, line: str) -> str:
        """info, warning or error."""
        if not self._is_inside and not any(hint in line for hint in _HINTS):
            return "info"
        was_inside, self._is_inside = (
            self._is_inside,
            _TRACEBACK in line or (self._is_inside and line[:1] in (" ", "\t")),
        )
        if was_inside or self._is_inside or _ERROR.search(line):
            return "error"
        return "warning" if _WARNING.search(line) else "info"


class Filter:
    """Which lines are wanted. Lines must come in their order, since a traceback is one thing."""

    def __init__(self, grep: str = "", level: str = "info") -> None:
        self._search = LineSearch(grep) if grep else None
        self._least = LEVELS.index(level)
        self._levels = Levels()

    @property
    def takes_all(self) -> bool:
        """Whether every line is wanted."""
        return self._search is None and not self._least

    def which(self, lines: Sequence[bytes]) -> list[bool]:
        """Which of these lines are wanted. Raises TooSlow."""
        texts = [line.decode(errors="replace").rstrip("\n") for line in lines]
        heavy = (
            [LEVELS.index(self._levels.of(text)) >= self._least for text in texts]
            if self._least
            else [True] * len(texts)
        )
        if self._search is None:
            return heavy
        found = iter(
            self._search.finds(
                [text for text, is_heavy in zip(texts, heavy, strict=True) if is_heavy]
            )
        )
        return [is_heavy and next(found) for is_heavy in heavy]

    def of(self, content: bytes) -> bytes:
        """The wanted lines of some. Raises TooSlow."""
        if self.takes_all:
            return content
        if self._least and self._levels.all_light(content):
            return b""
        lines = _lines_of(content)
        return b"".join(itertools.compress(lines, self.which(lines)))

    def anew(self) -> "Filter":
        """The same, for another place of the log."""
        fresh = copy(self)
        fresh._levels = Levels()
        return fresh

    def takes_event(self, level: str, text: str) -> bool:
        """Whether something that happened to the box is wanted."""
        weight = LEVELS.index(level) if level in LEVELS else 0
        return weight >= self._least and (
            self._search is None or any(self._search.finds(text.split("\n")))
        )


class Scan:
    """Reads the wanted lines of a log, from `next` on, as it grows."""

    def __init__(self, log: Log, start: int, wanted: Filter, moments: Moments) -> None:
        self.next = start
        self.moments = moments
        self._log, self._wanted = log, wanted
        self._rest = bytearray()
        if not wanted.takes_all:  # whether a traceback is under way there
            for _, content in _runs_between(
                log, line_start(log, max(log.bounds()[0], start - LOOK_BACK_BYTES)), start
            ):
                wanted.of(content)

    def pieces(self, now: float | None = None, at_most: float = math.inf) -> Iterator[Piece]:
        """All that is there by now, or about the next `at_most` bytes of it; `now` for what was
        written just now."""
        until = self.next + len(self._rest) + at_most
        while self.next + len(self._rest) < until:
            asked = self.next + len(self._rest)
            start, chunk = self._log.read(asked, READ_BYTES)
            if start > asked:
                yield from self.finish(now)
                self.next = start
                yield Piece(now or self.moments.of(start), start, dropped=start - asked)
            if chunk:
                yield from self._take(chunk, now)
            elif self.next + len(self._rest) >= self._log.bounds()[1]:
                return

    def unfinished(self, at_most: int = LINE_BYTES) -> bytes:
        """The end of the line that has no end yet."""
        return bytes(self._rest[-at_most:])

    def finish(self, now: float | None = None) -> Iterator[Piece]:
        """The last line, should it have no end and never get one."""
        start, last, self._rest = self.next, bytes(self._rest), bytearray()
        self.next += len(last)
        if content := self._wanted.of(last):
            yield Piece(now or self.moments.of(start), self.next, content)

    def _take(self, chunk: bytes, now: float | None) -> Iterator[Piece]:
        end = chunk.rfind(b"\n") + 1
        if not end and len(self._rest) + len(chunk) < LINE_BYTES:
            self._rest += chunk
            return
        end = end or len(chunk)
        whole, self._rest = bytes(self._rest) + chunk[:end], bytearray(chunk[end:])
        for start, lines in self._runs(whole, now):
            at = now or self.moments.of(start)
            self.next = start + len(lines)
            yield Piece(at, self.next, self._wanted.of(lines))

    def _runs(self, whole: bytes, now: float | None) -> Iterator[tuple[int, bytes]]:
        """Its lines with the offset of the first, cut where another moment begins."""
        base, done = self.next, 0
        for change in self.moments.changes(base, base + len(whole)) if now is None else ():
            end = whole.find(b"\n", max(done, change - base - 1)) + 1
            if done < end < len(whole):
                yield base + done, whole[done:end]
                done = end
        yield base + done, whole[done:]


def scan_of(log: Log, query: LogQuery, now: float, start: int | None = None) -> Scan:
    """Reads what a query wants of a log, at the moment `now` of the clock that wrote it; or on from
    `start`, where an earlier answer broke off."""
    wanted, moments = Filter(query.grep, query.level), Moments(log.times())
    if start is None:
        since = None if query.ago is None else now - query.ago
        start = start_of(log, moments, wanted, since, query.tail)
    return Scan(log, start, wanted, moments)


def continues(log: Log, offset: int, known: str) -> bool:
    """Whether `log` is the one whose bytes before `offset` have the mark `known`; so it seems where
    they are gone."""
    begin, end = log.bounds()
    count = marked_bytes(known) if known else 0
    if count < 0 or offset > end:
        return False
    runs = _runs_between(log, max(0, offset - count), offset)
    if offset - count < begin or not known:
        return True
    return mark(offset, b"".join(content for _, content in runs)) == known


def start_of(
    log: Log, moments: Moments, wanted: Filter, since: float | None, tail: int | None
) -> int:
    """Where to begin: the first line written at `since` or later, of these at most the last `tail`
    that are wanted."""
    begin, end = log.bounds()
    first = begin if since is None else min(max(begin, moments.since(since, end)), end)
    start = (
        line_start(log, first) if first < end else first
    )  # of a line that is older than `since`, only what is to come
    return start if tail is None else _tail_start(log, start, end, tail, wanted)


def line_start(log: Log, offset: int) -> int:
    """Where the line begins that holds the byte `offset`, or what a gap left of it; `offset` itself
    where that is too far back."""
    begin, at = log.bounds()[0], offset
    while begin < at and offset - at < LINE_BYTES:
        start = max(begin, at - READ_BYTES // 16)
        runs = _runs_between(log, start, at)
        if not runs or runs[-1][0] + len(runs[-1][1]) < at:
            return at
        first, content = runs[-1]
        if end := content.rfind(b"\n") + 1:
            return first + end
        if first > start:
            return first
        at = start
    return begin if at <= begin else offset


def _runs_between(log: Log, start: int, end: int) -> list[tuple[int, bytes]]:
    """What is there between two offsets: each run of bytes without a gap, and where it begins."""
    runs: list[tuple[int, bytearray]] = []
    while start < end:
        begin, chunk = log.read(start, end - start)
        if not chunk or begin >= end:
            break
        if not runs or begin > start:
            runs.append((begin, bytearray()))
        runs[-1][1].extend(chunk[: end - begin])
        start = begin + len(chunk)
    return [(begin, bytes(content)) for begin, content in runs]


def _tail_start(log: Log, lowest: int, end: int, count: int, wanted: Filter) -> int:
    """Where the last `count` wanted lines before `end` begin, looked for from the end."""
    if not count:
        return max(lowest, line_start(log, end))
    upper, left = end, count
    while upper > lowest:
        start = max(lowest, line_start(log, max(lowest, upper - READ_BYTES)))
        for first, content in reversed(_runs_between(log, start, upper)):
            found = _wanted_starts(content, first, wanted.anew())
            if len(found) >= left:
                return found[-left]
            left -= len(found)
        upper = start
    return lowest


def _wanted_starts(content: bytes, start: int, wanted: Filter) -> list[int]:
    lines = _lines_of(content)
    starts = itertools.accumulate((len(line) for line in lines[:-1]), initial=start)
    return list(
        itertools.compress(starts, [True] * len(lines) if wanted.takes_all else wanted.which(lines))
    )


def _lines_of(content: bytes) -> list[bytes]:
    """Its lines with their ends. Not `splitlines`: a progress bar's carriage returns end no
    line."""
    *lines, rest = content.split(b"\n")
    return [*(line + b"\n" for line in lines), *([rest] if rest else [])]
