"""Start a job on a box."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from remote.contract.job.jobs import JobSpec, JobState
from remote.control.jobs.state import state_of
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, payload_command


def start(
    transport: Transport,
    box_root: str,
    spec: JobSpec,
    again: bool = False,
    queue: bool = False,
    secrets: Mapping[str, str] | None = None,
) -> JobState:
    """Start the job, once for its id: a job that is there already is only reported, whoever started
    it. Asked once; after a lost connection the same call finds out whether the job is there.

    `again`: one that ended badly is started anew and goes on from its checkpoints. `queue`: an
    exclusive job waits in line, PENDING at its `place`, while another one has the box's GPU;
    without it that raises Busy. `secrets`: variables that its stage finds in its environment and
    that stand nowhere else. Raises JobFailed when the release or the environment is not on the box,
    PreflightFailed when nothing is.
    """
    flags = [flag for flag, is_set in (("--again", again), ("--queue", queue)) if is_set]
    command = payload_command(box_root, "jobs.supervise", "start", *flags)
    question = {"spec": asdict(spec), "secrets": dict(secrets or {})}
    return state_of(call(transport, command, json.dumps(question).encode()), transport.where)
