"""The jobs of many boxes, asked side by side, for a person and for a script."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from remote.contract.job.jobs import JobState, Status
from remote.control import fleet
from remote.control.jobs.state import BoxJob, jobs_on
from remote.control.output import timefmt
from remote.control.retry import retry_while_unreachable

if TYPE_CHECKING:
    from remote.control.cloud.box import Box


COLUMNS = ("box", "job", "stage", "run", "status", "began (UTC)", "took", "why")

_SECONDS = 20.0


def look(
    boxes: "Sequence[Box]", say: Callable[[str], None], patience_seconds: float = 0.0
) -> tuple[list[BoxJob], list[str]]:
    """The jobs of the boxes that run, and in words the boxes that did not answer. `say` hears of
    jobs that are left out.

    A link that fails is tried again for `patience_seconds`.
    """
    running = [box for box in boxes if box.state == "running"]
    outcomes = fleet.outcomes_of(
        running, lambda box, _: _jobs_of(box, say, patience_seconds), seconds=_SECONDS
    )
    found = [job for outcome in outcomes for job in outcome.found or ()]
    return found, [f"{each.one.name}: {each.error.what}" for each in outcomes if each.error]


def rows(jobs: Sequence[BoxJob]) -> list[list[str]]:
    """Rows under `COLUMNS`."""
    return [
        [
            job.box,
            job.state.job_id.removeprefix(f"{job.run_id}-"),
            job.state.stage,
            job.run_id,
            _status(job.state),
            timefmt.minute(job.state.started_at),
            _took(job.state),
            "" if job.state.status is Status.SUCCEEDED else job.state.what or job.state.why,
        ]
        for job in jobs
    ]


def _status(state: JobState) -> str:
    return (
        f"{state.status.value}, place {state.place} in line" if state.place else state.status.value
    )


def record(job: BoxJob) -> dict[str, Any]:
    """A job as JSON: its state with `box` and `run_id`."""
    return {"box": job.box, "run_id": job.run_id, **asdict(job.state)}


def _jobs_of(box: "Box", say: Callable[[str], None], patience_seconds: float) -> list[BoxJob]:
    from remote.control.transport.connect import connect

    def ask() -> list[BoxJob]:
        with connect(box) as transport:
            return jobs_on(transport, box.root, box.name, say)

    return retry_while_unreachable(ask, patience_seconds=patience_seconds)


def _took(state: JobState) -> str:
    end = state.ended_at or (time.time() if not state.status.is_final else 0.0)
    return f"{end - state.started_at:,.0f} s" if state.started_at and end else ""
