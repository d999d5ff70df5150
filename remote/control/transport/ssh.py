"""A box over SSH: one paramiko connection, the host key checked before anything secret is shown, every command a channel."""

import base64
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import paramiko
from paramiko.ssh_exception import SSHException

from remote.control.errors import BoxUnreachable, HostKeyMismatch
from remote.control.transport import login
from remote.control.transport.base import Feeder, Result, Stdin, Tail, run_to_end

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 10
DEAD_AFTER_SECONDS = 30
# The window is what may be under way at once: 4 MiB carry 80 MB/s at 50 ms. Larger ones cost more than they bring:
# paramiko shifts all that is buffered with each read (on loopback 380 MB/s with 4 MiB, 90 with 16).
WINDOW_BYTES = 4 * 1024 * 1024
PACKET_BYTES = 64 * 1024
READ_BYTES = 512 * 1024

# paramiko reports a lost connection on standard error unless its logger has a handler; our errors say it better.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


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


@dataclass(frozen=True)
class Address:
    """What it takes to reach a box: `key` is a private key file (or the public half of a key that an SSH agent holds), or None for the
    user's SSH agent and default keys.

    `road` makes the link where `host` cannot be reached from here; it raises BoxUnreachable. `admit` is told the public line of each
    key before it is tried. `heal` is called once when packets vanish on their way, and says whether another try makes sense.
    """

    name: str
    id: str
    host: str
    port: int
    user: str
    key: Path | None
    alias: str
    is_bastion: bool = False
    road: Callable[[], Link] | None = field(default=None, compare=False, repr=False)
    admit: Callable[[str], None] | None = field(default=None, compare=False, repr=False)
    heal: Callable[[], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def where(self) -> str:
        """The box in words."""
        place = f"{self.host}:{self.port}"
        what = "bastion of box" if self.is_bastion else "box"
        return f"{what} {self.name} ({f'{self.id} at {place}' if self.id and self.id != self.host else place})"

    @property
    def stands(self) -> bool:
        """Whether no cloud made it: then the inventory is all that is known about it."""
        return not self.id

    @property
    def section(self) -> str:
        """Where the inventory describes it."""
        return f"`bastion:` of {self.name}" if self.is_bastion else self.name


class SshTransport:
    """One connection to a box, opened with the first command and again after a loss. `pinned` gives the host keys for an alias."""

    def __init__(self, address: Address, pinned: Callable[[str], list[str]]) -> None:
        self.address, self.where = address, address.where
        self.round_trips = self.bytes_sent = 0
        self._pinned = pinned
        self._connection: paramiko.Transport | None = None
        self._lock = threading.Lock()

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout))

    def open(
        self, command: str, stdin: Stdin = b"", timeout: float | None = None, silence: float | None = None, expect: int = 0
    ) -> "SshStream":  # fmt: skip
        """Start a command."""
        connection = self._connected()
        self.round_trips += 1
        self.bytes_sent += len(command.encode())
        try:
            channel = connection.open_session(window_size=WINDOW_BYTES, max_packet_size=PACKET_BYTES, timeout=CONNECT_SECONDS * 3)
            channel.exec_command(command)
        except (SSHException, OSError, EOFError) as error:
            self.close()
            raise self._lost(error) from None
        return SshStream(self, channel, stdin, timeout, silence)

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> "SshTransport":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _connected(self) -> paramiko.Transport:
        with self._lock:
            if self._connection is None or not self._connection.is_active():
                self._connection = connect(self.address, self._pinned(self.address.alias))
            return self._connection

    def _lost(self, why: object) -> BoxUnreachable:
        return BoxUnreachable(
            f"the connection to {self.where} was lost", where=self.where, why=_plainly(why),
            remedy=f"`./inv status` shows whether {self.address.name} runs; then run the same command again: it goes on where it was",
        )  # fmt: skip


class SshStream:
    """A command running in a channel of its own."""

    def __init__(self, transport: SshTransport, channel: paramiko.Channel, stdin: Stdin, timeout: float | None, silence: float | None):
        self._transport, self._channel = transport, channel
        self._connection: paramiko.Transport = channel.get_transport()
        self._deadline = time.monotonic() + timeout if timeout is not None else None
        self._silence = silence
        self._exit_code = -1
        self._timeout = timeout
        self._stderr = Tail(self._read_stderr)
        self._feeder = Feeder(stdin, channel.out_max_packet_size - 64, write=self._send, finish=channel.shutdown_write, abort=channel.close)

    @property
    def exit_code(self) -> int:
        """The exit code; -1 when a signal killed the command."""
        return self._exit_code

    @property
    def stderr(self) -> bytes:
        """The end of standard error."""
        return self._stderr.content

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._read():
            yield chunk
        self._stderr.join()
        self._exit_code = self._status()

    def __enter__(self) -> "SshStream":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(EOFError, OSError):  # on a dying connection closing fails too, and must not hide why
            self._channel.close()
        self._feeder.join(DEAD_AFTER_SECONDS)
        self._transport.bytes_sent += self._feeder.sent

    def _read(self) -> bytes:
        limits = [seconds for seconds in (self._silence, self._remaining()) if seconds is not None]
        self._channel.settimeout(min(limits) if limits else None)
        try:
            return bytes(self._channel.recv(READ_BYTES))
        except TimeoutError:
            seconds = self._timeout if self._remaining() == 0 else self._silence
            raise self._transport._lost(f"no answer within {seconds:g} s") from None
        except (SSHException, OSError, EOFError) as error:  # receiving also sends, to widen the window: that fails on a dying connection
            raise self._transport._lost(error) from None

    def _read_stderr(self) -> bytes:
        while True:
            try:
                return bytes(self._channel.recv_stderr(PACKET_BYTES))
            except TimeoutError:
                continue
            except EOFError:  # the connection is dying: there is no more to come
                return b""

    def _send(self, piece: bytes) -> None:
        # Channel timeouts are meant for reading; a full window only means that the box is busy.
        while piece:
            with contextlib.suppress(TimeoutError):
                sent = self._channel.send(piece)
                if not sent:
                    raise EOFError("the channel is closed")
                piece = piece[sent:]

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _status(self) -> int:
        if self._remaining() == 0 and not self._channel.status_event.is_set():
            raise self._transport._lost(f"no answer within {self._timeout:g} s")
        self._channel.status_event.wait(self._remaining())
        if self._feeder.error is not None:
            raise self._feeder.error
        status: int = self._channel.exit_status
        if status == -1 and self._is_lost():
            raise self._transport._lost(self._connection.saved_exception or "closed by the other side")
        return status

    def _is_lost(self) -> bool:
        # A closing connection ends its channels first, then itself: give it that moment.
        self._connection.join(0.5)
        return not self._connection.is_alive() or not self._connection.is_active()


def connect(address: Address, pinned: list[str]) -> paramiko.Transport:
    """An authenticated connection. Raises BoxUnreachable, HostKeyMismatch, LoginRefused."""
    expected = [host_key_of(line) for line in pinned]
    if not expected:
        raise _no_host_key(address)
    connection = _identified(address, expected)
    try:
        with login.candidates(address) as left:
            tried: list[str] = []
            while not login.log_in(address, connection, left, tried):
                connection.close()
                if not left:
                    raise login.rejected(address, tried)
                connection = _identified(address, expected)  # a server hangs up after some refused keys
        connection.set_keepalive(KEEPALIVE_SECONDS)
        return connection
    except BaseException:
        connection.close()
        raise


def host_key_of(line: str) -> paramiko.PKey:
    """The key in `ssh-ed25519 AAAA… [comment]`, with or without a host name before it."""
    words = line.split()
    at = next(index for index, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-")) and index + 1 < len(words))
    return paramiko.PKey.from_type_string(words[at], base64.b64decode(words[at + 1]))


def _identified(address: Address, expected: list[paramiko.PKey]) -> paramiko.Transport:
    connection = _greeted(address, [key.get_name() for key in expected])
    try:
        _check_host_key(address, connection.get_remote_server_key(), expected)
        return connection
    except BaseException:
        connection.close()
        raise


def _greeted(address: Address, key_types: list[str]) -> paramiko.Transport:
    link = address.road() if address.road else _socket(address)
    connection = paramiko.Transport(link, default_window_size=WINDOW_BYTES, default_max_packet_size=PACKET_BYTES)
    try:
        _prefer(connection, key_types)
        connection.start_client(timeout=CONNECT_SECONDS * 2)
    except (SSHException, OSError, EOFError) as error:
        connection.close()
        complaint = getattr(link, "complaint", "")
        raise _unreachable(address, f"{_plainly(error)}; {complaint}" if complaint else error) from None
    return connection


def _socket(address: Address) -> socket.socket:
    try:
        link = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
    except OSError as error:
        # A firewall that does not know this laptop's address lets packets vanish; a box whose SSH server is down refuses.
        if isinstance(error, TimeoutError) and address.heal is not None and address.heal():
            return _socket(replace(address, heal=None))
        raise _unreachable(address, error) from None
    _give_up_on_silence(link)
    return link


def _give_up_on_silence(link: socket.socket) -> None:
    # A box that vanished without a farewell: sent bytes, keepalives among them, that nobody acknowledges end the connection.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_SECONDS * 1000)


def _prefer(connection: paramiko.Transport, key_types: list[str]) -> None:
    # Ask for the key we know; the other kinds stay allowed, so that a stranger's key can be shown in the error.
    names = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    known = [name for key_type in key_types for name in names.get(key_type, (key_type,))]
    options = connection.get_security_options()
    options.key_types = tuple(dict.fromkeys([*(name for name in known if name in options.key_types), *options.key_types]))


def _check_host_key(address: Address, shown: paramiko.PKey, expected: list[paramiko.PKey]) -> None:
    if any(shown.asbytes() == key.asbytes() for key in expected):
        return
    pinned = ", ".join(f"{key.get_name()} {key.fingerprint}" for key in expected)
    name = address.name
    cloud = f"compare with the box's console; if it really was made anew: `./inv box.forget {name}`, then `./inv start {name}`"
    standing = f"ask the host's owner; if it really was made anew: correct `host_key:` of {address.section} in inventory.yaml"
    raise HostKeyMismatch(
        f"{address.where} shows another host key than the pinned one", where=address.where,
        why=f"pinned: {pinned}; shown: {shown.get_name()} {shown.fingerprint}. Either the box was made anew, or someone stands in between",
        remedy=standing if address.stands else cloud,
        kept="nothing was sent",
    )  # fmt: skip


def _unreachable(address: Address, error: Any) -> BoxUnreachable:
    name = address.name
    cloud = f"`./inv status` shows whether it runs; `./inv start {name}` starts it, or lets this laptop's address in"
    standing = f"start the host, or correct `host:` and `port:` of {address.section} in inventory.yaml, then `./inv start {name}` tries it"
    return BoxUnreachable(
        f"{address.where} does not answer over SSH", where=address.where, why=_plainly(error),
        remedy=standing if address.stands else cloud,
    )  # fmt: skip


def _plainly(why: object) -> str:
    return "the other side closed the connection" if isinstance(why, EOFError) else str(why) or type(why).__name__


def _no_host_key(address: Address) -> HostKeyMismatch:
    return HostKeyMismatch(
        f"no host key is pinned for {address.where}", where=address.where, why="without one, nobody knows who answers there",
        remedy=f"`./inv launch {address.name}` pins it; a static box needs `host_key:` in inventory.yaml", kept="nothing was sent",
    )  # fmt: skip
