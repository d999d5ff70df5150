"""Lanes on which an artifact comes home: connections side by side that take piece after piece of what is missing.

One connection carries no more at once than its window: 4 MiB, 80 MB/s at 50 ms, and what TCP makes of it. Measured over 50 ms,
170 MB: one connection 46 MB/s, two 80, four 119, eight 127 (scp: 28). Without a distance one is enough, and stays alone.
"""

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from remote.contract import untrusted_json
from remote.contract.jobs import Artifact, Cause
from remote.control.errors import ArtifactCorrupt, BoxUnreachable, JobFailed
from remote.control.printable import sized
from remote.control.transport.base import Stream, Transport, last_lines
from remote.control.transport.extents import Range
from remote.control.transport.partial import LONGEST_LIST_BYTES, Partial
from remote.control.transport.payload import NO_PYTHON, complaint, no_python

PIECE_BYTES = 4 << 20
HELD_PIECES = 3
"""How many pieces a lane has asked for at once: more than what may be under way, so that the box never waits for a question."""

SIDE_LANES = 3
LOOK_SECONDS = 0.05
SETTLED_SECONDS = 0.15
LONG_SECONDS = 1.5
"""So long must a transfer still take, at the rate so far, before more lanes are opened for it: a connection costs seven round trips."""

FAR_SECONDS = 0.1
"""A box that took longer to start the sender, two round trips at the least, is far: what is large gets its lanes at once."""

DETOUR_SETTLED_SECONDS, DETOUR_SECONDS = 2.0, 10.0
"""The same for a detour, which costs requests that are paid for."""

STRAGGLER_SECONDS = 1.0
"""A lane that has had nothing to do for so long takes over what another one still owes."""

SILENCE_SECONDS = 60.0
HEADER_SECONDS = 600.0
_ENDING_SECONDS = 1.0
_CHANGED = 65
LULL_SECONDS, LULL_BYTES = 0.001, 128 << 10
"""Where less than so much has come, more is waited for: to take each packet by itself costs a fifth of all processor time."""

OnBytes = Callable[[int], None]


@dataclass(eq=False)
class Piece:
    """A range that a lane has asked for; before `at` it has come."""

    at: int
    end: int
    is_doubled: bool = False


class Lane:
    """Who takes pieces: what it has asked for and not got yet, and whether it shall ask no more."""

    def __init__(self) -> None:
        self.held: deque[Piece] = deque()
        self.is_over = False


class Work:
    """What is missing of an artifact, handed out to lanes until everything is here, or `end` was called."""

    def __init__(self, partial: Partial, on_bytes: OnBytes) -> None:
        self._partial, self._on_bytes = partial, on_bytes
        self._changed = threading.Condition()
        self._left: deque[Range] = deque(partial.missing())
        self._held: list[Piece] = []
        self._ended = False
        self.error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody needs to ask for anything any more."""
        return self._ended or self._partial.is_complete

    def take(self, lane: Lane, count: int, size: int, backwards: bool = False) -> Piece | None:
        """The next piece for a lane, at most `size` bytes, as soon as it holds fewer than `count`; None when it shall ask no more."""
        busy_at = time.monotonic()
        with self._changed:
            while not (self.is_over or lane.is_over):
                now = time.monotonic()
                busy_at = now if lane.held else busy_at
                if len(lane.held) < count and (piece := self._next(size, backwards, now - busy_at)):
                    lane.held.append(piece)
                    self._held.append(piece)
                    return piece
                self._changed.wait(STRAGGLER_SECONDS / 2)
        return None

    def arrived(self, lane: Lane, piece: Piece, content: "bytes | memoryview") -> None:
        """Write what has come of a lane's piece. Raises OSError."""
        self._partial.write(piece.at, content)
        piece.at += len(content)
        with self._changed:
            self._on_bytes(self._partial.done)
            if piece.at == piece.end:
                self._held.remove(piece)
                lane.held.remove(piece)
                self._changed.notify_all()

    def ask_no_more(self, lane: Lane) -> None:
        """A lane gets nothing more to ask for."""
        with self._changed:
            lane.is_over = True
            self._changed.notify_all()

    def leave(self, lane: Lane) -> None:
        """A lane ends: what it has asked for in vain is for the others."""
        with self._changed:
            lane.is_over = True
            for piece in lane.held:
                self._held.remove(piece)
                if not piece.is_doubled:
                    self._left.appendleft((piece.at, piece.end))
            lane.held.clear()
            self._changed.notify_all()

    def end(self, error: Exception | None = None) -> None:
        """Let every lane end; `error` is why nobody needs to go on."""
        with self._changed:
            self._ended, self.error = True, self.error or error
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Whether all is over within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_over, seconds)

    def _next(self, size: int, backwards: bool, idle_seconds: float) -> Piece | None:
        if self._left:
            start, end = self._left.pop() if backwards else self._left.popleft()
            first, last = (max(start, end - size), end) if backwards else (start, min(end, start + size))
            rest = (start, first) if backwards else (last, end)
            if rest[0] < rest[1]:
                self._left.append(rest) if backwards else self._left.appendleft(rest)
            return Piece(first, last)
        owed = [piece for piece in self._held if not piece.is_doubled]
        if idle_seconds < STRAGGLER_SECONDS or not owed:
            return None
        owed[0].is_doubled = True
        return Piece(owed[0].at, owed[0].end)


class Questions(Lane):
    """What a lane asks the box for: a file for standard input, which says more whenever a piece has come."""

    def __init__(self, path: str, ask: "Callable[[Questions], dict[str, Any] | None]") -> None:
        super().__init__()
        self._first: dict[str, Any] | None = {"path": path}
        self._ask = ask

    def read(self, size: int = -1, /) -> bytes:
        """The next question as a line; nothing when no more is wanted."""
        question, self._first = self._first or self._ask(self), None
        return b"" if question is None else json.dumps(question).encode() + b"\n"

    def as_stdin(self) -> BinaryIO:
        """This, for a transport."""
        return cast(BinaryIO, self)


def run_lane(
    transport: Transport, command: str, artifact: Artifact, work: Work, partial: Partial, opened: Callable[[], None] = lambda: None
) -> None:  # fmt: skip
    """Bring pieces over a connection until all is over; `opened` is called when it stands.

    Raises BoxUnreachable when it breaks: what came is kept; OSError when nothing can be written.
    """
    questions = Questions(artifact.path, lambda lane: _range(work.take(lane, HELD_PIECES, PIECE_BYTES)))
    try:
        with transport.open(command, questions.as_stdin(), silence=SILENCE_SECONDS) as stream:
            opened()
            try:
                _receive(transport.where, stream, questions, artifact, work, partial)
            finally:
                work.leave(questions)
    except OSError as error:
        work.end(error)
        raise


def _range(piece: Piece | None) -> dict[str, Any] | None:
    return None if piece is None else {"from": piece.at, "to": piece.end}


def _receive(where: str, stream: Stream, lane: Questions, artifact: Artifact, work: Work, partial: Partial) -> None:
    chunks, first, is_whole, rest = iter(stream), bytearray(), b"", b""
    until = time.monotonic() + HEADER_SECONDS
    while not is_whole:
        end, is_whole, rest = _next_chunk(chunks, where, artifact, stream).partition(b"\n")
        first += end
        if len(first) > LONGEST_LIST_BYTES or time.monotonic() > until:
            bound = f"{sized(LONGEST_LIST_BYTES)} and {HEADER_SECONDS:g} s"
            raise corrupt(where, artifact, f"the box's list of its files does not end within {bound}")
    admit(where, bytes(first), artifact, partial)
    while not work.is_over:
        if not _distribute(memoryview(rest), lane, work):
            raise corrupt(where, artifact, "the box sends more than it was asked for")
        if len(rest) < LULL_BYTES and not work.is_over:
            time.sleep(LULL_SECONDS)
        try:
            rest = b"" if work.is_over else _next_chunk(chunks, where, artifact, stream)
        except BoxUnreachable:
            if not work.is_over:  # the sender ended because nothing more is wanted
                raise


def _next_chunk(chunks: Iterator[bytes], where: str, artifact: Artifact, stream: Stream) -> bytes:
    chunk = next(chunks, None)
    if chunk is None:
        raise broken_off(where, artifact, stream)
    return chunk


def _distribute(content: memoryview, lane: Questions, work: Work) -> bool:
    """Hand what came to the pieces that were asked for, in their order; False where it is more."""
    while content:
        if not lane.held:
            return False
        piece = lane.held[0]
        part = content[: piece.end - piece.at]
        work.arrived(lane, piece, part)
        content = content[len(part) :]
    return True


def admit(where: str, header: bytes, artifact: Artifact, partial: Partial) -> None:
    """Take the box's first line. Raises ArtifactCorrupt where it has something else than what is wanted, or nothing."""
    told = _understood(where, header)
    if "error" in told:
        words = complaint(where, told["error"])
        raise ArtifactCorrupt(words.what, where=where, why=words.why, remedy=words.remedy)
    try:
        partial.admit(told["files"])
    except ValueError as error:
        raise corrupt(where, artifact, str(error)) from None


def _understood(where: str, header: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        told = untrusted_json.loads_object(header, max_bytes=LONGEST_LIST_BYTES, lone_surrogates=True)
        if "files" in told or "error" in told:
            return told
    raise JobFailed(
        "the box's answer is not understood", cause=Cause.CODE, where=where, why=f"it begins with {header[:80]!r}",
        remedy="its shell must say nothing of its own when it runs a command (~/.bashrc); then run the same command again",
    )  # fmt: skip


def corrupt(where: str, artifact: Artifact, why: str) -> ArtifactCorrupt:
    """The artifact is not what the job said it is."""
    return ArtifactCorrupt(
        f"{artifact.path} does not verify", where=where, why=why,
        remedy="run the same command again; should it stay so, it is damaged on the box: `./inv run PLAYBOOK` makes it anew",
        kept="nothing bears its name",
    )  # fmt: skip


def broken_off(where: str, artifact: Artifact, stream: Stream) -> Exception:
    """Why a sender ended before it had sent everything."""
    why = f"exit code {stream.exit_code}: {last_lines(stream.stderr)}"
    if stream.exit_code == _CHANGED:
        return corrupt(where, artifact, last_lines(stream.stderr))
    if stream.exit_code == NO_PYTHON:
        return no_python(where, why)
    if stream.exit_code == 1:
        return JobFailed(
            "the box cannot read the artifact", cause=Cause.ARTIFACT, where=where, why=why, remedy="run the same command again"
        )
    return BoxUnreachable(f"the artifact from {where} broke off", where=where, why=why, remedy="run the same command again")


class SideLanes:
    """More lanes beside the first one, over connections of their own, once it shows that they pay. They end with the block.

    `detour` is a lane by another road, which is tried where even so it takes long; it returns when it ends.
    """

    def __init__(
        self, transport: Transport, command: str, artifact: Artifact, work: Work, partial: Partial, detour: Callable[[], None] | None = None
    ) -> None:  # fmt: skip
        self._main, self._command, self._artifact, self._work, self._partial = transport, command, artifact, work, partial
        self._detour = detour
        self._transports: list[Transport] = []
        self._threads: list[threading.Thread] = []
        self._began_at, self._had, self._is_far = time.monotonic(), partial.done, False

    def __enter__(self) -> "SideLanes":
        if self._artifact.size - self._had > HELD_PIECES * PIECE_BYTES:
            self._start(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._work.end()
        for transport in self._transports:
            transport.close()
        for thread in self._threads:
            thread.join(_ENDING_SECONDS)

    def main_opened(self) -> None:
        """The first lane stands: how long that took tells how far the box is."""
        self._is_far = time.monotonic() - self._began_at > FAR_SECONDS

    def _start(self, work: Callable[..., None], *words: object) -> None:
        thread = threading.Thread(target=work, args=words, name="lane", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self) -> None:
        if self._is_long_after(SETTLED_SECONDS, LONG_SECONDS, or_far=True):
            for _ in range(SIDE_LANES):
                transport = self._main.another()
                self._transports.append(transport)
                self._start(self._side_lane, transport)
        if self._detour is not None and self._is_long_after(DETOUR_SETTLED_SECONDS, DETOUR_SECONDS):
            self._detour()

    def _is_long_after(self, settled: float, long: float, or_far: bool = False) -> bool:
        """Whether it takes longer than `long` seconds from now, at the rate of the first `settled` seconds of bytes from here on."""
        had, first = self._partial.done, 0.0
        while not self._work.wait(LOOK_SECONDS):
            arrived, now = self._partial.done - had, time.monotonic()
            first = first or (now if arrived else 0.0)
            if or_far and self._is_far:
                return True
            if first and now - first > settled:
                return (self._artifact.size - self._partial.done) * (now - first) > long * arrived
        return False

    def _side_lane(self, transport: Transport) -> None:
        try:
            with transport:
                run_lane(transport, self._command, self._artifact, self._work, self._partial)
        except BoxUnreachable:  # the others go on
            return
        except Exception as error:
            self._work.end(error)
