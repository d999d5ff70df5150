"""A box's SSH server from a library (asyncssh), for machines without OpenSSH's sshd: `python -m … FOLDER HOST PORT HOST_KEY AUTHORIZED_KEYS`.

It treats processes as sshd does: each command in a session of its own, gone only with its terminal, never with the connection;
the channel closes when the command has ended and nobody holds its output any more.
"""

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.control.cloud.embedded.guest import shell

if TYPE_CHECKING:
    import asyncssh


def command(folder: Path, host: str, port: int, host_key: Path, authorized_keys: Path) -> list[str]:
    """The command line that serves one box in the foreground."""
    return [sys.executable, "-m", __name__, str(folder), host, str(port), str(host_key), str(authorized_keys)]


async def serve(folder: Path, host: str, port: int, host_key: Path, authorized_keys: Path) -> None:
    """Serve one box until the process is ended."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        """Reads the authorized keys anew for every login: user-data may add some."""

        def connection_made(self, conn: "asyncssh.SSHServerConnection") -> None:
            self._connection = conn

        def begin_auth(self, username: str) -> bool:
            self._connection.set_authorized_keys(str(authorized_keys))
            return True

    os.chdir(folder / "disk")
    server = await asyncssh.listen(
        host, port, server_factory=Server, server_host_keys=[str(host_key)], encoding=None, line_editor=False,
        process_factory=lambda process: run(process, folder / "enter"), sftp_factory=True, allow_scp=False, backlog=200,
    )  # fmt: skip
    await server.wait_closed()


async def run(process: "asyncssh.SSHServerProcess[bytes]", enter: Path) -> None:
    """One exec or shell request, from its start to its exit status."""
    peer, here = (process.get_extra_info(name) for name in ("peername", "sockname"))
    environment = {
        "HOME": str(enter.parent / "disk"),
        "SHELL": shell(),
        "SSH_CLIENT": f"{peer[0]} {peer[1]} {here[1]}",
        "SSH_CONNECTION": f"{peer[0]} {peer[1]} {here[0]} {here[1]}",
        **({"SSH_ORIGINAL_COMMAND": process.command} if process.command else {}),
        **({"TERM": process.term_type} if process.term_type else {}),
    }
    start = _on_terminal if process.term_type else _on_pipes
    code = await start(process, enter, environment)
    if code < 0:
        import signal

        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


async def _on_pipes(process: "asyncssh.SSHServerProcess[bytes]", enter: Path, environment: dict[str, str]) -> int:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(enter, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    assert child.stdin and child.stdout and child.stderr
    feeding = asyncio.create_task(_feed(process, child.stdin))
    await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
    code = await child.wait()
    feeding.cancel()
    return code


async def _feed(process: "asyncssh.SSHServerProcess[bytes]", stdin: asyncio.StreamWriter) -> None:
    """The client's bytes to the command; the end of either closes the pipe."""
    with contextlib.suppress(OSError, _broken()):
        await _copy(process.stdin, stdin)
    stdin.close()


async def _copy(source: Any, target: Any) -> None:
    """Bytes from `source` to `target` with back-pressure. A vanished reader is no reason to end the writer: its pipe breaks, as with sshd."""
    with contextlib.suppress(ConnectionError, _broken()):
        while chunk := await source.read(1 << 16):
            target.write(chunk)
            await target.drain()


def _broken() -> type[Exception]:
    import asyncssh

    return asyncssh.Error


async def _on_terminal(process: "asyncssh.SSHServerProcess[bytes]", enter: Path, environment: dict[str, str]) -> int:
    master, slave = pty.openpty()
    columns, rows, *_ = process.term_size
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    child = await asyncio.create_subprocess_exec(
        enter, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    await process.redirect(stdin=os.dup(master), stdout=master, send_eof=False)
    waiting = asyncio.create_task(child.wait())
    leaving = asyncio.create_task(process.channel.wait_closed())
    await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    return await waiting


if __name__ == "__main__":
    home, address, port_number, *keys = sys.argv[1:]
    asyncio.run(serve(Path(home), address, int(port_number), *map(Path, keys)))
