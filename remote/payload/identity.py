"""A process by its pid, start time and boot, as a file keeps it. Linux, standard library only.

Apart from `process`, which travels with the watchdog and must stay small.
"""

import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from remote.contract.files import atomic, typed, untrusted_json
from remote.payload import process


@dataclass(frozen=True)
class Identity:
    """A process, told from every other one that ever had its pid."""

    pid: int
    ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """The process that has that pid now."""
        return cls(pid, process.start_ticks(pid), process.boot_id())

    @classmethod
    def read(cls, path: Path) -> "Identity | None":
        """The one that `write` left there; None where nothing was."""
        try:
            return typed.read(
                cls, untrusted_json.read_object(path, max_bytes=untrusted_json.RECORD_BYTES)
            )
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path, **more: str) -> None:
        """Keep it in a file, with whatever else is to be known."""
        atomic.write_json(path, {**asdict(self), **more})

    def lives(self) -> bool:
        """Whether it still runs."""
        return process.is_alive(self.pid, self.ticks, self.boot)

    def kill_group(self, seconds: float = 10.0) -> None:
        """Kill the group that it leads or led, and wait for its own end. Nothing where another
        process has its pid now."""
        if self.boot != process.boot_id() or process.start_ticks(self.pid) not in (0, self.ticks):
            return
        process.signal_group(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + seconds
        while self.lives() and time.monotonic() < deadline:
            time.sleep(0.01)
