"""What need not wait for an answer goes ahead of it: fewer round trips of an SSH connection, by small overrides of paramiko.

Plain paramiko waits seven times before a command runs: for TCP, the offers of the key exchange, the key exchange itself, the service, the
login, the channel, the command; and once more until the command may read. Here

- the login request follows the request for its service at once, with every server (RFC 4252 asks for no wait in between);
- standard input follows the command at once, with every server that has opened its window by then;
- with OpenSSH, channel, command and the first input go right behind the one login request there is. So a first command with input runs in
  four round trips instead of eight.

The last is for OpenSSH alone, and rests on how its server works, the same for all its releases: it takes one message after the other, drops
what is no login while nobody is logged in (it answers UNIMPLEMENTED), gives the first channel of a connection the number 0, and opens the
window for input while it handles the command's request, before it looks at the next message. Where a guess proves wrong it ends the
connection, without having run anything: `Unheard`.
"""

import math
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_CHANNEL_REQUEST
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

FIRST_NUMBER, PACKET_BYTES = 0, 32 * 1024
"""What OpenSSH's server says of a session, the first one of a connection."""
LENT_BYTES = 64 * 1024
"""Input that may go before OpenSSH's server has told its window, which then is 2 MiB. While nobody is logged in it lies in a buffer that
its processes hand to each other: at most 256 KiB fit."""
_OPENSSH = re.compile(r"SSH-2\.0-OpenSSH_\d")  # not OpenSSH_for_Windows: nobody here has tried it


class Unheard(Exception):
    """A command that was sent ahead was not run, for sure: the server gave no channel, or one of another number."""


def knows(version: str) -> bool:
    """Whether the server that calls itself so takes a command ahead of its channel."""
    return bool(_OPENSSH.match(version))


class Login(AuthHandler):  # type: ignore[misc]
    """Logs in with a key without waiting for the answer to the request for the service."""

    _is_asked = False

    def _request_auth(self) -> None:
        # Which hash an RSA key signs with, paramiko learns from a message that may come in only now: then it is done the slow way.
        self._is_asked = "rsa" not in self.private_key.get_name() or bool(self.transport.server_extensions)
        super()._request_auth()
        if self._is_asked:
            accepted = paramiko.Message()
            accepted.add_string("ssh-userauth")
            accepted.rewind()
            super()._parse_service_accept(accepted)  # what paramiko does on hearing this answer is to send the login request

    def _parse_service_accept(self, message: paramiko.Message) -> None:
        if not self._is_asked:
            self._is_asked = True
            super()._parse_service_accept(message)


class Session(paramiko.Channel):  # type: ignore[misc]
    """A channel for one command, that can be used before the server has given it.

    `on_stderr` is called before the first bytes of standard error are taken in.
    """

    out_window_size: int

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.answered = threading.Event()
        self.is_open = self.is_refused = False
        self.on_stderr: Callable[[], None] = lambda: None
        self._guess: int | None = None
        self._lent = 0

    def guess(self) -> None:
        """Take it for open, as OpenSSH's first one will be."""
        super()._set_remote_channel(FIRST_NUMBER, 0, PACKET_BYTES)
        self._guess = FIRST_NUMBER

    def await_opened(self, seconds: float) -> None:
        """Wait for the server's answer. Raises ChannelException where it gives no channel, SSHException when the connection ends first,
        Unheard for either answer where it proves a guess wrong."""
        if not self.answered.wait(seconds):
            raise SSHException("Timeout opening channel.")
        if self._guess is not None and (self.is_refused or (self.is_open and self.remote_chanid != self._guess)):
            with self.lock:
                self._set_closed()  # whoever still writes input to it stops
            raise Unheard
        if not self.is_open:
            raise self.transport.get_exception() or SSHException("Unable to open channel.")

    def ask(self, command: str, lend: bool) -> None:
        """Send a command and do not wait. `lend`: the server opens its window with the command, so that input may go at once."""
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(self.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(command)
        self._event_pending()
        self.transport._send_user_message(message)
        with self.lock:
            if lend and self.out_window_size == 0:
                self._lent = LENT_BYTES
                self.out_window_size = LENT_BYTES

    def await_begun(self) -> None:
        """Wait until the server has taken the command. Raises SSHException where it does not."""
        self._wait_for_event()

    @property
    def credit(self) -> int:
        """How many bytes of input may be sent now."""
        return self.out_window_size

    def _set_remote_channel(self, number: int, window: int, packet: int) -> None:
        # While it was guessed, input went out already: what is left of the loan adds to what the server grants.
        with self.lock:
            super()._set_remote_channel(number, self.out_window_size + self._repaid(window), packet)
            self.is_open = True
            self.out_buffer_cv.notify_all()

    def _window_adjust(self, message: paramiko.Message) -> None:
        with self.lock:
            self.out_window_size += self._repaid(message.get_int())
            self.out_buffer_cv.notify_all()

    def _repaid(self, granted: int) -> int:
        back = min(self._lent, granted)
        self._lent -= back
        return granted - back

    def _feed_extended(self, message: paramiko.Message) -> None:
        self.on_stderr()
        super()._feed_extended(message)

    def _set_closed(self) -> None:
        super()._set_closed()
        self.answered.set()  # nobody waits on for a channel whose connection has ended


class _Packets(Packetizer):  # type: ignore[misc]
    """Bounds the handshake by looking at the clock: paramiko starts a thread for it, one a connection, which is felt with many at once."""

    _ends = math.inf

    def start_handshake(self, timeout: float) -> None:
        self._ends = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        return time.monotonic() > self._ends

    def complete_handshake(self) -> None:
        self._ends = math.inf


class EagerTransport(paramiko.Transport):  # type: ignore[misc]
    """A connection whose logins and channels wait for nothing they need not wait for."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, packetizer_class=_Packets, **settings)
        # paramiko's table holds the functions of its own class, past those of a subclass.
        table = paramiko.Transport._channel_handler_table
        self._channel_handler_table = {kind: partial(_hand_to, handler.__name__) for kind, handler in table.items()}

    @property
    def takes_guesses(self) -> bool:
        """Whether the server is one that takes a command ahead of its channel."""
        return knows(self.remote_version)

    def log_in(self, user: str, key: paramiko.PKey, behind: Callable[[], None] | None = None) -> None:
        """As paramiko's `auth_publickey`; `behind` sends more before the answer is there. Raises as well where a key is not enough."""
        if not self.active or not self.initial_kex_done:
            raise SSHException("No existing session")
        answered = threading.Event()
        self.auth_handler = Login(self)
        self.auth_handler.auth_publickey(user, key, answered)
        if behind is not None:
            behind()
        try:
            further = self.auth_handler.wait_for_response(answered)
        except Exception:
            if not self.authenticated:  # it was: what ended the connection came behind that, and is told to whom it concerns
                raise
        else:
            if further:
                raise SSHException(f"the server asks for {' or '.join(further)} as well")

    def request_session(self) -> Session:
        """Ask for a channel and do not wait: paramiko's `open_channel` without its end."""
        if not self.active:
            raise SSHException("SSH session not active")
        with self.lock:
            session = Session(self._next_channel())
            self._channels.put(session.chanid, session)
            self.channel_events[session.chanid] = session.answered
            self.channels_seen[session.chanid] = True
            session._set_transport(self)
            session._set_window(self.default_window_size, self.default_max_packet_size)
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string("session")
        message.add_int(session.chanid)
        message.add_int(self.default_window_size)
        message.add_int(self.default_max_packet_size)
        self._send_user_message(message)
        return session

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        session = self._channels.get(message.get_int())
        message.rewind()
        if isinstance(session, Session):
            session.is_refused = True
        super()._parse_channel_open_failure(message)


def _hand_to(name: str, channel: paramiko.Channel, message: paramiko.Message) -> None:
    getattr(channel, name)(message)
