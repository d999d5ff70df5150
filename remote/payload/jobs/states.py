"""What is recorded of a job on its box, and what an observer makes of it. Standard library only."""

import os
import time
from pathlib import Path

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import JobPaths
from remote.payload import process

LAST_WORDS, ORDER = ".reserve", ".reserve.cancel"
"""In a job's folder: room on the disk for its final state, and for the order that ends it."""
RESERVED_BYTES, _ORDER_BYTES = 1024 * 1024, 4096
STARTING = ".lock"
"""In a job's folder: held by whoever starts the job."""


def read(paths: JobPaths) -> JobState | None:
    """The job's state, LOST where the record says that it runs or waits and nobody does, or cannot
    be read; None when there is no such job."""
    state = recorded(paths)
    if state is None:
        return damaged(paths) if os.path.lexists(paths.state) else None
    if not _is_forsaken(state):
        return state
    state = recorded(paths) or state  # it may have ended between the two looks
    if not _is_forsaken(state):
        return state
    return lost(paths, state, _why_lost(state))


def _is_forsaken(state: JobState) -> bool:
    is_under_way = not state.status.is_final and not is_unborn(state)
    return is_under_way and not process.is_alive(state.pid, state.start_ticks, state.boot_id)


def is_unborn(state: JobState) -> bool:
    """Whether no supervisor has taken the job up: one that waits in line has."""
    return state.status is Status.PENDING and not state.pid


def _why_lost(state: JobState) -> str:
    waited = " while it waited in line" if state.status is Status.PENDING else ""
    if state.boot_id == process.boot_id():
        return f"the supervisor was killed{waited}"
    moment = time.strftime(
        "%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    )
    return f"the box was rebooted or stopped under it{waited}; it came up at {moment}"


def write(paths: JobPaths, state: JobState) -> None:
    """Record the state."""
    atomic.write_text(paths.state, state.to_json() + "\n")


def reserve(paths: JobPaths) -> None:
    """Keep room on the disk for the job's last words, and for the word that ends it. Raises OSError
    where there is none."""
    for name, size in ((LAST_WORDS, RESERVED_BYTES), (ORDER, _ORDER_BYTES)):
        room = paths.folder / name
        if (
            not room.exists()
        ):  # a start that was cut off made it, and a supervisor may be about to use it
            with atomic.writing(room) as file:
                os.posix_fallocate(file.fileno(), 0, size)


def write_surely(path: Path, text: str, reserve: str) -> None:
    """Write a file, on a full disk too: what was reserved becomes the file, so that nobody can take
    its room in between."""
    room = path.with_name(reserve)
    try:
        with room.open("r+b") as file:
            file.write(text.encode() + b"\n")
            file.truncate()
            os.fsync(file.fileno())
        room.replace(path)
        atomic.sync_folder(path.parent)
    except OSError:
        atomic.write_text(path, text + "\n")


def recorded(paths: JobPaths) -> JobState | None:
    """The state as it was written last; None where there is none to be read, or it is another
    job's."""
    try:
        state = JobState.read(paths.state)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if state.job_id == paths.folder.name else None


def run_of(paths: JobPaths) -> str:
    """The run that the job belongs to; empty where it has none, or its specification cannot be
    read."""
    spec = _spec(paths)
    return spec.run_id if spec else ""


def damaged(paths: JobPaths, why: str = "") -> JobState:
    """The state of a job whose record cannot be used: nobody could say that it runs."""
    spec = _spec(paths)
    state = JobState(paths.folder.name, spec.stage if spec else "")
    lost(paths, state, why or f"{paths.state} holds no state of a job")
    state.what = f"the record of job {state.job_id} cannot be read"
    return state


def _spec(paths: JobPaths) -> JobSpec | None:
    try:
        return JobSpec.read(paths.spec)
    except (OSError, ValueError, TypeError):
        return None


def lost(paths: JobPaths, state: JobState, why: str) -> JobState:
    """The state of a job that nobody supervises any more."""
    from remote.payload.jobs import outcome

    state.status, state.cause, state.why, state.place = Status.LOST, Cause.LOST, why, 0
    state.what = f"job {state.job_id} is lost"
    state.remedy, state.kept = (
        "`./inv resume` goes on from the newest checkpoint",
        outcome.kept(paths),
    )
    return state


def cancel_file(paths: JobPaths) -> Path:
    """The order that ends the job: how many seconds it has for a checkpoint."""
    return paths.folder / "cancel.json"
