"""Links to a box that this laptop cannot reach by itself: the standard input and output of a
program, or a channel of a bastion.

The SSH inside a link is the box's own: its host key is checked end to end, whoever carries the
bytes.
"""

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from remote.control.errors import BoxUnreachable
from remote.control.output.sanitize import last_lines
from remote.control.ssh import config as ssh_config
from remote.control.ssh.connection import Address, BoxConnection

if TYPE_CHECKING:
    import paramiko

    from remote.control.ssh.keepalive import Keepalive

_ENDING_SECONDS = 3.0
_BASTION_SECONDS = 20.0


class ProgramLink(socket.socket):
    """A program whose standard input and output are the link. It ends with the link, and when this
    process dies."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the link
        self._last_words = ""
        self._is_closed, self._closing = False, threading.Lock()
        with theirs:
            # A session of its own: Ctrl-C is for the command in the foreground, which then ends the
            # link itself.
            self._process = subprocess.Popen(
                list(words),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def complaint(self) -> str:
        """What the program said on standard error, its end."""
        if self._errors.closed:
            return self._last_words
        return last_lines(os.pread(self._errors.fileno(), 1 << 16, 0))

    def close(self) -> None:
        """End the link and the program."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            with contextlib.suppress(OSError):
                self.shutdown(socket.SHUT_RDWR)
            super().close()
            try:
                self._process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._last_words = self.complaint
            self._errors.close()


class BastionLink:
    """A channel to the box over a connection to its bastion."""

    def __init__(
        self, bastion: "_Bastion", channel: "paramiko.Channel", carrier: "Keepalive | None"
    ) -> None:
        self._bastion, self._channel, self.carrier = bastion, channel, carrier
        self.recv, self.send, self.settimeout = channel.recv, channel.send, channel.settimeout
        self._closed, self._closing = False, threading.Lock()

    def close(self) -> None:
        """End the link; the connection to the bastion ends with the last link over it."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(EOFError, OSError):
            self._channel.close()
        self._bastion.leave()


class _Bastion:
    """One connection to a bastion for all boxes behind it: a bastion admits ten new connections at
    a time, a fleet has more."""

    def __init__(self, address: Address, host_keys: list[str]) -> None:
        self._address, self._host_keys = address, host_keys
        self._lock, self._links = threading.Lock(), 0
        self._connection: BoxConnection | None = None

    def enter(self, box: str, host: str, port: int) -> BastionLink:
        """A link to `host`, as the bastion sees it."""
        import paramiko

        with self._lock:
            if self._connection is None or not self._connection.is_connected:
                self._connection = BoxConnection(self._address, self._host_keys)
                self._connection.open()
            connection = self._connection
            self._links += 1
        try:
            channel = connection.transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=_BASTION_SECONDS
            )
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.leave()
            raise _no_way(self._address, box, host, port, error) from None
        connection.settled()
        return BastionLink(self, channel, connection.keepalive)

    def leave(self) -> None:
        """One link less."""
        with self._lock:
            self._links -= 1
            connection = self._connection if self._links == 0 else None
            if connection is not None:
                self._connection = None
        if connection is not None:
            connection.close()


_bastions: dict[tuple[object, ...], _Bastion] = {}
_bastions_lock = threading.Lock()


def over_bastion(bastion: Address, host_keys: list[str], host: str, port: int) -> BastionLink:
    """A link to `host`:`port` over a bastion. Raises BoxUnreachable, LoginRefused or
    HostKeyMismatch about the bastion."""
    if (
        bastion.proxy is not None
    ):  # behind another one: their places alone do not tell such bastions apart
        return _Bastion(bastion, host_keys).enter(bastion.name, host, port)
    place = (bastion.host, bastion.port, bastion.user, bastion.key, bastion.identities, *host_keys)
    with _bastions_lock:
        shared = _bastions.setdefault(place, _Bastion(bastion, host_keys))
    return shared.enter(bastion.name, host, port)


def _no_way(
    bastion: Address, box: str, host: str, port: int, error: BaseException
) -> BoxUnreachable:
    cloud = (
        f"`./inv status` shows whether {box} runs; its security group must let the bastion in:"
        f" `./inv start {box}` sees to that; the bastion's sshd must allow TCP forwarding"
    )
    static = (
        f"start the host at {host}:{port}, or correct where {ssh_config.path()} says that it is;"
        f" the sshd of {bastion.jump} must allow TCP forwarding; `./inv start {box}` tries it"
    )
    way = f"jump host {bastion.jump}" if bastion.jump else "the bastion"
    return BoxUnreachable(
        f"{way} does not get through to box {box}",
        where=f"{bastion.where}, to {host}:{port}",
        why=getattr(error, "text", "") or str(error) or type(error).__name__,
        remedy=static if bastion.jump else cloud,
    )
