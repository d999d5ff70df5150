"""What goes on, on the box: jobs and their signs of life, SSH sessions, GPU use."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remote.contract.job.paths import BoxPaths, JobPaths
from remote.payload import process
from remote.payload.watchdog import record

SSH_PORT = 22
_ESTABLISHED = "01"
_GPU_SECONDS = 20
_GPU_PERCENT = 5


@dataclass(frozen=True)
class Job:
    """A job whose supervisor lives. `sign` changes with each sign of life."""

    paths: JobPaths
    stage: str
    pid: int
    sign: str

    @property
    def id(self) -> str:
        """Its id."""
        return self.paths.folder.name


def jobs(root: Path) -> list[Job]:
    """The jobs under Windlass's folder that run, or wait in line for the GPU."""
    return [
        job for state in sorted(BoxPaths(root).jobs.glob("*/state.json")) if (job := _job(state))
    ]


def ssh_sessions(port: int, host: str = "") -> set[str]:
    """The far ends of established connections to the SSH port; of the loopback address `host` alone
    where it is the server's."""
    wanted = _as_in_proc(host) if host.startswith("127.") else ""
    found = ((here, there) for here, there, state in _connections() if state == _ESTABLISHED)
    return {
        there for here, there in found if here.endswith(f":{port:04X}") and here.startswith(wanted)
    }


def gpu_percent() -> int:
    """How busy the busiest GPU is; 0 where there is none, or where its driver does not answer in
    time."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return 0
    words = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=_GPU_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return max(
        (int(line) for line in answer.stdout.split("\n") if line.strip().isdigit()), default=0
    )


def describe(running: list[Job], sessions: int, gpu: int) -> list[str]:
    """What keeps the box busy; nothing when it is idle."""
    words = [f"job {job.id}" for job in running]
    if sessions:
        words.append(f"{sessions} SSH session{'s' if sessions > 1 else ''}")
    if gpu >= _GPU_PERCENT:
        words.append(f"GPU {gpu} %")
    return words


def _job(state: Path) -> Job | None:
    # Not by JobState: a release newer than this watchdog may write more than it knows, and its jobs
    # count all the same.
    try:
        told = record.of_file(state)
        is_alive = told["status"] in ("RUNNING", "PENDING") and process.is_alive(
            told["pid"], told["start_ticks"], told["boot_id"]
        )
        # One that waits in line is alive as long as its supervisor is: it has nothing else to show.
        sign = (
            _sign(JobPaths(state.parent))
            if told["status"] == "RUNNING"
            else f"waits {time.monotonic_ns()}"
        )
        return (
            Job(JobPaths(state.parent), str(told.get("stage", "")), told["pid"], sign)
            if is_alive
            else None
        )
    except (
        Exception
    ):  # whatever a job left there, it is that job's fault alone: the others, and the clocks, go on
        return None


def _sign(paths: JobPaths) -> str:
    """When its log, its metrics and its checkpoints changed, as one number. Not the newest: after a
    clock was set back, that would stay."""
    places = [paths.log, paths.metrics, paths.checkpoints]
    if paths.checkpoints.is_dir():
        places += paths.checkpoints.iterdir()
    return str(sum(_changed(place) for place in places))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _connections() -> Iterator[tuple[str, str, str]]:
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, here, there, state, *_ = line.split()
            yield here, there, state


def _as_in_proc(host: str) -> str:
    return "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
