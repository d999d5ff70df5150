"""How a job on a box stands."""

import json

from remote.contract.jobs import Cause, JobState
from remote.control.errors import JobFailed
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, payload_command


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
