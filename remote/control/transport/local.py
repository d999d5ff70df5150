"""This machine in place of a box: the same commands, run by bash without SSH."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from remote.control.errors import BoxUnreachable
from remote.control.transport.base import Feeder, Result, Stdin, Tail, run_to_end

CHUNK_BYTES = 128 * 1024


class LocalTransport:
    """Runs every command in the folder `home`, with `environment` in place of this process's
    own."""

    def __init__(self, home: Path, where: str, environment: Mapping[str, str]) -> None:
        self.home, self.where = home, where
        self.round_trips = self.bytes_sent = 0
        self._environment = dict(environment)

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout), self.where)

    def open(
        self,
        command: str,
        stdin: Stdin = b"",
        timeout: float | None = None,
        silence: float | None = None,
    ) -> "LocalStream":
        """Start a command."""
        self.round_trips += 1
        self.bytes_sent += len(command.encode())
        return LocalStream(self, command, stdin, timeout, self._environment)

    def another(self) -> "LocalTransport":
        """The same machine again."""
        return LocalTransport(self.home, self.where, self._environment)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> "LocalTransport":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def of_this_machine(where: str) -> LocalTransport:
    """This machine, for jobs: commands start in the user's home folder and find the Python that
    runs Windlass as `python3`.

    What is typed here may have secrets in its environment: a job gets those that the inventory
    names, and no other. The Python environments are those that the embedded boxes share.
    """
    from remote.contract.job import surroundings
    from remote.control.project import state_folder

    given = surroundings.passed_on(os.environ, surroundings.PACKAGES, surroundings.COMPUTE)
    own = Path(sys.base_prefix) / "bin"
    python = own if (own / "python3").exists() else Path(sys.executable).parent
    environment = given | {
        "PATH": os.pathsep.join((str(python), given.get("PATH", os.defpath))),
        surroundings.LOCAL: "1",
        "WINDLASS_COMMON_ENVIRONMENTS": str(state_folder() / "environments"),
    }
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return LocalTransport(Path.home(), where, environment)


class LocalStream:
    """A running local command."""

    def __init__(
        self,
        transport: LocalTransport,
        command: str,
        stdin: Stdin,
        timeout: float | None,
        environment: dict[str, str],
    ) -> None:
        self._transport, self._timed_out = transport, False
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=transport.home,
            env=environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._stdin, self._stdout = _pipe(self._process.stdin), _pipe(self._process.stdout)
        self._stderr = Tail(lambda: os.read(_pipe(self._process.stderr).fileno(), CHUNK_BYTES))
        self._stderr.begin()
        self._feeder = Feeder(
            stdin, CHUNK_BYTES, write=self._write, finish=self._stdin.close, abort=self._kill
        )
        self._timer = threading.Timer(timeout, self._expire) if timeout is not None else None
        if self._timer:
            self._timer.start()

    @property
    def exit_code(self) -> int:
        """The exit code; -1 when a signal killed the command."""
        code = self._process.returncode
        return -1 if code is None or code < 0 else code

    @property
    def stderr(self) -> bytes:
        """The end of standard error."""
        return self._stderr.content

    def __iter__(self) -> Iterator[bytes]:
        while chunk := os.read(self._stdout.fileno(), CHUNK_BYTES):
            yield chunk
        self._stderr.join()
        self._process.wait()
        if self._feeder.error is not None:
            raise self._feeder.error
        if self._timed_out:
            raise BoxUnreachable(
                f"no answer from {self._transport.where} in time", where=self._transport.where
            )

    def __enter__(self) -> "LocalStream":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._timer:
            self._timer.cancel()
        self._stdout.close()
        if self._process.poll() is None:
            self._kill()
        self._process.wait()
        self._feeder.join()
        self._stderr.join()
        for pipe in (self._process.stdin, self._process.stderr):
            _pipe(pipe).close()
        self._transport.bytes_sent += self._feeder.sent

    def _write(self, piece: bytes) -> None:
        self._stdin.write(piece)

    def _expire(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)


def _pipe(pipe: "IO[bytes] | None") -> "IO[bytes]":
    assert pipe is not None
    return pipe
