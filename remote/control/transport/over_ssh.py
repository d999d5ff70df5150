"""A box over SSH: one connection, every command a channel of it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import paramiko
from paramiko.ssh_exception import SSHException

from remote.control.errors import BoxUnreachable
from remote.control.ssh.connection import PACKET_BYTES, Address, BoxConnection, plainly
from remote.control.ssh.login_shell import Opening
from remote.control.transport.base import Feeder, Result, Stdin, Tail, run_to_end

FREE_SECONDS = 1.0
"""How long a server that takes few sessions (MaxSessions) may need to notice that one has ended."""
READ_BYTES = 512 * 1024


class SshTransport:
    """One connection to a box, opened with the first command and again after a loss. `pinned` gives
    the host keys for an alias."""

    def __init__(self, address: Address, pinned: Callable[[str], list[str]]) -> None:
        self.address, self.where = address, address.where
        self.round_trips = self.bytes_sent = 0
        self._pinned = pinned
        self._connection: BoxConnection | None = None
        self._lock = threading.Lock()

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout), self.where)

    def open(
        self,
        command: str,
        stdin: Stdin = b"",
        timeout: float | None = None,
        silence: float | None = None,
    ) -> "SshStream":
        """Start a command."""
        self.round_trips += 1
        self.bytes_sent += len(command.encode())
        opening = Opening(
            command,
            stdin != b"",
            self.where,
            self.address.name,
            self.address.user,
            self.address.dead_after,
        )
        connection, channel = self._channel()
        try:
            channel.exec_command(opening.line)
        except (
            SSHException,
            OSError,
            EOFError,
        ) as error:  # it may run, or not: from here on only the caller may try again
            if connection.is_connected:
                raise self._refused(str(error)) from None
            self._drop(connection)
            raise self._lost(connection.why_lost(error)) from None
        connection.settled()
        opening.sent()
        return SshStream(self, connection, channel, opening, stdin, timeout, silence)

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

    def _channel(self) -> tuple[BoxConnection, paramiko.Channel]:
        """A channel on which nothing was said yet; over a connection made anew, once, where the one
        at hand proves dead."""
        until = time.monotonic() + FREE_SECONDS
        while True:
            connection, is_new = self._connected()
            try:
                return connection, connection.create_session()
            except paramiko.ChannelException as error:
                if time.monotonic() > until:
                    raise self._refused(error.text) from None
                time.sleep(FREE_SECONDS / 20)
            except (SSHException, OSError, EOFError) as error:
                self._drop(connection)
                if is_new:
                    raise self._lost(connection.why_lost(error)) from None

    def _connected(self) -> tuple[BoxConnection, bool]:
        with self._lock:
            is_new = self._connection is None or not self._connection.is_connected
            if self._connection is None or is_new:
                self._connection = BoxConnection(self.address, self._pinned(self.address.alias))
                self._connection.open()
            return self._connection, is_new

    def _drop(self, connection: BoxConnection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.close()

    def _refused(self, why: str) -> BoxUnreachable:
        return BoxUnreachable(
            f"{self.where} runs no further command over this connection",
            where=self.where,
            why=why,
            remedy=(
                "its sshd must allow commands (ForceCommand, MaxSessions); with fewer commands side"
                " by side: run it again"
            ),
        )

    def _lost(self, why: object) -> BoxUnreachable:
        return BoxUnreachable(
            f"the connection to {self.where} was lost",
            where=self.where,
            why=plainly(why),
            remedy=(
                f"`./inv status` shows whether {self.address.name} runs; then run the same command"
                " again: it goes on where it was"
            ),
        )


class SshStream:
    """A command that runs in a channel of its own."""

    def __init__(
        self,
        transport: SshTransport,
        connection: BoxConnection,
        channel: paramiko.Channel,
        opening: Opening,
        stdin: Stdin,
        timeout: float | None,
        silence: float | None,
    ) -> None:
        self._transport, self._connection, self._channel, self._opening = (
            transport,
            connection,
            channel,
            opening,
        )
        self._timeout, self._silence = timeout, silence
        self._deadline = time.monotonic() + timeout if timeout is not None else None
        self.exit_code = -1
        """The exit code, after the output is exhausted; -1 when a signal killed the command."""
        self._stderr = Tail(self._read_stderr)
        self._stderr.begin()
        piece = channel.out_max_packet_size - 64
        self._feeder = Feeder(
            stdin,
            piece,
            opening.before_input,
            write=self._send,
            finish=channel.shutdown_write,
            abort=channel.close,
        )

    @property
    def stderr(self) -> bytes:
        """The end of standard error."""
        return self._stderr.content

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._read():
            if output := self._opening.passed(chunk):
                yield output
        self._stderr.join()
        self.exit_code = self._status()
        self._opening.check(self.exit_code, self.stderr)

    def __enter__(self) -> "SshStream":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(
            EOFError, OSError
        ):  # on a dying connection closing fails too, and must not hide why
            self._channel.close()
        self._feeder.join(self._transport.address.dead_after)
        self._transport.bytes_sent += self._feeder.sent

    def _read(self) -> bytes:
        if self._remaining() == 0:  # however much it goes on to say
            raise self._transport._lost(f"no end within {self._timeout:g} s")
        first = self._opening.remaining
        limits = [
            seconds
            for seconds in (self._silence if first is None else first, self._remaining())
            if seconds is not None
        ]
        self._channel.settimeout(min(limits) if limits else None)
        try:
            return bytes(self._channel.recv(READ_BYTES))
        except TimeoutError:
            if self._opening.remaining == 0:
                raise self._opening.silent() from None
            seconds = self._timeout if self._remaining() == 0 else self._silence
            raise self._transport._lost(f"no answer within {seconds:g} s") from None
        except (
            SSHException,
            OSError,
            EOFError,
        ) as error:  # receiving also sends, to widen the window: that fails on a dying connection
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
        if self._feeder.error is not None:
            raise self._feeder.error
        status: int = self._channel.exit_status
        if status == -1 and self._is_lost():
            raise self._transport._lost(self._connection.why_lost())
        return status

    def _is_lost(self) -> bool:
        # A closing connection ends its channels first, then itself: give it that moment.
        self._connection.transport.join(0.5)
        return not self._connection.is_connected
