"""Start a job on a box."""

import json

from remote.contract.jobs import JobSpec, JobState
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, payload_command


def start(transport: Transport, box_root: str, spec: JobSpec, again: bool = False, queue: bool = False) -> JobState:
    """Start the job, once for its id: a job that is there already is only reported, whoever started it.

    `again`: one that ended badly is started anew and goes on from its checkpoints. `queue`: an exclusive job waits in line, PENDING
    at its `place`, while another one has the box's GPU; without it that raises Busy. Raises JobFailed when the release or the
    environment is not on the box, PreflightFailed when nothing is.
    """
    flags = [flag for flag, is_set in (("--again", again), ("--queue", queue)) if is_set]
    command = payload_command(box_root, "supervise", "start", *flags)
    return JobState.from_json(json.dumps(call(transport, command, spec.to_json().encode())))
