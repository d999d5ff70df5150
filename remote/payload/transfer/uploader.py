"""The supervisor's hand for spilling: a process beside the stage, one at a time. Standard library
only."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from remote.contract.files import regular_files, untrusted_json
from remote.contract.job.paths import JobPaths
from remote.payload import process

LONGEST_SECONDS = 3600.0


class Spiller:
    """Spills one job. With `always`, every checkpoint as it comes, while the stage runs on."""

    def __init__(self, paths: JobPaths, interpreter: str, always: bool) -> None:
        self.paths, self.always, self._interpreter = paths, always, interpreter
        self._running: subprocess.Popen[bytes] | None = None
        self._newest = _newest(
            paths
        )  # what a job that goes on brought with it came from the bucket, or lies there

    def look(self) -> None:
        """Start spilling when there is a new checkpoint and nothing is under way."""
        if not self.always or (self._running and self._running.poll() is None):
            return
        newest = _newest(self.paths)
        if newest > self._newest:
            self._newest = newest
            self._running = self._start()

    def end(self) -> None:
        """End what is under way: a later spill takes over what it has not brought."""
        if self._running and self._running.poll() is None:
            self._running.kill()
            self._running.wait()

    def spill(self, seconds: float | None) -> str:
        """Spill now, in so many seconds; returns what is in the bucket then, or nothing when it
        failed. The log is `spill.log`."""
        self._running = self._start()
        try:
            self._running.wait(LONGEST_SECONDS if seconds is None else max(1.0, seconds))
        except subprocess.TimeoutExpired:
            self.end()
        return _what(self.paths.folder / "spill.log") if self._running.returncode == 0 else ""

    def _start(self) -> "subprocess.Popen[bytes]":
        release = str(Path.cwd())
        words = [
            self._interpreter,
            "-m",
            "remote.payload.transfer.upload",
            "job",
            self.paths.folder.name,
        ]
        with (self.paths.folder / "spill.log").open("wb") as log:
            return subprocess.Popen(
                words,
                cwd=release,
                env={**os.environ, "PYTHONPATH": release},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=process.end_with_parent,  # noqa: PLW1509 - the supervisor has one thread
            )


def _newest(paths: JobPaths) -> int:
    return max(
        (
            int(path.name[5:])
            for path in paths.checkpoints.glob("step-*")
            if path.name[5:].isdigit()
        ),
        default=-1,
    )


def _what(log: Path) -> str:
    with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        return str(
            untrusted_json.loads_object(regular_files.end_of(log, 65536).splitlines()[-1])["done"][
                "what"
            ]
        )
    return ""
