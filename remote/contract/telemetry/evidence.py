"""What is known of a job around the moment that matters: its end, or now. Gathered where its files
lie, told on the laptop."""

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import regular_files, typed
from remote.contract.job.jobs import JobSpec, JobState, Status
from remote.contract.job.paths import JobPaths
from remote.contract.logs import job_log
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry import timeline
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.samples import Sample
from remote.contract.telemetry.timeline import Event

TAIL_BYTES = 32 * 1024
TAIL_LINES = 40
AFTER_SECONDS = 120.0
"""How long after the moment things are still told: the kernel and the watchdog may have spoken
later."""

_LINE_CHARACTERS = 2000
_METRICS = 300
_METRICS_BYTES = 1 << 20
_SAMPLES = 240
_MOST_TOLD = 10_000
"""Of each kind, by a box that thins out nothing."""


@dataclass(frozen=True)
class Evidence:
    """A job and what surrounds its `moment` (seconds since the epoch, UTC): its end, or `now` while
    it goes on, or its last sign of life where it was lost. `log` holds its last lines, the last of
    them written at `log_at` (0: not known). `source` says in words where this comes from."""

    state: JobState
    run_id: str
    moment: float
    now: float
    log: list[str] = field(default_factory=list)
    log_at: float = 0.0
    metrics: list[Metric] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """The evidence as plain values."""
        return {**asdict(self), "state": self.state.to_dict()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Evidence":
        """Read evidence; raises ValueError, KeyError or TypeError when it is none. Unknown keys of
        a newer Windlass are left out."""
        for name in ("log", "metrics", "samples", "events"):
            if len(raw.get(name, ())) > _MOST_TOLD:
                raise ValueError(f"{len(raw[name]):,} {name}; at most {_MOST_TOLD:,} are taken")
        return typed.read(cls, {**raw, "state": JobState.of(dict(raw["state"]))})


@dataclass(frozen=True)
class Places:
    """Where a job's files lie: on its box, or in a folder that the bucket's were brought to."""

    job: JobPaths
    telemetry: Path
    timeline: Path


def gather(
    places: Places,
    state: JobState,
    now: float,
    minutes: float,
    more: Iterable[Event] = (),
    source: str = "",
) -> Evidence:
    """The evidence of the job in that state, with the `minutes` before the moment; `more` are
    events told elsewhere."""
    log, log_at = tail(places.job.folder)
    metrics = _metrics(places.job.metrics)
    moment = _moment(state, now, max([log_at, *(metric.time for metric in metrics[-1:])]))
    since = moment - minutes * 60
    samples = telemetry.read(
        places.telemetry, max(since, state.started_at - AFTER_SECONDS), moment + AFTER_SECONDS
    )
    told = [
        event
        for event in (*timeline.read(places.timeline, since), *more)
        if since <= event.time <= moment + AFTER_SECONDS
    ]
    events = sorted(
        {(event.source, event.text, round(event.time)): event for event in told}.values(),
        key=lambda event: event.time,
    )
    recent = [metric for metric in metrics if metric.time >= since][-_METRICS:] or metrics[-1:]
    return Evidence(
        state,
        _run_of(places.job),
        moment,
        now,
        log,
        log_at,
        recent,
        thinned(samples, _SAMPLES),
        events,
        source,
    )


def telemetry_of(paths: JobPaths) -> Path:
    """Where what the box had to do is kept with the job itself, once it has ended."""
    return paths.folder / "telemetry.jsonl"


def timeline_of(paths: JobPaths) -> Path:
    """Where what happened to the box is kept with the job itself, once it has ended."""
    return paths.folder / "timeline.jsonl"


def tail(folder: Path) -> tuple[list[str], float]:
    """The last lines of the log of the job in `folder`, and when the last of them was written (0:
    not known). What a progress bar wrote over is left out."""
    end = job_log.parts(folder)[-1].end
    _, content = job_log.read(folder, max(0, end - TAIL_BYTES), TAIL_BYTES)
    lines = [
        line.rstrip("\r").rpartition("\r")[2].rstrip()
        for line in content.decode(errors="replace").split("\n")
    ]
    if end > TAIL_BYTES:
        lines = lines[1:]  # the first is cut
    return [line[:_LINE_CHARACTERS] for line in lines if line][-TAIL_LINES:], _written_at(folder)


def thinned(samples: list[Sample], count: int) -> list[Sample]:
    """At most `count` of them, evenly, the last included."""
    if len(samples) <= count:
        return samples
    step = len(samples) / count
    return [samples[int((number + 1) * step) - 1] for number in range(count)]


def _written_at(folder: Path) -> float:
    told = 0.0
    for _, moment in job_log.times(folder):
        told = moment
    if not told:
        with contextlib.suppress(OSError):
            told = (folder / "log").stat().st_mtime
    return told


def _moment(state: JobState, now: float, last_sign: float) -> float:
    if state.status is Status.LOST:
        return last_sign or state.started_at or now
    return state.ended_at if state.status.is_final and state.ended_at else now


def _metrics(path: Path) -> list[Metric]:
    found = []
    with contextlib.suppress(OSError):
        for line in (
            regular_files.end_of(path, _METRICS_BYTES).decode(errors="replace").splitlines()
        ):
            with contextlib.suppress(ValueError, TypeError):
                found.append(Metric.from_line(line))
    return found


def _run_of(paths: JobPaths) -> str:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return JobSpec.read(paths.spec).run_id
    return ""
