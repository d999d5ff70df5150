"""End a job on a box."""

from remote.contract.job.jobs import JobState
from remote.control.jobs.state import state_of
from remote.control.transport.base import Transport
from remote.control.transport.payload import QUERY_SECONDS, call, payload_command


def cancel(transport: Transport, box_root: str, job_id: str, patience_seconds: float) -> JobState:
    """End the job and all its processes: SIGTERM, so many seconds for a checkpoint, SIGKILL. `kept`
    of the state says what is left.

    A job that has ended is only reported. A second call with less patience shortens the first
    one's.
    """
    command = payload_command(box_root, "jobs.supervise", "cancel", job_id, f"{patience_seconds:g}")
    return state_of(
        call(transport, command, seconds=patience_seconds + QUERY_SECONDS), transport.where
    )
