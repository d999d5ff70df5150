"""Whether the other side of a connection still lives: found out by asking, told by closing the
link.

Bytes that arrive are life. When none came for a third of `dead_after`, the peer is asked
(`keepalive@openssh.com`, which every SSH server answers, if only by refusing); without any byte for
`dead_after` the link is closed. paramiko's own keepalives ask for no answer, and notice nothing
that TCP does not.

A peer that only is slow is not dead: while what was sent is still on its way and moves, the
question has not arrived yet.
"""

import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from typing import Protocol

_LONGEST_TICK_SECONDS = 0.5


class Link(Protocol):
    """What carries the bytes of a connection: a socket, or what behaves like one."""

    def recv(self, size: int, /) -> bytes:
        """The next bytes; none at the end."""
        ...

    def send(self, content: bytes, /) -> int:
        """Hand bytes on; returns how many were taken."""
        ...

    def settimeout(self, seconds: float | None, /) -> None:
        """How long the two above may take."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Keepalive:
    """A link that watches what passes, and ends itself once the other side is dead: `verdict` then
    says why.

    It begins with the greeting and the keys, where the peer always has to answer; `allow` and
    `settled` say what may be expected from then on. A link that is a channel of another connection
    has that one's keepalive as its `carrier`.
    """

    def __init__(self, link: Link, dead_after: float) -> None:
        self._link, self.dead_after = link, dead_after
        self._carrier: Keepalive | None = getattr(link, "carrier", None)
        self.verdict = ""
        self._sent = self._last_at = 0
        self._heard = False
        self._limit = dead_after
        self._ask: Callable[[], object] | None = None
        self._question: _Question | None = None
        self._closed, self._ended = (
            False,
            threading.Event(),
        )  # paramiko looks at `_closed`, as of sockets
        threading.Thread(target=self._watch, name="keepalive", daemon=True).start()

    def allow(self, seconds: float) -> None:
        """So long the peer may be silent from now on, once what was sent has left this laptop."""
        self._limit, self._heard = seconds, True

    def settled(self, ask: Callable[[], object]) -> None:
        """A first request was answered: from now on `ask` puts a question and waits for the
        answer."""
        self._limit, self._ask = self.dead_after, ask

    def recv(self, size: int, /) -> bytes:
        """The next bytes."""
        content = self._link.recv(size)
        self._heard = True
        if self._ask is None:
            self._acknowledge()
        return content

    def send(self, content: bytes, /) -> int:
        """Hand bytes on; returns how many were taken."""
        taken = self._link.send(content)
        self._sent += taken
        self._last_at = self.position
        question = self._question
        if question is not None and question.thread is threading.current_thread():
            question.at = self._last_at
        return taken

    def settimeout(self, seconds: float | None, /) -> None:
        """As of sockets."""
        self._link.settimeout(seconds)

    def close(self) -> None:
        """End the link."""
        self._closed = True
        self._ended.set()
        if isinstance(self._link, socket.socket):
            with contextlib.suppress(OSError):  # wakes at once who waits for bytes
                self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()

    @property
    def complaint(self) -> str:
        """What the link itself has to say about its end."""
        return str(getattr(self._link, "complaint", ""))

    @property
    def position(self) -> int:
        """How many bytes were handed to what carries this link."""
        return self._carrier.position if self._carrier else self._sent

    @property
    def delivered(self) -> int:
        """How many of those have left this laptop for good, as far as it can know: with TCP, what
        is acknowledged."""
        return self._carrier.delivered if self._carrier else self._sent - _pending(self._link)

    def _acknowledge(self) -> None:
        # During a login small packets wait for each other's acknowledgement (Nagle), which a kernel
        # holds back for 40 ms.
        if isinstance(self._link, socket.socket) and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _watch(self) -> None:
        tick = min(_LONGEST_TICK_SECONDS, self.dead_after / 20)
        idle, delivered, last = 0.0, 0, time.monotonic()
        while not self._ended.wait(tick):
            now, before, delivered = time.monotonic(), delivered, self.delivered
            # A laptop that slept, or a process that was stopped, must first hear what arrived
            # meanwhile.
            idle += min(now - last, 2 * tick)
            last = now
            if self._lives(before, delivered):
                idle = 0.0
            elif self._question is None and self._ask is not None and idle >= self.dead_after / 3:
                self._question = _Question(self._ask)
                self._question.thread.start()
            elif (self._question or self._ask is None) and idle >= self._patience(delivered) - tick:
                self.verdict = f"nothing came back for {self._patience(delivered):g} s"
                self.close()

    def _lives(self, before: int, delivered: int) -> bool:
        if self._heard:
            self._heard, self._question = False, None
            return True
        outstanding = (
            self._last_at if self._ask is None else self._question.at if self._question else 0
        )
        return before < delivered < outstanding

    def _patience(self, delivered: int) -> float:
        return self._limit if delivered >= self._last_at else self.dead_after


class _Question:
    """One that was put to the peer. `at` is its end in the stream of bytes, far away until it is
    written."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self.at = 1 << 62
        self._ask = ask
        # In a thread of its own: it waits for the answer, and where the link takes no more bytes,
        # asking blocks.
        self.thread = threading.Thread(target=self._put, name="ask", daemon=True)

    def _put(self) -> None:
        with contextlib.suppress(
            Exception
        ):  # the connection ends just now: whoever uses it is told
            self._ask()


def _pending(link: object) -> int:
    """Bytes that a socket, or what holds one, was handed and has not passed on; 0 where it cannot
    tell."""
    try:
        number: int = struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]  # type: ignore[attr-defined]
    except (OSError, AttributeError, ValueError):
        return 0
    return number
