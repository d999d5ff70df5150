"""A box's SSH server from a library (asyncssh), for machines without OpenSSH's sshd.

It treats processes as sshd does: each command in a session of its own, ended by the loss of its
terminal but never by the loss of the connection; the channel closes when the command has ended and
nobody holds its output any more.

    python -m remote.embedded.instances.asyncssh_server FOLDER HOST PORT HOST_KEY AUTHORIZED_KEYS
"""

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from remote.embedded.instances.guest import shell
from remote.embedded.instances.instance_connect import keys_file

if TYPE_CHECKING:
    import asyncssh


def command(folder: Path, host: str, port: int, host_key: Path, authorized_keys: Path) -> list[str]:
    """The command line that serves one box in the foreground."""
    return [
        sys.executable,
        "-m",
        __name__,
        str(folder),
        host,
        str(port),
        str(host_key),
        str(authorized_keys),
    ]


async def serve(folder: Path, host: str, port: int, host_key: Path, authorized_keys: Path) -> None:
    """Serve one box until the process is ended."""
    import asyncssh

    class Server(asyncssh.SSHServer):  # type: ignore[misc]
        """Reads the authorized keys anew for every login: user-data may add some."""

        def connection_made(self, conn: "asyncssh.SSHServerConnection") -> None:
            self._connection = conn

        def begin_auth(self, username: str) -> bool:
            files = (authorized_keys, keys_file(folder))
            self._connection.set_authorized_keys([str(path) for path in files if path.exists()])
            return True

    os.chdir(folder / "disk")
    server = await asyncssh.listen(
        host,
        port,
        server_factory=Server,
        server_host_keys=[str(host_key)],
        encoding=None,
        line_editor=False,
        process_factory=lambda process: run(process, folder / "enter"),
        sftp_factory=True,
        allow_scp=False,
        backlog=200,
    )
    await server.wait_closed()


async def run(process: "asyncssh.SSHServerProcess[bytes]", enter: Path) -> None:
    """One exec or shell request, from its start to its exit status."""
    import asyncssh

    ends, own_ends, become_terminal = (
        _terminal(*process.term_size[:2]) if process.term_type else _pipes()
    )
    child = await asyncio.create_subprocess_exec(
        enter,
        env=_environment(process, enter),
        stdin=ends[0],
        stdout=ends[1],
        stderr=ends[2],
        start_new_session=True,
        preexec_fn=become_terminal,
    )
    for end in set(ends):
        os.close(end)
    await process.redirect(None, *own_ends[1:], send_eof=False)
    feeding = asyncio.create_task(_feed(process, own_ends[0], child.pid))
    code = await child.wait()
    feeding.cancel()
    with contextlib.suppress(OSError, asyncssh.Error):
        await process.stdout.drain()
        await process.stderr.drain()
        _tell(process, code)


async def _feed(process: "asyncssh.SSHServerProcess[bytes]", stdin: int, group: int) -> None:
    """The client's bytes, signals and window sizes to the command, until the client has no more.

    Not by `redirect`: asyncio's write pipe drops what it still holds if the end of the stream comes
    while it makes room (Python 3.11). What the command no longer reads is read and thrown away, as
    sshd does.
    """
    import asyncssh

    os.set_blocking(stdin, False)
    takes = True
    try:
        while chunk := await _next(process, stdin, group):
            takes = takes and await _write(stdin, chunk)
    except (OSError, asyncssh.Error):
        return
    finally:
        os.close(stdin)


async def _next(process: "asyncssh.SSHServerProcess[bytes]", terminal: int, group: int) -> bytes:
    """The client's next bytes, none at the end of its stream; what else it asks for in between is
    done."""
    import asyncssh

    while True:
        try:
            return bytes(await process.stdin.read(1 << 16))
        except asyncssh.TerminalSizeChanged as change:
            _resize(terminal, change.width, change.height)
        except asyncssh.SignalReceived as received:
            _signal(group, received.signal)
        except (asyncssh.BreakReceived, asyncssh.SoftEOFReceived):
            continue


async def _write(end: int, content: bytes) -> bool:
    """All of `content` into a pipe that may be full; False when nobody reads it any more."""
    loop = asyncio.get_running_loop()
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(end, rest) :]
        except BlockingIOError:
            room = asyncio.Event()
            loop.add_writer(end, room.set)
            try:
                await room.wait()
            finally:
                loop.remove_writer(end)
        except OSError:
            return False
    return True


def _resize(terminal: int, columns: int, rows: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _signal(group: int, name: str) -> None:
    with contextlib.suppress(KeyError, ProcessLookupError):
        os.killpg(group, signal.Signals[f"SIG{name}"])


def _tell(process: "asyncssh.SSHServerProcess[bytes]", code: int) -> None:
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


def _environment(process: "asyncssh.SSHServerProcess[bytes]", enter: Path) -> dict[str, str]:
    """What sshd sets itself; `enter` adds all else."""
    peer, here = (process.get_extra_info(name) for name in ("peername", "sockname"))
    return {
        "HOME": str(enter.parent / "disk"),
        "SHELL": shell(),
        "SSH_CLIENT": f"{peer[0]} {peer[1]} {here[1]}",
        "SSH_CONNECTION": f"{peer[0]} {peer[1]} {here[0]} {here[1]}",
        **({"SSH_ORIGINAL_COMMAND": process.command} if process.command else {}),
        **({"TERM": process.term_type} if process.term_type else {}),
    }


Ends = tuple[tuple[int, int, int], tuple[int, int, int | None], Callable[[], object] | None]


def _pipes() -> Ends:
    """Three pipes: the command's ends (stdin, stdout, stderr), and ours."""
    (stdin, feed), (output, stdout), (errors, stderr) = os.pipe(), os.pipe(), os.pipe()
    return (stdin, stdout, stderr), (feed, output, errors), None


def _terminal(columns: int, rows: int) -> Ends:
    """A pseudo-terminal: its closing hangs up on the command."""
    master, slave = pty.openpty()
    _resize(slave, columns, rows)
    return (
        (slave, slave, slave),
        (os.dup(master), master, None),
        lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )


if __name__ == "__main__":
    home, address, port_number, *keys = sys.argv[1:]
    asyncio.run(serve(Path(home), address, int(port_number), *map(Path, keys)))
