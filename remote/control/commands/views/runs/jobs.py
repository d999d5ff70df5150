"""The jobs on boxes as a table."""

import time
from collections.abc import Sequence

from remote.contract.job.jobs import JobState, Status
from remote.control.jobs.state import BoxJob
from remote.control.output import timefmt

COLUMNS = ("box", "job", "stage", "run", "status", "began (UTC)", "took", "why")


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


def _took(state: JobState) -> str:
    end = state.ended_at or (time.time() if not state.status.is_final else 0.0)
    return f"{end - state.started_at:,.0f} s" if state.started_at and end else ""
