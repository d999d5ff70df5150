"""Before the power goes: the jobs are told, and get a bounded time for a checkpoint; what they made
is brought to safety."""

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote.contract.job import notices
from remote.contract.job.notices import Notice
from remote.contract.job.paths import BoxPaths
from remote.payload.watchdog import activity
from remote.payload.watchdog.place import Settings

_POLL_SECONDS = 0.2


def wind_down(
    settings: Settings,
    kind: str,
    why: str,
    seconds: float,
    pulse: Callable[[], None],
    log: Callable[[str], None],
) -> None:
    """Tell every job to stop and why, wait for all of them, then bring checkpoints and artifacts to
    safety; `seconds` for it all.

    `pulse` is called all the while: the planned shutdown must be pushed forward meanwhile.
    """
    deadline = time.monotonic() + seconds
    running = activity.jobs(settings.windlass)
    if settings.windlass.is_dir():
        with contextlib.suppress(OSError):
            notices.write(settings.windlass, Notice(kind, time.time() + seconds, why))
    for job in running:
        log(f"job {job.id}: SIGTERM to its supervisor {job.pid}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGTERM)
    while (left := activity.jobs(settings.windlass)) and time.monotonic() < deadline:
        pulse()
        time.sleep(_POLL_SECONDS)
    log(f"jobs told: {len(running)}, still running: {len(left)}")
    _spill(settings, deadline, pulse, log)


def ask_for_checkpoints(settings: Settings, log: Callable[[str], None]) -> None:
    """Ask every running job for a checkpoint now; it goes on."""
    for job in activity.jobs(settings.windlass):
        log(f"job {job.id}: asked for a checkpoint")
        with contextlib.suppress(OSError):
            (job.paths.folder / notices.FLUSH).touch()


def _spill(
    settings: Settings, deadline: float, pulse: Callable[[], None], log: Callable[[str], None]
) -> None:
    release = BoxPaths(settings.windlass).current.resolve()
    if not (release / "remote/payload/transfer/upload.py").exists() or time.monotonic() >= deadline:
        return
    note = Path(os.devnull)
    with contextlib.suppress(OSError):
        note = settings.windlass / "spill.log"
        note.touch()
    with note.open("ab") as output:
        child = subprocess.Popen(
            ["python3", "-m", "remote.payload.transfer.upload", "all"],
            cwd=release,
            env=_environment(settings, release),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_unblocked,  # noqa: PLW1509
            **_as_user(settings.user),
        )
    while child.poll() is None and time.monotonic() < deadline:
        pulse()
        time.sleep(_POLL_SECONDS)
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        log("spill: not done in time")
        return
    log(f"spill: exit code {child.returncode}")


def _environment(settings: Settings, release: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(release), "HOME": str(settings.home)}


def _unblocked() -> None:
    # Should a thread's lock ever hold this up: then no shutdown is pushed forward any more, and the
    # planned one comes.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _as_user(name: str) -> dict[str, Any]:
    """Options of Popen: nothing deployed ever runs as root."""
    if not name or os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(name)
    return {
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": os.getgrouplist(name, user.pw_gid),
    }
