"""Reads what the box has to do, out of /proc and from its GPUs. Linux, standard library only."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry.samples import Gpu, Sample
from remote.payload.telemetry.gpus import Watch

_SECTOR_BYTES = 512
"""The unit of /proc/diskstats, whatever the disk's own is:
Documentation/admin-guide/iostats.rst."""

_NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")
"""Block devices that are no disks of their own: what passes them passes a disk as well, or
memory."""


@dataclass(frozen=True)
class _Counts:
    """What the kernel has counted so far: processor ticks busy and in all; bytes."""

    busy: int
    ticks: int
    received: int
    sent: int
    read: int
    written: int


class Meter:
    """Takes samples; rates are of the time since the one before, the first of the time since the
    meter was made."""

    def __init__(self, root: Path, every_seconds: float) -> None:
        self._root = root
        self._gpus = Watch(BoxPaths(root).environments, every_seconds)
        self._before, self._at = _counts(), time.monotonic()

    @property
    def is_gpu_silent(self) -> bool:
        """Whether the GPU's driver has stopped to answer."""
        return self._gpus.is_silent

    def sample(self, gpu_patience_seconds: float = 0.0) -> Sample:
        """What the box does now. Raises OSError when the root is gone."""
        gpus = [_rounded(gpu) for gpu in self._gpus.latest(gpu_patience_seconds)]
        now, counts = time.monotonic(), _counts()
        before, seconds = self._before, max(now - self._at, 1e-6)
        self._before, self._at = counts, now
        disk = shutil.disk_usage(self._root)
        total, available = _memory()
        received, sent, read, written = (
            round(max(0, getattr(counts, name) - getattr(before, name)) / seconds)
            for name in ("received", "sent", "read", "written")
        )
        return Sample(
            round(time.time(), 2),
            round((counts.busy - before.busy) / max(counts.ticks - before.ticks, 1), 3),
            round((total - available) / 1e9, 3),
            round(total / 1e9, 3),
            round(disk.free / 1e9, 3),
            round(disk.total / 1e9, 3),
            received,
            sent,
            read,
            written,
            gpus,
        )


def _rounded(gpu: Gpu) -> Gpu:
    fields: dict[str, Any] = {
        name: round(value, 2) for name, value in vars(gpu).items() if isinstance(value, float)
    }
    return replace(gpu, **fields)


def _counts() -> _Counts:
    ticks = [
        int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ]  # guests count as user already
    idle = ticks[3] + ticks[4]
    return _Counts(sum(ticks) - idle, sum(ticks), *_network(), *_disks())


def _memory() -> tuple[int, int]:
    """All of it, and what a new process may have, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available


def _network() -> tuple[int, int]:
    received = sent = 0
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, told = line.partition(":")
        fields = told.split()
        if name.strip() != "lo" and len(fields) > 8:
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def _disks() -> tuple[int, int]:
    read = written = 0
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        name = fields[2]
        # A partition has no folder of its own there: its disk counts for it.
        if not name.startswith(_NO_DISKS) and Path("/sys/block", name.replace("/", "!")).exists():
            read, written = read + int(fields[5]), written + int(fields[9])
    return read * _SECTOR_BYTES, written * _SECTOR_BYTES
