"""What a box knows of a job besides the job itself: what it had to do, and what happened, around the moment that matters."""

import contextlib
import time
from calendar import timegm
from collections.abc import Iterator
from pathlib import Path

from remote.contract import evidence, telemetry, timeline
from remote.contract.evidence import Evidence, Places
from remote.contract.jobs import JobState
from remote.contract.paths import BoxPaths
from remote.contract.timeline import Event
from remote.payload import kernel

WATCHDOG_FOLDERS = (Path.home() / ".windlass-box", Path("/var/lib/windlass"))
"""Where the watchdog keeps its log and its readings: the first of them that is there. It is part of no release."""

_KEPT_MINUTES = 24 * 60.0
_KEPT_SAMPLES = 3600


def evidence_of(box: BoxPaths, state: JobState, minutes: float) -> Evidence:
    """What the box knows of the job in that state, with so many minutes before the moment."""
    paths = box.job(state.job_id)
    places = Places(paths, box.telemetry, box.timeline)
    more = [*timeline.read(evidence.timeline_of(paths)), *watchdog_events(), *_kernel_events(state.started_at)]
    found = evidence.gather(places, state, time.time(), minutes, more, "the box")
    if found.samples:
        return found
    aside = Places(paths, evidence.telemetry_of(paths), box.timeline)
    return evidence.gather(aside, state, time.time(), minutes, more, "the box")


def keep(box: BoxPaths, state: JobState) -> list[Path]:
    """Set aside in the job's folder what the box's own files, which are bounded, hold of the job's time; returns what lies there now.

    Never raises OSError: the end of a job does not fail for want of its curves.
    """
    paths = box.job(state.job_id)
    with contextlib.suppress(OSError):
        found = evidence_of(box, state, _KEPT_MINUTES)
        earlier = telemetry.read(evidence.telemetry_of(paths), until=state.started_at)  # of another attempt, maybe on another box
        samples = [*earlier, *telemetry.read(box.telemetry, state.started_at, found.moment + evidence.AFTER_SECONDS)]
        _write(evidence.telemetry_of(paths), [sample.to_line() for sample in evidence.thinned(samples, _KEPT_SAMPLES)])
        _write(evidence.timeline_of(paths), [event.to_line() for event in found.events])
    return [path for path in (evidence.telemetry_of(paths), evidence.timeline_of(paths)) if path.exists()]


def watchdog_events(folders: tuple[Path, ...] = WATCHDOG_FOLDERS) -> Iterator[Event]:
    """The lines of the watchdog's log, as events."""
    folder = next((each for each in folders if each.is_dir()), Path("/nonexistent"))
    for name in ("log.1", "log"):
        with contextlib.suppress(OSError):
            for line in (folder / name).read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # the further lines of a traceback
                    moment = timegm(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S"))
                    yield Event(moment, "watchdog", "info", line[20:])


def _write(path: Path, lines: list[str]) -> None:
    if lines:
        path.write_text("".join(lines))


def _kernel_events(since: float) -> list[Event]:
    """What no sampler has noted yet, or has lived to note."""
    return [Event(moment, "kernel", "error", text) for moment, text in kernel.lines(since) if kernel.classify(text)]
