"""What a box has to do, every few seconds: one line of JSON a sample, bounded in size."""

import contextlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from remote.contract.files import records, typed, untrusted_json

KEPT_BYTES = 4 * 1024 * 1024
"""When the file is larger, it becomes `telemetry.jsonl.1`, in place of an older one."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: `busy` is the share of time with a kernel running (0 to 1), memory in GB (1e9
    bytes), power in watts, temperature in degrees Celsius; None where the driver does not tell.
    `slowed` says why its clocks are held back for its own good (heat, a power brake), or is empty;
    `ecc_errors` counts the memory errors that could not be corrected since the driver was loaded.
    """

    index: int
    name: str
    busy: float | None = None
    memory_gb: float | None = None
    memory_total_gb: float | None = None
    watts: float | None = None
    celsius: float | None = None
    slowed: str = ""
    ecc_errors: int | None = None


@dataclass(frozen=True)
class Sample:
    """The box at `time` (seconds since the epoch, UTC). `cpu` is the busy share of all processors
    (0 to 1) since the sample before; memory and disk in GB (1e9 bytes), `disk_free_gb` where
    Windlass lies; network and disk traffic in bytes a second.
    """

    time: float
    cpu: float
    memory_gb: float
    memory_total_gb: float
    disk_free_gb: float
    disk_total_gb: float
    received: float = 0.0
    sent: float = 0.0
    disk_read: float = 0.0
    disk_written: float = 0.0
    gpus: list[Gpu] = field(default_factory=list)

    def to_line(self) -> str:
        """The sample as one line, newline included."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Sample":
        """Read a line; raises ValueError or TypeError when it is none. Unknown keys of a newer
        Windlass are left out."""
        return typed.read(cls, untrusted_json.loads(line))


def append(path: Path, sample: Sample) -> None:
    """Add a sample. Never raises OSError: a full disk costs the sample alone."""
    records.append(path, sample.to_line(), KEPT_BYTES)


def read(path: Path, since: float = 0.0, until: float = float("inf")) -> list[Sample]:
    """The samples from `since` to `until` that are kept, oldest first; lines that are no samples
    are left out."""
    found = []
    for line in records.lines(path):
        with contextlib.suppress(ValueError, TypeError):
            sample = Sample.from_line(line)
            if since <= sample.time <= until:
                found.append(sample)
    return found
