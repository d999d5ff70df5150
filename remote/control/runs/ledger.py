"""The ledger of a run: `runs/<run-id>/events.jsonl`, append-only, the only truth on the laptop
about what happened.

Everything else in the folder can be made again: `state.json` is the events folded (see
`remote.control.runs.state`), logs and artifacts come from the box.
"""

import contextlib
import fcntl
import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from remote.contract.files import atomic, regular_files, untrusted_json
from remote.contract.job.jobs import LATEST
from remote.control.errors import ArtifactCorrupt, Busy
from remote.control.project import keep_private, runs_folder
from remote.control.secrets import masked, masked_value

Event = dict[str, Any]

MAX_BYTES = 256 << 20
"""No ledger is larger: an event is a line, and a run has some dozens."""

_LOOK_SECONDS = 0.5


class Ledger:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = folder.name

    @classmethod
    def create(cls, name: str) -> "Ledger":
        """A new run called after `name` and the time; its folder exists afterwards."""
        run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{secrets.token_hex(2)}"
        folder = runs_folder() / run_id
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        keep_private(runs_folder())
        return cls(folder)

    @property
    def path(self) -> Path:
        """The events, one JSON object a line."""
        return self.folder / "events.jsonl"

    def append(self, event: str, **facts: Any) -> Event:
        """Write one event for good: it is on the disk when this returns."""
        line: Event = masked_value({"event": event, "time": time.time(), **facts})
        with open(self.path, "ab+", opener=_private) as file:
            if not _ends_a_line(file):
                file.write(
                    b"\n"
                )  # a kill tore the last line; what stands of it is skipped by `events`
            file.write(
                json.dumps(line, sort_keys=True, default=lambda each: masked(str(each))).encode()
                + b"\n"
            )
            file.flush()
            os.fsync(file.fileno())
        return line

    def events(self) -> list[Event]:
        """Every whole event, oldest first; a line torn by a kill, or damaged otherwise, is left
        out. Raises ArtifactCorrupt where the file itself cannot be read."""
        return [event for line in self._lines() if (event := _parse(line))]

    def unread(self) -> list[int]:
        """The numbers of the lines that hold no event."""
        return [
            number
            for number, line in enumerate(self._lines(), 1)
            if line.strip() and _parse(line) is None
        ]

    def _lines(self) -> list[bytes]:
        try:
            return regular_files.content_of(self.path, MAX_BYTES).split(b"\n")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ArtifactCorrupt(
                f"the ledger of run {self.run_id} cannot be read",
                where=str(self.path),
                why=str(error),
                remedy=(
                    f"bring that file back from a backup, or move {self.folder} out of"
                    f" {self.folder.parent}"
                ),
            ) from None

    @contextlib.contextmanager
    def locked(self, purpose: str) -> Iterator[None]:
        """Drive this run alone; raises Busy, naming the holder, when another command does."""
        keep_private(self.folder, whole=True)
        with open(self.folder / "lock", "a+", opener=_private) as lock:
            if not _lock_soon(lock):
                lock.seek(0)
                raise Busy(
                    f"run {self.run_id} is driven by another command",
                    why=lock.read().strip(),
                    remedy=f"watch it with `./inv logs {self.run_id} -f`, or wait until it ends",
                )
            atomic.remove_abandoned(self.folder)
            lock.truncate(0)
            lock.write(
                f"{purpose} by {getpass.getuser()}@{socket.gethostname()}, pid {os.getpid()}, since"
                f" {time.ctime()}\n"
            )
            lock.flush()
            try:
                yield
            finally:
                keep_private(self.folder, whole=True)

    def is_driven(self) -> bool:
        """Whether a living command holds the lock."""
        with (
            contextlib.suppress(OSError),
            open(self.folder / "lock", "a+", opener=_private) as lock,
        ):
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def all_runs() -> list[Ledger]:
    """Every run of the project, newest first."""
    folder = runs_folder()
    found = [path.parent for path in folder.glob("*/events.jsonl")] if folder.exists() else []
    return [Ledger(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def _lock_soon(lock: IO[str]) -> bool:
    # One who only looks (`is_driven`) holds it for an instant: that is nobody to be turned away by.
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.02)


def _parse(line: bytes) -> Event | None:
    try:
        event = untrusted_json.loads_object(line)
    except ValueError:
        return None
    moment = event.get("time")
    is_timed = (
        isinstance(moment, int | float) and not isinstance(moment, bool) and 0 <= moment <= LATEST
    )
    return event if isinstance(event.get("event"), str) and is_timed else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ends_a_line(file: Any) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
