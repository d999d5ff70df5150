"""Start a job on a box."""

import json

from remote.contract.jobs import JobSpec, JobState
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, payload_command


def start(transport: Transport, box_root: str, spec: JobSpec, again: bool = False) -> JobState:
    """Start the job, once for its id: a job that is there already is only reported.

    `again`: one that ended badly is started anew and goes on from its checkpoints. Raises JobFailed when the release or the
    environment is not on the box, PreflightFailed when nothing is.
    """
    command = payload_command(box_root, "supervise", "start", *(["--again"] if again else []))
    return JobState.from_json(json.dumps(call(transport, command, spec.to_json().encode())))
