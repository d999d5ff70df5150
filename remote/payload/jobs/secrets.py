"""What a job may know and nobody else: variables for its stage, in a file for its owner alone, for
as long as the job lives.

They come from the laptop with the question that starts the job, on standard input; they never stand
in a specification, in arguments, in a state or in a log. Standard library only.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path

from remote.contract.files import atomic, untrusted_json
from remote.contract.job.jobs import JobState, Status
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.payload import process
from remote.payload.jobs import states

START_SECONDS = 3600.0
"""How long those of a job that has not begun are kept: it may be on its way."""


def keep(box: BoxPaths, job_id: str, values: dict[str, str]) -> None:
    """Keep what the job's stage is to find in its environment, in place of what an earlier attempt
    had; nothing when there is nothing."""
    forget(box, job_id)
    if not values:
        return
    box.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    box.secrets.chmod(0o700)
    atomic.write_text(box.secrets / job_id, json.dumps(values), mode=0o600)


def of_job(box: BoxPaths, job_id: str) -> dict[str, str]:
    """The variables of a job."""
    try:
        return {
            str(name): str(value)
            for name, value in untrusted_json.read_object(box.secrets / job_id).items()
        }
    except (OSError, ValueError):
        return {}


def forget(box: BoxPaths, job_id: str) -> None:
    """Remove what a job was told."""
    with contextlib.suppress(FileNotFoundError):
        (box.secrets / job_id).unlink()


def forget_stale(box: BoxPaths) -> None:
    """Remove what was left of jobs that are over: a supervisor that was killed could not."""
    for path in box.secrets.iterdir() if box.secrets.is_dir() else ():
        forget_if_over(box, path.name)


def forget_if_over(box: BoxPaths, job_id: str) -> None:
    """Remove what a job was told, unless it lives, or somebody is starting it just now. Never
    raises OSError: who looks at a job may have no right to more than that."""
    path = box.secrets / job_id
    with contextlib.suppress(OSError):
        if path.exists() and not _may_live(box, path):
            with _unless_starting(box.job(job_id)):
                if not _may_live(box, path):  # it may have been started again between the looks
                    path.unlink()


@contextlib.contextmanager
def _unless_starting(paths: JobPaths) -> Iterator[None]:
    """Keep the job from being started meanwhile; raises BlockingIOError where that is under way.
    Nothing to keep where no job is."""
    if not paths.folder.exists():
        yield
        return
    with (paths.folder / states.STARTING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _may_live(box: BoxPaths, path: Path) -> bool:
    try:
        state = JobState.read(box.job(path.name).state)
    except (OSError, ValueError, KeyError, TypeError):
        return _is_fresh(path)
    if state.status is Status.PENDING and not state.pid:
        return _is_fresh(path)
    return not state.status.is_final and process.is_alive(
        state.pid, state.start_ticks, state.boot_id
    )


def _is_fresh(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < START_SECONDS
