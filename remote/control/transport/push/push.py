"""A release on its way to a box: one command, in which both sides speak.

The shell of the box answers at once when the release is current and its environment whole. Else it
runs `remote/payload/transfer/receive.py`, which comes on standard input with the names and digests
of all files. That answers which contents the box lacks; those follow as one compressed tar.
Whatever breaks off, the next attempt sends only what has not arrived.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import queue
import shlex
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from remote.contract.files import typed
from remote.control.errors import WindlassError
from remote.control.progress import Bytes
from remote.control.project import CODE
from remote.control.transport import payload
from remote.control.transport.base import Transport
from remote.control.transport.payload import answer, call, on_box, understood, untold
from remote.control.transport.pull.bulk import LARGE_BYTES, BulkTransport

if TYPE_CHECKING:
    from remote.control.transport.push.release import Release

KEPT_RELEASES = 3
LACKS_ALL = "WINDLASS_LACKS_ALL"
"""Variable of the receiver: the shell has said already that everything lacks, so that it comes
while Python starts."""
SHOWN_BYTES = 2 << 20
"""A push of less needs no progress bar."""
BLOCK_BYTES, PROBE_BYTES = 256 << 10, 16 << 10
COMPRESSION = 4
"""Of source text level 4 leaves 5 % more than 6, in half the time; level 1 leaves 20 % more, and
takes as long."""
WORTH_IT = 0.95

Lacking = list[list[int]]
"""Contents of a release by number, and from which byte on."""

_BOOTSTRAP = (
    "import sys,signal,zlib;sys.version_info>=(3,10) or ("
    f'sys.stderr.write("this is Python "+sys.version.split()[0]),sys.exit({payload.NO_PYTHON}));'
    "signal.alarm(60);i=sys.stdin.buffer;"
    'exec(compile(zlib.decompress(i.read(int(i.read(8)))),"receive.py","exec"))'
)
_RECEIVER = f"exec python3 -I -S -c {shlex.quote(_BOOTSTRAP)}"


@dataclass(frozen=True)
class Place:
    """Where releases go on a box: its root, the target of `<root>/shared`, and the requirements of
    the environment."""

    root: str
    shared: str = ""
    requirements: str = "requirements.txt"

    def token(self, digest: str) -> str:
        """Names this release in this place, with this environment."""
        return hashlib.sha256(
            "\0".join((digest, self.shared, self.requirements)).encode()
        ).hexdigest()

    def request(self, verb: str, digest: str, **more: Any) -> dict[str, Any]:
        """What the receiver must know to make that release current here."""
        facts = {"root": self.root, "shared": self.shared, "requirements": self.requirements}
        return {"verb": verb, **facts, "token": self.token(digest), "keep": KEPT_RELEASES, **more}


@dataclass(frozen=True)
class Deployed:
    """What a deploy did. `environment` is the box's Python for the stages; `was_current`: nothing
    had to be sent or activated.

    `round_trips` counts how often one side waited for the other; `lacking` are the bytes of files
    that the box did not have.
    """

    digest: str
    sent_bytes: int
    was_current: bool
    environment: str
    round_trips: int = 1
    lacking: int = 0


def push_command(place: Place, digest: str) -> str:
    """Is all ready? The box's shell answers what the receiver has noted, or that it has nothing
    yet, and runs the receiver."""
    return (
        f"if cd -- {on_box(place.root)} 2>/dev/null && "
        f'[ "$(readlink current)" = {shlex.quote(f"releases/{digest}")} ] && [ -f .ready ] && '
        "{ IFS= read -r t; IFS= read -r m; IFS= read -r p; IFS= read -r a; } <.ready && "
        f'[ "$t" = {place.token(digest)} ] && [ -x "$p" ] && [ -e'
        ' "${p%/venv/bin/python}/complete.json" ] && '
        "{ b=; [ -r /proc/sys/kernel/random/boot_id ] && IFS= read -r b"
        " </proc/sys/kernel/random/boot_id; g=cpu; "
        '[ -e /proc/driver/nvidia/version ] && g=cuda; [ "$m" = "$b $g" ]; }; '
        "then printf '%s\\n' \"$a\"; exit; fi; "
        f'[ -e blobs ] || {{ echo \'{{"lacking": "all"}}\'; export {LACKS_ALL}=1; }}; {_RECEIVER}'
    )


def push(
    transport: Transport,
    place: Place,
    release: "Release",
    on_line: Callable[[str], None],
    progress: Bytes,
    on_lacking: Callable[[int], None],
) -> Deployed:
    """Have `release` on the box, current, with its environment. Idempotent. Raises BoxUnreachable:
    try again, it goes on.

    `on_lacking` gets the bytes of files that are still to come, once the box has named them.
    `sent_bytes` stays 0 here.
    """
    is_slow = isinstance(transport, BulkTransport)
    stream = PushStream(
        place, release, transport.where, progress, on_lacking, LARGE_BYTES if is_slow else None
    )
    command = push_command(place, release.digest)

    def tell(line: str) -> None:
        stream.bar.close()
        on_line(line)

    try:
        running = transport.open(command, cast(BinaryIO, stream), silence=payload.SILENCE_SECONDS)
        with contextlib.closing(stream.bar), running, stream:
            done = answer(transport, running, tell, stream.take)
    except (WindlassError, OSError, ValueError):
        if stream.error is not None:
            raise stream.error from None
        raise
    except _TooMuch as found:
        stream.round_trips += 1
        done = _push_as_file(transport, place, release, found.lacking, on_line)
    with understood(transport.where):
        was_current, environment = bool(done.get("was_current")), str(done["environment"])
    return Deployed(release.digest, 0, was_current, environment, stream.round_trips, stream.lacking)


class _TooMuch(Exception):
    """More than this connection should carry."""

    def __init__(self, lacking: Lacking) -> None:
        super().__init__()
        self.lacking = lacking


class PushStream(io.RawIOBase):
    """The standard input of a push: the request, and once the box has answered, what it lacks, if
    not `most` bytes or more.

    `error` is what went wrong on this side, such as a file that changed meanwhile.
    """

    def __init__(
        self,
        place: Place,
        release: "Release",
        where: str,
        progress: Bytes,
        on_lacking: Callable[[int], None] = lambda size: None,
        most: int | None = None,
    ) -> None:
        self._place, self._release, self._where = place, release, where
        self._on_lacking, self._most = on_lacking, most
        self._answer: queue.SimpleQueue[Lacking] = queue.SimpleQueue()
        self._has_answered = False
        self._on_bytes: Callable[[int], None] = lambda count: None
        self._blocks, self._rest = self._produced(), b""
        self.bar = Bar(progress)
        self.error: Exception | None = None
        self.round_trips, self.lacking = 1, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, for which the box is waited for where it is to answer first; none at the
        end."""
        if not self._rest:
            try:
                self._rest = next(self._blocks, b"")
            except (
                Exception
            ) as error:  # of this side: the transport ends the command, and `push` raises it
                self.error = error
                raise OSError(str(error)) from None
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        """Send nothing more, and wait for no answer."""
        self._answer.put([])
        super().close()

    def take(self, frame: dict[str, Any]) -> None:
        """Take in a frame of the box. Raises PreflightFailed for what no receiver says."""
        if "lacking" in frame:
            if self._has_answered:
                raise untold(self._where, "it says `lacking` twice")
            self._has_answered = True
            self._answer.put(self._expected(frame["lacking"]))
        if isinstance(told := frame.get("progress"), dict):
            title, done, total = (told.get(name) for name in ("title", "done", "total"))
            if isinstance(title, str) and isinstance(done, int) and isinstance(total, int):
                self.bar.show(title, total)(done)

    def _expected(self, told: Any) -> Lacking:
        """What the box lacks: contents of this release, each once, from a byte of theirs on."""
        sizes = [content.size for content in self._release.contents]
        with understood(self._where):
            everything = [[number, 0] for number in range(len(sizes))]
            lacking: Lacking = (
                everything if told == "all" else typed.value(Lacking, told, "lacking")
            )
            if len({number for number, _ in lacking}) < len(lacking):
                raise ValueError("it lacks a content twice")
            if not all(number >= 0 and 0 <= at <= sizes[number] for number, at in lacking):
                raise ValueError("it lacks what is not in the release")
        self.lacking = sum(sizes[number] - at for number, at in lacking)
        self._on_lacking(self.lacking)
        if self._most is not None and self.lacking >= self._most:
            raise _TooMuch(lacking)
        if self.lacking >= SHOWN_BYTES:
            self._on_bytes = self.bar.show(f"release {self._release.digest[:12]}", self.lacking)
        return lacking

    def _produced(self) -> Iterator[bytes]:
        yield packed(
            self._place.request("receive", self._release.digest, entries=self._release.entries)
        )
        if lacking := self._answer.get():
            self.round_trips += 1
            yield from compressed(self._counted(self._release.tar(lacking)))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        done = 0
        for piece in pieces:
            done += len(piece)
            self._on_bytes(min(done, self.lacking))
            yield piece


class Bar:
    """The progress bar of what goes on at the moment, where anything does."""

    def __init__(self, progress: Bytes) -> None:
        self._progress, self._shown, self._title = progress, ExitStack(), ""
        self._update: Callable[[int], None] = lambda done: None

    def show(self, title: str, total: int) -> Callable[[int], None]:
        """Have a bar of that title, in place of another; returns what moves it."""
        if title != self._title:
            self.close()
            self._title, self._update = (
                title,
                self._shown.enter_context(self._progress(title, total)),
            )
        return self._update

    def close(self) -> None:
        """Take the bar away."""
        self._shown.close()
        self._title = ""


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces compressed by gzip, in members of BLOCK_BYTES, several of which are made at
    once."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, "gzip") as pool:
        pending: deque[Future[bytes]] = deque()
        for block in _blocks(pieces):
            pending.append(pool.submit(_gzipped, block))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) >= BLOCK_BYTES:
            yield bytes(rest[:BLOCK_BYTES])
            del rest[:BLOCK_BYTES]
    yield bytes(rest)


def _gzipped(block: bytes) -> bytes:
    # Weights and archives do not shrink: a look at the beginning saves the time to find that out.
    probe = block[:PROBE_BYTES]
    shrinks = len(zlib.compress(probe, 1)) < len(probe) * WORTH_IT
    return gzip.compress(block, COMPRESSION if shrinks else 0, mtime=0)


def packed(request: dict[str, Any]) -> bytes:
    """The receiver and a request to it, as its bootstrap reads them."""
    source = (CODE / "remote/payload/transfer/receive.py").read_bytes()
    parts = [zlib.compress(source), zlib.compress(json.dumps(request).encode())]
    return b"".join(b"%08d%b" % (len(part), part) for part in parts)


def ask_receiver(
    transport: Transport,
    request: dict[str, Any],
    on_line: Callable[[str], None] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The receiver's answer to a request that takes no contents."""
    return call(transport, _RECEIVER, packed(request), on_line, seconds)


def _push_as_file(
    transport: Transport,
    place: Place,
    release: "Release",
    lacking: Lacking,
    on_line: Callable[[str], None],
) -> dict[str, Any]:
    """Send what a box lacks as one file: a BulkTransport carries it beside its slow connection."""
    with tempfile.TemporaryFile() as file:
        file.write(packed(place.request("receive", release.digest, entries=release.entries)))
        file.writelines(compressed(release.tar([[number, 0] for number, _ in lacking])))
        file.seek(0)
        return call(transport, _RECEIVER, file, on_line)
