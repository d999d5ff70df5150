"""How the jobs on a box stand. The box is the truth: nothing on the laptop is asked."""

import json
from dataclasses import dataclass

from remote.contract.jobs import Cause, JobState
from remote.control.errors import JobFailed
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, on_box, payload_command


@dataclass(frozen=True)
class BoxJob:
    """A job on a box, and the run that it belongs to."""

    box: str
    run_id: str
    state: JobState


def read_state(transport: Transport, box_root: str, job_id: str) -> JobState:
    """The job's state; LOST when its supervisor is gone. Raises JobFailed (cause: lost) when there is no such job."""
    return JobState.from_json(json.dumps(call(transport, payload_command(box_root, "supervise", "status", job_id))))


def find_state(transport: Transport, box_root: str, job_id: str) -> JobState | None:
    """The job's state, or None when the box has no such job."""
    try:
        return read_state(transport, box_root, job_id)
    except JobFailed as error:
        if error.cause is Cause.LOST:
            return None
        raise


def jobs_on(transport: Transport, box_root: str, box: str) -> list[BoxJob]:
    """Every job that the box has kept, the newest first; none where nothing was ever deployed."""
    nothing = f"[ -e {on_box(f'{box_root}/current')} ] || {{ echo '{{\"done\": {{\"jobs\": []}}}}'; exit 0; }}; "
    told = call(transport, nothing + payload_command(box_root, "supervise", "list"))["jobs"]
    return [BoxJob(box, state.pop("run_id"), JobState.from_json(json.dumps(state))) for state in told]
