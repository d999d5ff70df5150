"""How the jobs on a box stand. The box is the truth: nothing on the laptop is asked."""

import re
from dataclasses import dataclass
from typing import Any

from remote.contract.job.jobs import Cause, JobState
from remote.contract.logs.query import label_of
from remote.control.errors import JobFailed
from remote.control.output.sanitize import plain
from remote.control.progress import Say, warning
from remote.control.transport.base import Transport
from remote.control.transport.payload import QUERY_SECONDS, call, on_box, payload_command, untold

_NAME = re.compile(r"[\w-][\w.-]{0,199}")
"""What may become the name of a folder here: a box may be hostile."""

MOST_JOBS = 10_000
_TOLD_OF = 3


@dataclass(frozen=True)
class BoxJob:
    """A job on a box, and the run that it belongs to."""

    box: str
    run_id: str
    state: JobState

    @property
    def label(self) -> str:
        """The stage's label in its run; of a job without one its stage."""
        return label_of(self.state.job_id, self.run_id, self.state.stage)


def read_state(transport: Transport, box_root: str, job_id: str) -> JobState:
    """The job's state; LOST when its supervisor is gone. Raises JobFailed (cause: lost) when there
    is no such job."""
    return state_of(
        call(
            transport,
            payload_command(box_root, "jobs.supervise", "status", job_id),
            seconds=QUERY_SECONDS,
        ),
        transport.where,
    )


def state_of(told: object, where: str) -> JobState:
    """The state that the box `where` tells. Raises PreflightFailed where it is of a Windlass that
    tells it in another way."""
    try:
        if not isinstance(told, dict):
            raise TypeError(f"it is {type(told).__name__}")
        return JobState.of(told)
    except (KeyError, TypeError, ValueError) as error:
        raise untold(where, error) from None


def find_state(transport: Transport, box_root: str, job_id: str) -> JobState | None:
    """The job's state, or None when the box has no such job."""
    try:
        return read_state(transport, box_root, job_id)
    except JobFailed as error:
        if error.cause is Cause.LOST:
            return None
        raise


def jobs_on(transport: Transport, box_root: str, box: str, say: Say) -> list[BoxJob]:
    """Every job that the box has kept, the newest first; none where nothing was deployed. One
    without a name is left out, and told to `say`."""
    nothing = (
        f'[ -e {on_box(f"{box_root}/current")} ] || {{ echo \'{{"done": {{"jobs": []}}}}\'; exit'
        " 0; }; "
    )
    told = call(
        transport,
        nothing + payload_command(box_root, "jobs.supervise", "list"),
        seconds=QUERY_SECONDS,
    ).get("jobs")
    if not isinstance(told, list):
        raise untold(transport.where, "it lists no jobs")
    if len(told) > MOST_JOBS:
        say(warning(f"box {box} lists {len(told):,} jobs; the first {MOST_JOBS:,} are looked at"))
    found, left_out = [], list[str]()
    for state in told[:MOST_JOBS]:
        try:
            found.append(_job_of(box, state))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            left_out.append(str(error))
    for why in left_out[:_TOLD_OF]:
        say(warning(plain(f"box {box} tells of a job that is left out here: {why}")))
    if len(left_out) > _TOLD_OF:
        more = len(left_out) - _TOLD_OF
        say(warning(f"box {box} tells of {more:,} more that are left out here"))
    return found


def _job_of(box: str, told: Any) -> BoxJob:
    run_id, state = told["run_id"], JobState.of(told)
    for name in (state.job_id, *([run_id] if run_id != "" else [])):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is no name")
    return BoxJob(box, run_id, state)
