"""An artifact over SSH: blocks of what is missing, over several connections where the box is far.

One connection carries no more at once than its window: 4 MiB, 80 MB/s at 50 ms. Measured over
50 ms, 170 MB: one connection 46 MB/s, two 80, four 119, eight 127 (scp: 28). Without a distance one
is as fast as several.
"""

import contextlib
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from remote.contract.files import untrusted_json
from remote.contract.job.jobs import Artifact, Cause
from remote.control.errors import ArtifactCorrupt, BoxUnreachable, JobFailed
from remote.control.output.sanitize import last_lines, sized
from remote.control.transport.base import Stream, Transport
from remote.control.transport.payload import NO_PYTHON, complaint, no_python
from remote.control.transport.pull.extents import Range
from remote.control.transport.pull.partial import LONGEST_LIST_BYTES, Partial

CONNECTIONS = 4
BLOCK_BYTES = 4 << 20
AHEAD = 3
"""Blocks that a connection has asked for at once, so that the box never waits for a request."""

FAR_SECONDS = 0.05
"""A box that took longer to start the sender, which is two round trips at the least, is far."""

SILENCE_SECONDS = 60.0
LIST_SECONDS = 600.0
_CHANGED = 65


def blocks_of(missing: list[Range], size: int) -> deque[Range]:
    """The ranges, cut into blocks of at most `size` bytes."""
    starts = ((at, end) for start, end in missing for at in range(start, end, size))
    return deque((at, min(at + size, end)) for at, end in starts)


class Requests:
    """What the sender on the box is asked for: its standard input, which grows line by line."""

    def __init__(self, artifact: Artifact) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.stdin = cast(BinaryIO, self)
        self.send(path=artifact.path)

    def send(self, **request: object) -> None:
        """Ask for something."""
        self._lines.put(json.dumps(request).encode() + b"\n")

    def end(self) -> None:
        """Nothing more is wanted: the sender ends at once."""
        self._lines.put(b"")

    def read(self, size: int = -1, /) -> bytes:
        """The next line, once there is one; nothing at the end."""
        return self._lines.get()


class Download:
    """One attempt to bring what is missing; `command` starts the sender on the box."""

    def __init__(self, transport: Transport, command: str, partial: Partial) -> None:
        self._transport, self._command, self._partial = transport, command, partial
        self._blocks = blocks_of(partial.missing(), BLOCK_BYTES)
        self._others: list[tuple[threading.Thread, Transport]] = []
        self._lock, self._is_over = threading.Lock(), False
        self._began = time.monotonic()
        self._loss: BoxUnreachable | None = None
        self._failure: Exception | None = None

    def run(self) -> None:
        """Raises BoxUnreachable where a connection was lost and something is still missing."""
        try:
            self._download(self._transport)
            for thread, _ in self._others:
                thread.join()
        finally:
            with self._lock:  # one that stands only now finds that it is over
                self._is_over = True
            for thread, transport in self._others:
                transport.close()
                thread.join()
        if self._failure is not None:
            raise self._failure
        if self._loss is not None and not self._partial.is_complete:
            raise self._loss

    def _download(self, transport: Transport) -> None:
        requests, asked = Requests(self._partial.artifact), deque[Range]()
        try:
            with transport.open(self._command, requests.stdin, silence=SILENCE_SECONDS) as stream:
                try:
                    self._receive(transport, stream, requests, asked)
                finally:
                    requests.end()
        except BoxUnreachable as error:
            # A further connection that is refused is no reason to give up: there is the first one.
            is_first = transport is self._transport
            self._loss = error if is_first else self._loss or broken_off(transport.where, error.why)
        except Exception as error:
            self._failure, self._is_over = self._failure or error, True
        finally:
            self._blocks.extendleft(reversed(asked))
            if transport is not self._transport:
                transport.close()

    def _receive(
        self, transport: Transport, stream: Stream, requests: Requests, asked: deque[Range]
    ) -> None:
        with self._lock:
            if self._is_over:
                return
            if transport is not self._transport:
                self._others.append((threading.current_thread(), transport))
        for _ in range(AHEAD):
            self._ask(requests, asked)
        if transport is self._transport and time.monotonic() - self._began > FAR_SECONDS:
            self._connect_more()
        chunks = iter(stream)
        chunk = read_files(chunks, transport.where, stream, self._partial)
        while True:
            if not self._keep(memoryview(chunk), requests, asked):
                why = "the box sends more than it was asked for"
                raise corrupt(transport.where, self._partial.artifact, why)
            if not asked or self._is_over:
                return
            chunk = next_chunk(chunks, transport.where, stream, self._partial)

    def _ask(self, requests: Requests, asked: deque[Range]) -> None:
        with contextlib.suppress(IndexError):
            start, end = self._blocks.popleft()
            asked.append((start, end))
            requests.send(start=start, end=end)

    def _keep(self, content: memoryview, requests: Requests, asked: deque[Range]) -> bool:
        """Write what came of the blocks that were asked for, in order; False where it is more."""
        while content and asked:
            start, end = asked[0]
            part = content[: end - start]
            self._partial.write(start, part)
            content = content[len(part) :]
            asked[0] = start + len(part), end
            if asked[0][0] == end:
                asked.popleft()
                self._ask(requests, asked)
        return not content

    def _connect_more(self) -> None:
        for _ in range(min(CONNECTIONS - 1, len(self._blocks))):
            work, other = self._download, [self._transport.another()]
            threading.Thread(target=work, args=other, name="download", daemon=True).start()


def read_files(chunks: Iterator[bytes], where: str, stream: Stream, partial: Partial) -> bytes:
    """Take the sender's first line, the list of the artifact's files; returns what came after it.

    Raises ArtifactCorrupt where the box has something else than what is wanted, or nothing.
    """
    line, is_whole, until = bytearray(), b"", time.monotonic() + LIST_SECONDS
    while not is_whole:
        end, is_whole, rest = next_chunk(chunks, where, stream, partial).partition(b"\n")
        line += end
        if len(line) > LONGEST_LIST_BYTES or time.monotonic() > until:
            bound = f"{sized(LONGEST_LIST_BYTES)} and {LIST_SECONDS:g} s"
            why = f"the box's list of its files does not end within {bound}"
            raise corrupt(where, partial.artifact, why)
    answer = _understood(where, bytes(line))
    if "error" in answer:
        words = complaint(where, answer["error"])
        raise ArtifactCorrupt(words.what, where=where, why=words.why, remedy=words.remedy)
    try:
        partial.set_files(answer["files"])
    except ValueError as error:
        raise corrupt(where, partial.artifact, str(error)) from None
    return rest


def _understood(where: str, line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        most = LONGEST_LIST_BYTES
        answer = untrusted_json.loads_object(line, max_bytes=most, lone_surrogates=True)
        if "files" in answer or "error" in answer:
            return answer
    remedy = "its shell must say nothing of its own when it runs a command (~/.bashrc)"
    raise JobFailed(
        "the box's answer is not understood",
        cause=Cause.CODE,
        where=where,
        why=f"it begins with {line[:80]!r}",
        remedy=f"{remedy}; then run the same command again",
    )


def next_chunk(chunks: Iterator[bytes], where: str, stream: Stream, partial: Partial) -> bytes:
    """What the sender sends next. Raises why it ended where it did."""
    if chunk := next(chunks, b""):
        return chunk
    why = f"exit code {stream.exit_code}: {last_lines(stream.stderr)}"
    if stream.exit_code == _CHANGED:
        raise corrupt(where, partial.artifact, last_lines(stream.stderr))
    if stream.exit_code == NO_PYTHON:
        raise no_python(where, why)
    if stream.exit_code == 1:
        what, remedy = "the box cannot read the artifact", "run the same command again"
        raise JobFailed(what, cause=Cause.ARTIFACT, where=where, why=why, remedy=remedy)
    raise broken_off(where, why)


def broken_off(where: str, why: str) -> BoxUnreachable:
    """The connection is lost; what has arrived is kept."""
    what = f"the artifact from {where} broke off"
    return BoxUnreachable(what, where=where, why=why, remedy="run the same command again")


def corrupt(where: str, artifact: Artifact, why: str) -> ArtifactCorrupt:
    """The artifact is not what the job said it is."""
    anew = "should it stay so, it is damaged on the box: `./inv run PLAYBOOK` makes it anew"
    return ArtifactCorrupt(
        f"{artifact.path} does not verify",
        where=where,
        why=why,
        kept="nothing bears its name",
        remedy=f"run the same command again; {anew}",
    )
