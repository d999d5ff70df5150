"""A release on its way to a box: one command, in which both sides talk.

The shell of the box answers at once when the release is current and its environment whole. Else it says `send`, and gets the keeper of
releases (`remote/payload/transfer/receive.py`) with the names and digests of all files: to a box without any release all contents go
along, another one answers which it lacks. Whatever breaks off, the next attempt sends only what has not arrived.
"""

import contextlib
import hashlib
import io
import json
import queue
import shlex
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from remote.contract import typed
from remote.control.errors import WindlassError
from remote.control.project import CODE
from remote.control.transport import stream
from remote.control.transport.base import Transport
from remote.control.transport.bulk import LARGE_BYTES, BulkTransport
from remote.control.transport.payload import NO_PYTHON, SILENCE_SECONDS, answer, call, on_box, understood, untold

if TYPE_CHECKING:
    from remote.control.transport.release import Release

KEPT_RELEASES = 3
_SHOWN_BYTES = 2 << 20
"""A push of less needs no bar."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows how so many bytes move: `console.bytes_progress`."""

# The keeper comes on standard input: on a fresh box there is nothing yet that could receive.
_BOOTSTRAP = (
    "import sys,signal,zlib;"
    f'sys.version_info>=(3,10) or (sys.stderr.write("this is Python "+sys.version.split()[0]),sys.exit({NO_PYTHON}));'
    'signal.alarm(60);i=sys.stdin.buffer;exec(compile(zlib.decompress(i.read(int(i.readline()))),"receive.py","exec"))'
)
_KEEPER = f"exec python3 -I -S -c {shlex.quote(_BOOTSTRAP)}"


@dataclass(frozen=True)
class Place:
    """Where on a box releases go: its root, what `<root>/shared` points to, and the requirements of the environment."""

    root: str
    shared: str = ""
    requirements: str = "requirements.txt"

    def token(self, digest: str) -> str:
        """Names this release in this place, with this environment."""
        return hashlib.sha256("\0".join((digest, self.shared, self.requirements)).encode()).hexdigest()

    def question(self, verb: str, digest: str) -> dict[str, Any]:
        """What the keeper of releases must know to make that release current here."""
        facts = {"root": self.root, "shared": self.shared, "requirements": self.requirements}
        return {"verb": verb, **facts, "token": self.token(digest), "keep": KEPT_RELEASES}


def push_command(place: Place, digest: str) -> str:
    """One question to the box's shell: is all ready? If not, what shall come? Then the keeper of releases takes over."""
    return (
        f"s=all; if cd -- {on_box(place.root)} 2>/dev/null; then "
        f'if [ "$(readlink current)" = {shlex.quote(f"releases/{digest}")} ] && [ -f .ready ] && '
        "{ IFS= read -r t; IFS= read -r m; IFS= read -r p; IFS= read -r a; } <.ready && "
        f'[ "$t" = {place.token(digest)} ] && [ -x "$p" ] && [ -e "${{p%/venv/bin/python}}/complete.json" ] && '
        "{ b=; [ -r /proc/sys/kernel/random/boot_id ] && IFS= read -r b </proc/sys/kernel/random/boot_id; g=cpu; "
        '[ -e /proc/driver/nvidia/version ] && g=cuda; [ "$m" = "$b $g" ]; }; '
        "then printf '%s\\n' \"$a\"; exit; fi; "
        '[ -z "$(ls -A releases 2>/dev/null)" ] || s=asked; fi; '
        'printf \'{"send": "%s"}\\n\' $s; '
        f"{_KEEPER}"
    )


def push(
    transport: Transport, place: Place, release: "Release", on_line: Callable[[str], None], progress: Progress,
    on_lacking: Callable[[int], None],
) -> "Pushed":  # fmt: skip
    """Have `release` on the box, current, with its environment. Idempotent. Raises BoxUnreachable: try again, it goes on.

    `on_lacking` is told how many bytes of files are still to come, once the box has said so.
    """
    talk = Talk(place, release, progress, on_lacking, may_carry=not isinstance(transport, BulkTransport))
    command = push_command(place, release.digest)
    try:
        with ExitStack() as shown, transport.open(command, cast(BinaryIO, talk), silence=SILENCE_SECONDS) as running, talk:
            done = answer(transport, running, talk.unless_shown(on_line, shown), lambda frame: talk.hear(frame, shown, transport.where))
    except (WindlassError, OSError, ValueError):
        if talk.error is not None:
            raise talk.error from None
        raise
    except _Bulky as bulky:
        return _by_package(transport, place, release, bulky.lacking, on_line)
    with understood(transport.where):
        return Pushed(bool(done.get("was_current")), str(done["environment"]), talk.waits, talk.lacking)


@dataclass(frozen=True)
class Pushed:
    """How a push went: `waits` is how often one side waited for the other, `lacking` the bytes of files that the box did not have."""

    was_current: bool
    environment: str
    waits: int
    lacking: int


class _Bulky(Exception):
    """More than this road should carry: the contents by number."""

    def __init__(self, lacking: list[list[int]]) -> None:
        super().__init__()
        self.lacking = lacking


class Talk(io.RawIOBase):
    """What a push says: a file that the transport reads, and that waits where the box is to speak first.

    `error` is what went wrong on this side, such as a file that changed meanwhile.
    """

    def __init__(self, place: Place, release: "Release", progress: Progress, on_lacking: Callable[[int], None], may_carry: bool) -> None:
        self._place, self._release, self._may_carry = place, release, may_carry
        self._progress, self._on_lacking = progress, on_lacking
        self._heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._on_bytes: Callable[[int], None] = lambda count: None
        self._bar: tuple[str, Callable[[int], None]] | None = None
        self._pieces, self._rest = self._say(), b""
        self.error: Exception | None = None
        self.waits, self.lacking = 1, 0
        self._said: set[str] = set()

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none once all is said, or the box has heard enough."""
        if not self._rest:
            try:
                self._rest = next(self._pieces, b"")
            except Exception as error:  # of this side: the transport shall end the command, and `push` raise it
                self.error = error
                raise OSError(str(error)) from None
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def hear(self, frame: dict[str, Any], shown: ExitStack, where: str) -> None:
        """Take in what the box `where` says. Raises PreflightFailed for what it cannot want."""
        if "send" in frame:
            self._once("send", where)
            if frame["send"] not in ("all", "asked"):
                raise untold(where, f"it wants {str(frame['send'])[:80]!r}")
            if frame["send"] == "all":
                self._expect(_all_of(self._release), shown)
            self._heard.put(frame["send"])
        elif "lacking" in frame:
            self._once("lacking", where)
            self._expect(self._wanted(frame["lacking"], where), shown)
            self._heard.put(frame["lacking"])
        elif isinstance(told := frame.get("progress"), dict):
            self._show(told, shown)

    def _once(self, what: str, where: str) -> None:
        self.waits += 1
        if what in self._said:
            raise untold(where, f"it says `{what}` twice")
        self._said.add(what)

    def _wanted(self, lacking: Any, where: str) -> list[list[int]]:
        """What the box lacks: contents of this release, each once, from a byte of theirs on."""
        sizes = [content.size for content in self._release.contents]
        with understood(where):
            wanted: list[list[int]] = typed.value(list[list[int]], lacking, "lacking")
            if len({number for number, _ in wanted}) < len(wanted):
                raise ValueError("it lacks a content twice")
            if not all(number >= 0 and 0 <= at <= sizes[number] for number, at in wanted):
                raise ValueError("it lacks what is not in the release")
        return wanted

    def unless_shown(self, on_line: Callable[[str], None], shown: ExitStack) -> Callable[[str], None]:
        """`on_line`, which takes the bar away first: what the box tells comes after the bytes."""

        def tell(line: str) -> None:
            shown.close()
            self._bar = None
            on_line(line)

        return tell

    def close(self) -> None:
        """Say nothing more, so that nobody waits for it."""
        self._heard.put(None)
        super().close()

    def _expect(self, lacking: list[list[int]], shown: ExitStack) -> None:
        contents = self._release.contents
        self.lacking = sum(contents[number].size - at for number, at in lacking)
        self._on_lacking(self.lacking)
        if not self._may_carry and self.lacking >= LARGE_BYTES:
            raise _Bulky(lacking)
        if self.lacking >= _SHOWN_BYTES:
            self._on_bytes = shown.enter_context(self._progress(f"release {self._release.digest[:12]}", self.lacking))

    def _show(self, told: dict[str, Any], shown: ExitStack) -> None:
        """How far the box is with what it does itself."""
        title, done, total = (told.get(name) for name in ("title", "done", "total"))
        if not (isinstance(title, str) and isinstance(done, int) and isinstance(total, int)):
            return
        if self._bar is None or self._bar[0] != title:
            shown.close()
            self._bar = title, shown.enter_context(self._progress(title, total))
        self._bar[1](done)

    def _say(self) -> Iterator[bytes]:
        sends = self._heard.get()
        if sends is None:
            return
        yield ask(self._place.question("receive", self._release.digest) | {"entries": self._release.entries, "sends": sends})
        lacking = _all_of(self._release) if sends == "all" else self._heard.get()
        if lacking:
            yield from stream.blocks(self._counted(self._release.read(lacking)))
        elif lacking is not None:
            yield stream.END

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        done = 0
        for piece in pieces:
            done += len(piece)
            self._on_bytes(done)
            yield piece


def _all_of(release: "Release") -> list[list[int]]:
    """Every content of a release, from its first byte."""
    return [[number, 0] for number in range(len(release.contents))]


def ask(question: dict[str, Any]) -> bytes:
    """The keeper of releases and a question to it, as it reads them."""
    keeper = zlib.compress((CODE / "remote/payload/transfer/receive.py").read_bytes())
    packed = zlib.compress(json.dumps(question).encode())
    return b"%d\n" % len(keeper) + keeper + b"%d\n" % len(packed) + packed


def ask_keeper(
    transport: Transport, question: dict[str, Any], on_line: Callable[[str], None] | None = None, seconds: float | None = None
) -> dict[str, Any]:  # fmt: skip
    """The answer of the keeper of releases to a question that needs no talk."""
    return call(transport, _KEEPER, ask(question), on_line, seconds)


def _by_package(transport: Transport, place: Place, release: "Release", lacking: list[list[int]], on_line: Callable[[str], None]) -> Pushed:
    """What a box lacks as one file, for a road that carries bulk beside the connection."""
    whole = [[number, 0] for number, _ in lacking]
    with tempfile.TemporaryFile() as package:
        package.write(ask(place.question("receive", release.digest) | {"entries": release.entries, "sends": whole}))
        package.writelines(stream.blocks(release.read(whole)))
        package.seek(0)
        done = call(transport, _KEEPER, package, on_line)
    with understood(transport.where):
        environment = str(done["environment"])
    return Pushed(False, environment, 3, sum(release.contents[number].size for number, _ in whole))


@contextlib.contextmanager
def no_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    yield lambda done: None
