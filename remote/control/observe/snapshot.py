"""What a box tells of itself and its jobs, as far as it can be read: a box of another Windlass may
lack a key, or have another type."""

from dataclasses import dataclass, field
from typing import Any

from remote.contract.files import typed
from remote.contract.job.clocks import Reading
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.samples import Sample


@dataclass(frozen=True)
class JobTold:
    """A job under way, or lately ended: `metric` is its newest measurement, `line` its log's last
    line."""

    job_id: str
    status: str
    run_id: str = ""
    stage: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    what: str = ""
    place: int = 0
    line: str = ""
    metric: Metric | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status not in ("RUNNING", "PENDING")


@dataclass(frozen=True)
class _Box:
    at: float = 0.0
    sample: Sample | None = None
    gpu_silent: bool = False
    clocks: Reading | None = None


@dataclass(frozen=True)
class Told(_Box):
    """A box at the moment `at`, by its own clock (0: it did not say). `is_whole`: all of it could
    be read."""

    jobs: list[JobTold] = field(default_factory=list)
    is_whole: bool = True


def read(raw: Any) -> Told:
    """What a box told (see `remote.payload.telemetry.top`), as far as it can be read."""
    raw = raw if isinstance(raw, dict) else {}
    listed = raw.get("jobs")
    jobs = [typed.loosely(JobTold, each) for each in listed] if isinstance(listed, list) else []
    told, is_whole = typed.loosely(
        _Box, {name: raw.get(name) for name in _Box.__dataclass_fields__}
    )
    assert told is not None  # nothing must be there
    is_whole &= isinstance(listed, list) and all(whole for _, whole in jobs)
    return Told(**vars(told), jobs=[job for job, _ in jobs if job], is_whole=is_whole)
