"""What every way to a box offers: run a shell command there, with bytes in and bytes out, over one
connection."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from remote.contract.job.jobs import Cause
from remote.control.errors import JobFailed
from remote.control.output.sanitize import last_lines, sized

Stdin = bytes | BinaryIO
"""What a command reads: bytes, or an open binary file that is streamed and never held in memory
whole."""

MOST_ANSWER_BYTES = 64 << 20
"""What a command run to its end may print, and the longest line of one that is read line by line:
it is held in memory."""

TAIL_BYTES = 256 * 1024
"""How much of a stream's standard error is kept: its end, which says why."""


@dataclass(frozen=True)
class Result:
    """How a command ended. `exit_code` is -1 when a signal killed it; `seconds` are wall time on
    the laptop."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last lines of standard error, on one line: for an error's `why`."""
        return last_lines(self.stderr)


class Stream(Protocol):
    """A running command: iterate for chunks of its standard output as they come. Leaving the block
    closes it."""

    @property
    def exit_code(self) -> int:
        """The exit code, after the output is exhausted; -1 when a signal killed the command."""
        ...

    @property
    def stderr(self) -> bytes:
        """The end of standard error, after the output is exhausted."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...
    def __enter__(self) -> "Stream": ...
    def __exit__(self, *exception: object) -> None: ...


class Transport(Protocol):
    """A way to one box. Raises BoxUnreachable, LoginRefused or HostKeyMismatch, never on a
    command's own exit code.

    A command is sent once. Where the connection proves dead before it was sent, another is made and
    takes it; after that nobody here can know whether it ran. So BoxUnreachable may stand for a
    command that did its work, or still does: only a caller whose command may run twice, or goes on
    where it was, calls again (`remote.control.retry`).

    `where` names the box for people. `round_trips` counts commands, `bytes_sent` command lines and
    standard input.
    """

    where: str

    @property
    def round_trips(self) -> int:
        """How many commands so far."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Bytes of command lines and standard input so far."""
        ...

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end. `timeout` in seconds for the whole; BoxUnreachable when it
        passes."""
        ...

    def open(
        self,
        command: str,
        stdin: Stdin = b"",
        timeout: float | None = None,
        silence: float | None = None,
    ) -> Stream:
        """Start a command. `silence`: BoxUnreachable when not a byte arrives for so many
        seconds."""
        ...

    def another(self) -> "Transport":
        """A second connection to the same box, not opened yet: for bulk that pays for a connection
        of its own."""
        ...

    def close(self) -> None:
        """End the connection. The next command opens a new one."""
        ...

    def __enter__(self) -> "Transport": ...
    def __exit__(self, *exception: object) -> None: ...


def run_to_end(stream: Stream, where: str) -> Result:
    """Collect a stream into a Result. Raises JobFailed where the box `where` prints more than
    MOST_ANSWER_BYTES."""
    started, stdout = time.monotonic(), bytearray()
    with stream:
        for chunk in stream:
            stdout += chunk
            if len(stdout) > MOST_ANSWER_BYTES:
                raise endless(where, f"more than {sized(MOST_ANSWER_BYTES)}", bytes(stdout[:80]))
    return Result(stream.exit_code, bytes(stdout), stream.stderr, time.monotonic() - started)


def endless(where: str, bound: str, first: bytes) -> JobFailed:
    """The error for an answer of the box `where` that passes a bound; `first` are its first
    bytes."""
    return JobFailed(
        "the box's answer does not end",
        cause=Cause.CODE,
        where=where,
        why=f"{bound}, which begins with {first!r}",
        remedy=(
            f"{deploying(where)} puts Windlass's own code there again; then run the same command"
            " again"
        ),
    )


def deploying(where: str) -> str:
    """The command that deploys to the box `where`, in `box NAME (...)`: without the name it would
    mean the default box."""
    found = re.match(r"box ([\w.-]+)", where)
    return f"`./inv deploy {found[1]}`" if found else "`./inv deploy`"


class Tail:
    """A thread that drains a stream so that it can never block its writer, and keeps the end of it.
    Nothing is read before `begin`."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read, self._kept = read, bytearray()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """There is something to drain. Calls after the first do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._drain, name="stderr", daemon=True)
            self._thread.start()

    def _drain(self) -> None:
        try:
            while chunk := self._read():
                self._kept += chunk
                del self._kept[:-TAIL_BYTES]
        except (OSError, ValueError):  # closed under us: what came is kept
            return

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the stream."""
        if self._thread is not None:
            self._thread.join(timeout)

    @property
    def content(self) -> bytes:
        """What is kept."""
        return bytes(self._kept)


class Feeder:
    """A thread that writes `before` and standard input piece by piece while the caller reads the
    output: neither side waits for the other.

    A command may stop reading early; that is its right, and no error. A source that cannot be read
    is one: see `error`.
    """

    def __init__(
        self,
        source: Stdin,
        piece: int,
        before: bytes = b"",
        *,
        write: Callable[[bytes], None],
        finish: Callable[[], None],
        abort: Callable[[], None],
    ) -> None:
        self._source, self._piece, self._before = source, piece, before
        self._write, self._finish, self._abort = write, finish, abort
        self.sent = 0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._feed, name="stdin", daemon=True)
        self._thread.start()

    def _pieces(self) -> Iterator[bytes]:
        if self._before:
            yield self._before
        if isinstance(self._source, bytes):
            yield from (
                self._source[at : at + self._piece]
                for at in range(0, len(self._source), self._piece)
            )
            return
        while piece := self._source.read(self._piece):
            yield piece

    def _feed(self) -> None:
        pieces = self._pieces()
        while True:
            try:
                piece = next(pieces, None)
            except (OSError, ValueError) as error:
                self.error = error
                self._abort()
                return
            try:
                if piece is None:
                    self._finish()
                    return
                self._write(piece)
                self.sent += len(piece)
            except (OSError, EOFError, ValueError):
                return

    def join(self, timeout: float | None = None) -> None:
        """Wait until everything is written."""
        self._thread.join(timeout)
