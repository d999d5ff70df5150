"""One SSH connection to a box: Fabric's, with the host key pinned, the keys that are named, and a
dead peer noticed.

The host key is checked before anything secret is shown; what is not pinned is refused.
"""

import base64
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.auth_strategy import AuthFailure
from paramiko.ssh_exception import BadHostKeyException, SSHException

from remote.control.errors import BoxUnreachable, HostKeyMismatch
from remote.control.ssh import config as ssh_config
from remote.control.ssh import keys
from remote.control.ssh.dial import dial, until_greeted
from remote.control.ssh.keepalive import Keepalive, Link

DEAD_AFTER_SECONDS = 10.0
# Against peers that speak on and on without coming to the point; those that fall silent are the
# keepalive's.
HANDSHAKE_SECONDS, LOGIN_SECONDS, SESSION_SECONDS = 60.0, 120.0, 60.0
# The window is what may be under way at once: 4 MiB carry 80 MB/s at 50 ms. Larger ones cost more
# than they bring: paramiko shifts all that is buffered with each read (on loopback 380 MB/s with 4
# MiB, 90 with 16).
WINDOW_BYTES = 4 * 1024 * 1024
PACKET_BYTES = 64 * 1024
_RSA = ("rsa-sha2-512", "rsa-sha2-256")


@dataclass(frozen=True)
class Address:
    """What it takes to reach a box: `key` is a private key file (or the public half of a key that
    an SSH agent holds), or None for the user's SSH agent and default keys. `identities` stand for
    the default keys where the user's ssh_config names some; with `identities_only` nothing else is
    tried.

    `proxy` makes the link where `host` cannot be reached from here; it raises BoxUnreachable.
    `admit` is told the public line of each key before it is tried. `heal` is called when packets
    vanish on their way, and says whether another try makes sense.
    `dead_after`: so many seconds without a sign of life, and the connection is lost.
    `jump` is the name in the user's ssh_config of a jump host; a bastion of the inventory has none.
    """

    name: str
    id: str
    host: str
    port: int
    user: str
    key: Path | None
    alias: str
    is_bastion: bool = False
    jump: str = ""
    identities: tuple[Path, ...] = ()
    identities_only: bool = False
    dead_after: float = field(default=DEAD_AFTER_SECONDS, compare=False)
    proxy: Callable[[], Link] | None = field(default=None, compare=False, repr=False)
    admit: Callable[[str], None] | None = field(default=None, compare=False, repr=False)
    heal: Callable[[], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def where(self) -> str:
        """The box in words."""
        place = f"{self.host}:{self.port}"
        way = (
            f"jump host {self.jump} of " if self.jump else "bastion of " if self.is_bastion else ""
        )
        return (
            f"{way}box {self.name}"
            f" ({f'{self.id} at {place}' if self.id and self.id != self.host else place})"
        )

    @property
    def is_static(self) -> bool:
        """Whether no cloud made it: then the inventory is all that is known about it."""
        return not self.id

    @property
    def section(self) -> str:
        """Where the inventory describes it."""
        return f"`bastion:` of {self.name}" if self.is_bastion else self.name


class BoxConnection(fabric.Connection):  # type: ignore[misc]
    """A Fabric connection to one address. `open`, and with it `run`, raises BoxUnreachable,
    HostKeyMismatch or LoginRefused.

    `pinned` are the only host keys that are believed, as `ssh-ed25519 AAAA…`.
    """

    # Fabric takes what is no attribute of the class for a setting.
    address: Address
    keepalive: Keepalive | None = None

    def __init__(self, address: Address, pinned: list[str]) -> None:
        expected = [host_key_of(line) for line in pinned]
        if not expected:
            raise _no_host_key(address)
        # Lazy, and with an ssh_config of its own: no file of Fabric's or ssh's changes what the
        # inventory says.
        config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())
        host = (
            "localhost" if ":" in address.host else address.host
        )  # Fabric takes no address with colons; the link is made here
        super().__init__(
            host,
            user=address.user,
            port=address.port,
            config=config,
            gateway=False,
            connect_kwargs={},
        )
        object.__setattr__(self, "address", address)
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        for key in expected:
            known_as = (
                host if address.port == paramiko.config.SSH_PORT else f"[{host}]:{address.port}"
            )
            self.client.get_host_keys().add(known_as, key.get_name(), key)

    def open(self) -> None:
        """Connect and log in, unless that is done."""
        if self.is_connected:
            return
        with keys.Keys(self.address) as strategy:
            while not self._is_logged_in(strategy):  # a server hangs up after some refused keys
                pass

    def close(self) -> None:
        """End the connection."""
        self.client.close()
        if self.transport is not None:
            _farewells.words.pop(self.transport.ident, None)

    def settled(self) -> None:
        """A first request was answered: from now on the peer is asked for signs of life."""
        if self.keepalive is not None:
            self.keepalive.settled(
                lambda: self.transport.global_request("keepalive@openssh.com", wait=True)
            )

    def why_lost(self, error: object = None) -> str:
        """Why the connection ended, in words."""
        verdict = self.keepalive.verdict if self.keepalive else ""
        saved = self.transport.get_exception() if self.transport is not None else None
        return verdict or self._farewell or plainly(error or saved or EOFError())

    @property
    def _farewell(self) -> str:
        return _farewells.words.get(self.transport.ident, "") if self.transport is not None else ""

    def _is_logged_in(self, strategy: keys.Keys) -> bool:
        """Whether one of the keys was taken; False where others are left to try over another
        connection."""
        self.keepalive = Keepalive(
            self.address.proxy() if self.address.proxy else _socket(self.address),
            self.address.dead_after,
        )
        self.connect_kwargs = {
            "sock": self.keepalive,
            "transport_factory": self._transport_for,
            "auth_strategy": strategy,
            "timeout": HANDSHAKE_SECONDS,
            "banner_timeout": HANDSHAKE_SECONDS,
            "auth_timeout": LOGIN_SECONDS,
            "channel_timeout": SESSION_SECONDS,
        }
        try:
            super().open()
            return True
        except BaseException as error:
            self.transport = self.client.get_transport()
            told = self._explained(error, strategy)
            self.close()
            if told is None:
                return False
            raise told from None

    def _transport_for(self, sock: Keepalive, **settings: Any) -> paramiko.Transport:
        transport = paramiko.Transport(
            sock, default_window_size=WINDOW_BYTES, default_max_packet_size=PACKET_BYTES, **settings
        )
        transport.handshake_timeout = HANDSHAKE_SECONDS
        options = transport.get_security_options()
        # Ask for the keys we know; the other kinds stay allowed, so that a stranger's key can be
        # shown in the error.
        pinned = [key for entry in self.client.get_host_keys().values() for key in entry]
        known = [
            name
            for kind in pinned
            for name in (_RSA if kind == "ssh-rsa" else (kind,))
            if name in options.key_types
        ]
        options.key_types = tuple(dict.fromkeys([*known, *options.key_types]))
        # GCM needs no MAC beside it: half the work of paramiko's first choice, AES-CTR with
        # SHA-256.
        options.ciphers = tuple(sorted(options.ciphers, key=lambda name: "gcm" not in name))
        return transport

    def _explained(self, error: BaseException, strategy: keys.Keys) -> BaseException | None:
        """The error for people; None where keys are left that another connection may try."""
        if isinstance(error, BadHostKeyException):
            return _another_host_key(self.address, error)
        if isinstance(error, AuthFailure):
            return self._refusal(error, strategy)
        if isinstance(error, SSHException | OSError | EOFError):
            complaint = self.keepalive.complaint if self.keepalive else ""
            why = self.why_lost(error)
            is_greeted = bool(self.transport is not None and self.transport.remote_version)
            return unreachable(
                self.address, f"{why}; {complaint}" if complaint else why, is_greeted
            )
        return error

    def _refusal(self, failure: AuthFailure, strategy: keys.Keys) -> BaseException | None:
        """A server that means it says so, or answers first. An end without either is no refusal of
        the key that was tried just then."""
        for attempt in failure.result:
            key, error = attempt.source, attempt.result
            if key.was_cut_off and not self._farewell:
                if attempt is failure.result[0] or (self.keepalive and self.keepalive.verdict):
                    return unreachable(
                        self.address, f"it was lost while logging in: {self.why_lost(error)}"
                    )
                strategy.left.insert(0, key)
                return None
            complaint = f": {str(error) or 'the other side hung up'}"
            strategy.tried.append(
                f"{key}{'' if isinstance(error, paramiko.AuthenticationException) else complaint}"
            )
        if strategy.left:
            return None
        return keys.refused(
            self.address, f"user {self.address.user}; tried: {', '.join(strategy.tried)}"
        )


class _Farewells(logging.Handler):
    """What servers say when they end a connection, by the thread of the connection; paramiko only
    logs it.

    All else it logs, our errors say better.
    """

    _SAID = re.compile(r"Disconnect \(code \d+\): (.*)", re.DOTALL)

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.words: dict[int | None, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take the words."""
        if found := self._SAID.search(record.getMessage()):
            self.words[record.thread] = found[1]


_farewells = _Farewells()
_logger = logging.getLogger("paramiko")
_logger.addHandler(_farewells)
_logger.setLevel(logging.INFO)
_logger.propagate = False


def host_key_of(line: str) -> paramiko.PKey:
    """The key in `ssh-ed25519 AAAA… [comment]`, with or without a host name before it."""
    words = line.split()
    at = next(
        index
        for index, word in enumerate(words)
        if word.startswith(("ssh-", "ecdsa-")) and index + 1 < len(words)
    )
    return paramiko.PKey.from_type_string(words[at], base64.b64decode(words[at + 1]))


def plainly(why: object) -> str:
    """Why a connection ended, in words."""
    return (
        "the other side closed the connection"
        if isinstance(why, EOFError)
        else str(why) or type(why).__name__
    )


def unreachable(address: Address, why: object, is_greeted: bool = True) -> BoxUnreachable:
    """The box does not answer over SSH."""
    name = address.name
    cloud = (
        f"`./inv status` shows whether it runs; `./inv start {name}` starts it, or lets this"
        " laptop's address in"
    )
    what = (
        f"`HostName` and `Port` of {address.jump} in {ssh_config.path()}"
        if address.jump
        else f"`host:` and `port:` of {address.section} in inventory.yaml"
    )
    static = f"start the host, or correct {what}, then `./inv start {name}` tries it"
    error = BoxUnreachable(
        f"{address.where} does not answer over SSH",
        where=address.where,
        why=plainly(why),
        remedy=static if address.is_static else cloud,
    )
    if not is_greeted and address.proxy is None:
        error.until_back = until_greeted(address.host, address.port)
    return error


def _socket(address: Address) -> Link:
    try:
        return dial(address.host, address.port, address.dead_after)
    except OSError as error:
        # A firewall that does not know this laptop's address lets packets vanish; a box whose SSH
        # server is down refuses.
        if isinstance(error, TimeoutError) and address.heal is not None and address.heal():
            return _socket(replace(address, heal=None))
        raise unreachable(address, error, is_greeted=False) from None


def _another_host_key(address: Address, error: BadHostKeyException) -> HostKeyMismatch:
    expected, shown = error.expected_key, error.key
    name = address.name
    cloud = (
        f"compare with the box's console; if it really was made anew: `./inv box.forget {name}`,"
        f" then `./inv start {name}`"
    )
    known = "its line in your known_hosts"
    place = f"`host_key:` of {address.section} in inventory.yaml"
    place += "" if address.is_bastion else f", or without one {known}"
    static = (
        "ask the host's owner; if it really was made anew: correct"
        f" {known if address.jump else place}"
    )
    return HostKeyMismatch(
        f"{address.where} shows another host key than the pinned one",
        where=address.where,
        why=(
            f"pinned: {expected.get_name()} {expected.fingerprint}; shown: {shown.get_name()}"
            f" {shown.fingerprint}. Either the box was made anew, or someone stands in between"
        ),
        remedy=static if address.is_static else cloud,
        kept="nothing was sent",
    )


def _no_host_key(address: Address) -> HostKeyMismatch:
    return HostKeyMismatch(
        f"no host key is pinned for {address.where}",
        where=address.where,
        why="without one, nobody knows who answers there",
        remedy=(
            f"`./inv launch {address.name}` pins it; a static box needs `host_key:` in"
            " inventory.yaml"
        ),
        kept="nothing was sent",
    )
