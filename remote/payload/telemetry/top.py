"""`SECONDS` tells every so many seconds how the box and its jobs stand, one object a line, until
nobody reads; `0`: once.

```
{"at": 1795287672.3, "sample": {...}, "gpu_silent": false, "clocks": {...} or null,
 "jobs": [{"job_id", "run_id", "stage", "status", "started_at", "ended_at", "what", "place",
 "metric", "line"}]}
```
Standard library only.
"""

import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remote.contract.files import regular_files, untrusted_json
from remote.contract.job.jobs import JobState
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.contract.telemetry import evidence
from remote.contract.telemetry.events import Metric
from remote.payload.jobs import states, supervise
from remote.payload.telemetry.box_events import WATCHDOGS
from remote.payload.telemetry.meter import Meter

LATELY_SECONDS = 600.0
"""How long a job that has ended is still shown."""

_FIRST_SECONDS = 0.3
_GPU_SECONDS = 3.0
_LINE_CHARACTERS = 300
_METRICS_BYTES = 8192


class Jobs:
    """The jobs of a box that are of interest now. What has ended is read once, not each time."""

    def __init__(self, box: BoxPaths) -> None:
        self._box = box
        self._ended: dict[Path, tuple[int, float]] = {}

    def records(self, now: float) -> list[dict[str, Any]]:
        """Those under way, and those that ended lately; the newest first."""
        told = [
            record
            for path in sorted(self._box.jobs.glob("*/state.json"))
            if (record := self._record(path, now))
        ]
        return sorted(told, key=lambda record: float(record["started_at"] or now), reverse=True)

    def _record(self, path: Path, now: float) -> dict[str, Any] | None:
        try:
            mark = path.stat().st_mtime_ns
            before, ended_at = self._ended.get(path, (0, 0.0))
            if mark == before and now - ended_at > LATELY_SECONDS:
                return None
            state = supervise.status(self._box, path.parent.name)
            if not state.status.is_final:
                return _record(JobPaths(path.parent), state)
            state.ended_at = state.ended_at or _last_sign(JobPaths(path.parent))
            self._ended[path] = mark, state.ended_at
            return (
                _record(JobPaths(path.parent), state)
                if now - state.ended_at <= LATELY_SECONDS
                else None
            )
        except (OSError, ValueError, TypeError, supervise.Refused):
            return None


def _last_sign(paths: JobPaths) -> float:
    """When a job that was lost was last alive, as far as its files tell."""
    return max(
        (path.stat().st_mtime for path in (paths.log, paths.metrics, paths.state) if path.exists()),
        default=0.0,
    )


def _record(paths: JobPaths, state: JobState) -> dict[str, Any]:
    run_id = states.run_of(paths)
    lines, _ = evidence.tail(paths.folder)
    facts = ("job_id", "stage", "started_at", "ended_at", "what", "place")
    return {
        **{name: getattr(state, name) for name in facts},
        "status": state.status.value,
        "run_id": run_id,
        "metric": _last_metric(paths.metrics),
        "line": lines[-1][:_LINE_CHARACTERS] if lines else "",
    }


def _last_metric(path: Path) -> dict[str, Any] | None:
    """The newest measurement, with the newest loss where it has none of its own."""
    with contextlib.suppress(OSError):
        told: dict[str, Any] | None = None
        for line in reversed(
            regular_files.end_of(path, _METRICS_BYTES).decode(errors="replace").splitlines()
        ):
            with contextlib.suppress(ValueError, TypeError):
                metric = Metric.from_line(line)
                told = told or asdict(metric)
                if metric.loss is not None:
                    return {**told, "loss": metric.loss}
        return told
    return None


def clocks(folders: tuple[Path, ...] = WATCHDOGS) -> dict[str, Any] | None:
    """How the watchdog saw the clocks last, or None where there is none."""
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            return untrusted_json.read_object(folder / "reading.json")
    return None


def tell(box: BoxPaths, meter: Meter, jobs: Jobs) -> None:
    """One line. Raises BrokenPipeError when nobody reads any more."""
    now = time.time()
    sample = meter.sample(_GPU_SECONDS)
    told = {
        "at": now,
        "sample": asdict(sample),
        "gpu_silent": meter.is_gpu_silent,
        "clocks": clocks(),
        "jobs": jobs.records(now),
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    """The command line."""
    every, box = float(sys.argv[1]), BoxPaths.of_release()
    meter, jobs = Meter(box.root, every or 1.0), Jobs(box)
    time.sleep(_FIRST_SECONDS)
    with contextlib.suppress(BrokenPipeError):
        tell(box, meter, jobs)
        while every:
            time.sleep(every)
            tell(box, meter, jobs)


if __name__ == "__main__":
    main()
