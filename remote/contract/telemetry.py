"""What a box has to do, every few seconds: one line of JSON a sample, bounded in size."""

import json
from dataclasses import asdict, dataclass, field

KEPT_BYTES = 4 * 1024 * 1024
"""When the file is larger, it becomes `telemetry.jsonl.1`, in place of an older one."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: `busy` is the share of time with a kernel running (0 to 1), memory in GB (1e9 bytes), power in watts, temperature in
    degrees Celsius; None where the driver does not tell."""

    index: int
    name: str
    busy: float | None = None
    memory_gb: float | None = None
    memory_total_gb: float | None = None
    watts: float | None = None
    celsius: float | None = None


@dataclass(frozen=True)
class Sample:
    """The box at `time` (seconds since the epoch, UTC). `cpu` is the busy share of all processors (0 to 1) since the sample before;
    memory and disk in GB (1e9 bytes), `disk_free_gb` where Windlass lies; network and disk traffic in bytes a second."""

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
        """Read a line; raises ValueError or TypeError when it is none."""
        raw = json.loads(line)
        return cls(**{**raw, "gpus": [Gpu(**each) for each in raw.get("gpus", ())]})
