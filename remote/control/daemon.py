"""A background process of the project's own on this laptop: started once, found again, ended for
sure.

The embedded cloud and the embedded Ollama run this way. A record beside its log names the process
by pid and start time, so that a reused pid is never mistaken for it; a lock keeps two commands from
starting it twice.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, typed, untrusted_json
from remote.contract.job import surroundings
from remote.control.errors import LaptopError
from remote.control.project import CODE

_STRAY_SECONDS = 20.0


def run_module(
    module: str, *arguments: str, stdin: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    """Run a module of this checkout to its end, with little of the environment."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=stdin,
        capture_output=True,
        cwd=CODE,
        env=surroundings.passed_on(os.environ),
        check=False,
    )


@dataclass(frozen=True)
class Daemon:
    """One background process. `module` is run with `python -m module *arguments FOLDER`; it calls
    `announce` when it serves.

    `folder` holds `record.json`, `log` and whatever the process keeps; `variables` are the groups
    of `remote.contract.job.surroundings` that it needs of the caller's environment beside the base:
    whoever starts it may have tokens there, and it lives on.
    """

    name: str
    module: str
    folder: Path
    arguments: Sequence[str] = ()
    variables: Sequence[str] = ()

    @property
    def _record(self) -> Path:
        return self.folder / "record.json"

    def running(self) -> dict[str, Any] | None:
        """What the living process announced, or None."""
        try:
            record = untrusted_json.read_object(self._record, max_bytes=untrusted_json.RECORD_BYTES)
            pid = typed.value(int, record["pid"], "pid")
        except (OSError, ValueError, KeyError, TypeError):  # what cannot be read names no process
            return None
        started = start_time_of(pid) if pid > 1 and isinstance(record.get("url"), str) else None
        return record if started is not None and started == record.get("start_time") else None

    def start(self, patience_seconds: float = 60) -> dict[str, Any]:
        """The living process's announcement, after starting it where needed. Raises LaptopError
        when it does not come up."""
        with self._locked():
            if record := self.running():
                return record
            self._end_strays()
            self._forget()
            with open(self.folder / "log", "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", self.module, *self.arguments, str(self.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=CODE,
                    env=surroundings.passed_on(os.environ, *self.variables),
                )
            try:
                return self._await(process, patience_seconds)
            except BaseException:
                # Ctrl-C, or too slow: unannounced it would be a process that nobody finds again.
                _end_group(process.pid)
                process.wait()
                raise

    def stop(self, patience_seconds: float = 20) -> bool:
        """End the process and all it started; returns whether there was one."""
        with self._locked():
            record = self.running()
            if not record:
                return self._end_strays()
            with contextlib.suppress(ProcessLookupError):
                os.kill(record["pid"], signal.SIGTERM)
            deadline = time.monotonic() + patience_seconds
            while (
                start_time_of(record["pid"]) == record["start_time"] and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            _end_group(record["pid"])
            self._forget()
            return True

    def _end_strays(self) -> bool:
        """End what no record names, because it was damaged: two at once would write the same files.
        Returns whether there was one."""
        found = [
            pid
            for pid, words in _processes()
            if self.module in words and words[-1] == str(self.folder)
        ]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STRAY_SECONDS
            while start_time_of(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            _end_group(pid)
        return bool(found)

    def _forget(self) -> None:
        if self._record.is_dir() and not self._record.is_symlink():
            shutil.rmtree(self._record)
        self._record.unlink(missing_ok=True)

    def _await(self, process: "subprocess.Popen[bytes]", patience_seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            if record := self.running():
                # Reaped whenever it ends: a command that lives longer must leave no zombie.
                threading.Thread(target=process.wait, daemon=True).start()
                return record
            if process.poll() is not None:
                break
            time.sleep(0.03)
        tail = (self.folder / "log").read_text(errors="replace").strip().splitlines()[-5:]
        raise LaptopError(
            f"{self.name} did not start",
            where="this laptop",
            why=" | ".join(tail),
            remedy=f"read {self.folder / 'log'}",
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def announce(folder: Path, **facts: Any) -> None:
    """Called by the process itself once it serves: leaves its pid, start time and `facts` (its
    `url` among them) for `Daemon`."""
    pid = os.getpid()
    atomic.write_json(
        folder / "record.json", {"pid": pid, "start_time": start_time_of(pid), **facts}
    )


def _processes() -> Iterator[tuple[int, list[str]]]:
    """The caller's own processes, with the words that each was started with. None where there is no
    /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if words and folder.stat().st_uid == os.getuid():
                yield int(folder.name), words


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def start_time_of(pid: int) -> str | None:
    """An opaque mark of when the process started, or None when there is none (a zombie counts as
    none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended between open and read
        if Path("/proc/self").exists():
            return None
    listing = subprocess.run(
        ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip() or None
