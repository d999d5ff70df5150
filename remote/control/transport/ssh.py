"""A box over SSH: one paramiko connection, the host key checked before anything secret is shown, every command a channel."""

import base64
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST
from paramiko.ssh_exception import SSHException

from remote.control.errors import BoxUnreachable, HostKeyMismatch
from remote.control.transport import login
from remote.control.transport.base import Feeder, Result, Stdin, Tail, run_to_end
from remote.control.transport.dial import dial, until_greeted
from remote.control.transport.eager import EagerTransport, Session, Unheard
from remote.control.transport.login_shell import Opening
from remote.control.transport.pulse import Link, Pulse

DEAD_AFTER_SECONDS = 10.0
# Against peers that speak on and on without coming to the point; those that fall silent are the pulse's.
HANDSHAKE_SECONDS, LOGIN_SECONDS, SESSION_SECONDS = 60.0, 120.0, 60.0
FREE_SECONDS = 1.0
"""How long a server that takes few sessions (MaxSessions) may need to notice that one has ended."""
# The window is what may be under way at once: 4 MiB carry 80 MB/s at 50 ms. Larger ones cost more than they bring:
# paramiko shifts all that is buffered with each read (on loopback 380 MB/s with 4 MiB, 90 with 16).
WINDOW_BYTES = 4 * 1024 * 1024
PACKET_BYTES = 64 * 1024
READ_BYTES = 512 * 1024

# paramiko reports a lost connection on standard error unless its logger has a handler; our errors say it better.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Address:
    """What it takes to reach a box: `key` is a private key file (or the public half of a key that an SSH agent holds), or None for the
    user's SSH agent and default keys. `identities` stand for the default keys where the user's ssh_config names some; with
    `identities_only` nothing else is tried.

    `road` makes the link where `host` cannot be reached from here; it raises BoxUnreachable. `admit` is told the public line of each
    key before it is tried. `heal` is called once when packets vanish on their way, and says whether another try makes sense.
    `dead_after`: so many seconds without a sign of life, and the connection is lost.
    """

    name: str
    id: str
    host: str
    port: int
    user: str
    key: Path | None
    alias: str
    is_bastion: bool = False
    identities: tuple[Path, ...] = ()
    identities_only: bool = False
    dead_after: float = field(default=DEAD_AFTER_SECONDS, compare=False)
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


class Connection(EagerTransport):
    """A paramiko connection that knows whether its peer lives, and what it said in farewell."""

    def __init__(self, link: Link, dead_after: float) -> None:
        self.pulse = Pulse(link, dead_after)
        super().__init__(self.pulse, default_window_size=WINDOW_BYTES, default_max_packet_size=PACKET_BYTES)
        self.banner_timeout = self.handshake_timeout = HANDSHAKE_SECONDS
        self.auth_timeout = LOGIN_SECONDS
        self.farewell = ""

    @property
    def is_greeted(self) -> bool:
        """Whether an SSH server has answered at all."""
        return bool(self.remote_version)

    def settled(self) -> None:
        """A first request was answered: from now on the peer is asked for signs of life."""
        self.pulse.settled(self._ask)

    def why_lost(self, error: object = None) -> str:
        """Why the connection ended, in words."""
        return self.pulse.verdict or self.farewell or _plainly(error or self.saved_exception or EOFError())

    def _ask(self) -> None:
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.farewell = message.get_text()

    def _parse_debug(self, message: paramiko.Message) -> None:
        """Leave it: paramiko formats what nobody logs."""


class SshTransport:
    """One connection to a box, opened with the first command and again after a loss. `pinned` gives the host keys for an alias."""

    def __init__(self, address: Address, pinned: Callable[[str], list[str]]) -> None:
        self.address, self.where = address, address.where
        self.round_trips = self.bytes_sent = 0
        self._pinned = pinned
        self._connection: Connection | None = None
        self._guesses = True
        self._lock = threading.Lock()

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout), self.where)

    def open(self, command: str, stdin: Stdin = b"", timeout: float | None = None, silence: float | None = None) -> "SshStream":
        """Start a command."""
        self.round_trips += 1
        self.bytes_sent += len(command.encode())
        stream = SshStream(self, command, stdin, timeout, silence)
        connection = self._session(stream)
        try:
            stream.begin()
        except Unheard:  # which happens once at most
            self._guesses = False
            self._drop(connection)
            self.round_trips -= 1
            self.bytes_sent -= len(command.encode())
            return self.open(command, stdin, timeout, silence)
        except (SSHException, OSError, EOFError) as error:  # it may run, or not: from here on only the caller may try again
            if connection.is_active():
                raise self._refused(str(error)) from None
            self._drop(connection)
            raise self._lost(connection.why_lost(error)) from None
        connection.settled()
        return stream

    def another(self) -> "SshTransport":
        """A second connection to the same box, not opened yet."""
        return SshTransport(self.address, self._pinned)

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

    def _session(self, stream: "SshStream") -> Connection:
        """Get the stream a channel on which nothing was said yet; over a connection made anew, once, where the one at hand proves dead.
        While that is made, the stream may send its command ahead."""
        until = time.monotonic() + FREE_SECONDS
        while True:
            connection, is_new = self._connected(stream.send_ahead if self._guesses else None)
            if stream.is_sent:
                return connection
            try:
                session = connection.request_session()
                session.await_opened(SESSION_SECONDS)
                stream.use(connection, session)
                return connection
            except paramiko.ChannelException as error:
                if time.monotonic() > until:
                    raise self._refused(error.text) from None
                time.sleep(FREE_SECONDS / 20)
            except (SSHException, OSError, EOFError) as error:
                self._drop(connection)
                if is_new:
                    raise self._lost(connection.why_lost(error)) from None

    def _connected(self, ahead: "Callable[[Connection], None] | None") -> tuple[Connection, bool]:
        with self._lock:
            is_new = self._connection is None or not self._connection.is_active()
            if self._connection is None or is_new:
                self._connection = connect(self.address, self._pinned(self.address.alias), ahead)
            return self._connection, is_new

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.close()

    def _refused(self, why: str) -> BoxUnreachable:
        return BoxUnreachable(
            f"{self.where} runs no further command over this connection", where=self.where, why=why,
            remedy="its sshd must allow commands (ForceCommand, MaxSessions); with fewer commands side by side: run it again",
        )  # fmt: skip

    def _lost(self, why: object) -> BoxUnreachable:
        return BoxUnreachable(
            f"the connection to {self.where} was lost", where=self.where, why=_plainly(why),
            remedy=f"`./inv status` shows whether {self.address.name} runs; then run the same command again: it goes on where it was",
        )  # fmt: skip


class SshStream:
    """A command in a channel of its own: it gets one by `use` or `send_ahead`, and runs once `begin` returns."""

    _connection: Connection
    _channel: Session
    _feeder: Feeder | None = None
    _deadline: float | None = None

    def __init__(self, transport: SshTransport, command: str, stdin: Stdin, timeout: float | None, silence: float | None) -> None:
        address = transport.address
        self._transport, self._opening = transport, Opening(command, stdin, address.where, address.name, address.user, address.dead_after)
        self._timeout, self._silence = timeout, silence
        self._exit_code = -1
        self._stderr = Tail(self._read_stderr)
        self.is_sent = False

    def use(self, connection: Connection, session: Session) -> None:
        """This is the channel."""
        self._connection, self._channel = connection, session
        session.on_stderr = self._stderr.begin

    def send_ahead(self, connection: Connection) -> None:
        """Send the command on the first channel of a connection, before anybody is logged in; and input that could be sent again."""
        self.use(connection, connection.request_session())
        self._channel.guess()
        self._send_command()
        if isinstance(self._opening.stdin, bytes):
            self._feed()

    def begin(self) -> None:
        """Send what was not sent ahead, and wait until the command runs. Raises Unheard where it surely does not; SSHException, OSError or
        EOFError."""
        if not self.is_sent:
            self._send_command()
        else:
            self._channel.await_opened(SESSION_SECONDS)
        if self._feeder is None:
            self._feed()
        self._channel.await_begun()
        self._opening.sent()
        self._deadline = time.monotonic() + self._timeout if self._timeout is not None else None

    def _send_command(self) -> None:
        self.is_sent = True
        self._channel.ask(self._opening.line, lend=self._connection.takes_guesses)

    def _feed(self) -> None:
        channel = self._channel
        self._feeder = Feeder(
            self._opening.stdin, channel.out_max_packet_size - 64, write=self._send, finish=channel.shutdown_write, abort=channel.close,
            at_once=channel.credit,
        )  # fmt: skip

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
            if output := self._opening.passed(chunk):
                yield output
        self._stderr.join()
        self._exit_code = self._status()
        self._opening.check(self._exit_code, self.stderr)

    def __enter__(self) -> "SshStream":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(EOFError, OSError):  # on a dying connection closing fails too, and must not hide why
            self._channel.close()
        if self._feeder is not None:
            self._feeder.join(self._transport.address.dead_after)
            self._transport.bytes_sent += self._feeder.sent

    def _read(self) -> bytes:
        if self._remaining() == 0:  # however much it goes on to say
            raise self._transport._lost(f"no end within {self._timeout:g} s")
        first = self._opening.remaining
        limits = [seconds for seconds in (self._silence if first is None else first, self._remaining()) if seconds is not None]
        self._channel.settimeout(min(limits) if limits else None)
        try:
            return bytes(self._channel.recv(READ_BYTES))
        except TimeoutError:
            if self._opening.remaining == 0:
                raise self._opening.silent() from None
            seconds = self._timeout if self._remaining() == 0 else self._silence
            raise self._transport._lost(f"no answer within {seconds:g} s") from None
        except (SSHException, OSError, EOFError) as error:  # receiving also sends, to widen the window: that fails on a dying connection
            raise self._transport._lost(self._connection.why_lost(error)) from None

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
        if self._feeder is not None and self._feeder.error is not None:
            raise self._feeder.error
        status: int = self._channel.exit_status
        if status == -1 and self._is_lost():
            raise self._transport._lost(self._connection.why_lost())
        return status

    def _is_lost(self) -> bool:
        # A closing connection ends its channels first, then itself: give it that moment.
        self._connection.join(0.5)
        return not self._connection.is_alive() or not self._connection.is_active()


def connect(address: Address, pinned: list[str], ahead: Callable[[Connection], None] | None = None) -> Connection:
    """An authenticated connection. Raises BoxUnreachable, HostKeyMismatch, LoginRefused.

    `ahead` sends more right behind the login request, without waiting for its answer. It is called where that can do no harm: the host key
    is the pinned one, the server takes it, and there is one key to try.
    """
    expected = [host_key_of(line) for line in pinned]
    if not expected:
        raise _no_host_key(address)
    connection = _identified(address, expected)
    try:
        with login.candidates(address) as left:
            tried: list[str] = []
            while not login.log_in(address, connection, left, tried, ahead):
                connection.close()
                if not left:
                    raise login.rejected(address, tried)
                connection = _identified(address, expected)  # a server hangs up after some refused keys
        return connection
    except login.Lost as lost:
        connection.close()
        raise _unreachable(address, f"it was lost while logging in: {connection.why_lost(lost.__cause__)}") from None
    except BaseException:
        connection.close()
        raise


def host_key_of(line: str) -> paramiko.PKey:
    """The key in `ssh-ed25519 AAAA… [comment]`, with or without a host name before it."""
    words = line.split()
    at = next(index for index, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-")) and index + 1 < len(words))
    return paramiko.PKey.from_type_string(words[at], base64.b64decode(words[at + 1]))


def _identified(address: Address, expected: list[paramiko.PKey]) -> Connection:
    connection = _greeted(address, [key.get_name() for key in expected])
    try:
        _check_host_key(address, connection.get_remote_server_key(), expected)
        connection.pulse.allow(math.inf)  # until a key is found to log in with
        return connection
    except BaseException:
        connection.close()
        raise


def _greeted(address: Address, key_types: list[str]) -> Connection:
    connection = Connection(address.road() if address.road else _socket(address), address.dead_after)
    try:
        _prefer(connection, key_types)
        connection.start_client()
    except (SSHException, OSError, EOFError) as error:
        connection.close()
        complaint = connection.pulse.complaint
        why = connection.why_lost(error)
        raise _unreachable(address, f"{why}; {complaint}" if complaint else why, connection.is_greeted) from None
    return connection


def _socket(address: Address) -> Link:
    try:
        return dial(address.host, address.port, address.dead_after)
    except OSError as error:
        # A firewall that does not know this laptop's address lets packets vanish; a box whose SSH server is down refuses.
        if isinstance(error, TimeoutError) and address.heal is not None and address.heal():
            return _socket(replace(address, heal=None))
        raise _unreachable(address, error, is_greeted=False) from None


def _prefer(connection: Connection, key_types: list[str]) -> None:
    # Ask for the key we know; the other kinds stay allowed, so that a stranger's key can be shown in the error.
    names = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    known = [name for key_type in key_types for name in names.get(key_type, (key_type,))]
    options = connection.get_security_options()
    options.key_types = tuple(dict.fromkeys([*(name for name in known if name in options.key_types), *options.key_types]))
    # GCM needs no MAC beside it: half the work of paramiko's first choice, AES-CTR with SHA-256.
    options.ciphers = tuple(sorted(options.ciphers, key=lambda name: "gcm" not in name))


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


def _unreachable(address: Address, why: Any, is_greeted: bool = True) -> BoxUnreachable:
    name = address.name
    cloud = f"`./inv status` shows whether it runs; `./inv start {name}` starts it, or lets this laptop's address in"
    standing = f"start the host, or correct `host:` and `port:` of {address.section} in inventory.yaml, then `./inv start {name}` tries it"
    error = BoxUnreachable(
        f"{address.where} does not answer over SSH", where=address.where, why=_plainly(why),
        remedy=standing if address.stands else cloud,
    )  # fmt: skip
    if not is_greeted and address.road is None:
        error.until_back = until_greeted(address.host, address.port)
    return error


def _plainly(why: object) -> str:
    return "the other side closed the connection" if isinstance(why, EOFError) else str(why) or type(why).__name__


def _no_host_key(address: Address) -> HostKeyMismatch:
    return HostKeyMismatch(
        f"no host key is pinned for {address.where}", where=address.where, why="without one, nobody knows who answers there",
        remedy=f"`./inv launch {address.name}` pins it; a static box needs `host_key:` in inventory.yaml", kept="nothing was sent",
    )  # fmt: skip
