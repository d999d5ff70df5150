"""What a box knows of a job besides the job itself: what it had to do, and what happened, around
the moment that matters."""

import contextlib
import time
from pathlib import Path

from remote.contract.job.jobs import JobState
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.contract.telemetry import evidence
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry.evidence import Evidence, Places
from remote.contract.telemetry.timeline import Event
from remote.payload.telemetry import kernel
from remote.payload.telemetry.box_events import WATCHDOGS, BoxEvents

_KEPT_MINUTES = 24 * 60.0
_KEPT_SAMPLES = 3600


def evidence_of(box: BoxPaths, state: JobState, minutes: float) -> Evidence:
    """What the box knows of the job in that state, with so many minutes before the moment."""
    paths = box.job(state.job_id)
    happened = (each.event for each in BoxEvents(box.timeline, WATCHDOGS, 0.0, {}).new())
    more = [*happened, *_kernel_events(state.started_at)]
    source = telemetry_of(box, paths, state)
    return evidence.gather(
        Places(paths, source, evidence.timeline_of(paths)),
        state,
        time.time(),
        minutes,
        more,
        "the box",
    )


def telemetry_of(box: BoxPaths, paths: JobPaths, state: JobState) -> Path:
    """The box's own samples; those set aside with the job where it ran on another box, or so long
    ago that the box's have gone."""
    aside = evidence.telemetry_of(paths)
    began = state.started_at or time.time()
    has_own = not aside.exists() or telemetry.read(
        box.telemetry, began, (state.ended_at or began) + evidence.AFTER_SECONDS
    )
    return box.telemetry if has_own else aside


def keep(box: BoxPaths, state: JobState) -> list[Path]:
    """Set aside in the job's folder what the box's own files, which are bounded, hold of the job's
    time; returns what lies there now.

    Never raises OSError: the end of a job does not fail for want of its curves.
    """
    paths = box.job(state.job_id)
    if not state.started_at:
        return []
    with contextlib.suppress(OSError, ValueError):
        found = evidence_of(box, state, _KEPT_MINUTES)
        earlier = telemetry.read(
            evidence.telemetry_of(paths), until=state.started_at
        )  # of another attempt, maybe on another box
        samples = [
            *earlier,
            *telemetry.read(box.telemetry, state.started_at, found.moment + evidence.AFTER_SECONDS),
        ]
        _write(
            evidence.telemetry_of(paths),
            [sample.to_line() for sample in evidence.thinned(samples, _KEPT_SAMPLES)],
        )
        _write(evidence.timeline_of(paths), [event.to_line() for event in found.events])
    return [
        path
        for path in (evidence.telemetry_of(paths), evidence.timeline_of(paths))
        if path.exists()
    ]


def _write(path: Path, lines: list[str]) -> None:
    if lines:
        path.write_text("".join(lines))


def _kernel_events(since: float) -> list[Event]:
    """What no sampler has noted yet, or has lived to note."""
    if not since:
        return []
    return [
        Event(moment, "kernel", "error", text)
        for moment, text in kernel.lines(since)
        if kernel.classify(text)
    ]
