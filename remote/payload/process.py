"""Processes on the box, named so that a reused pid is never mistaken for them. Linux, standard
library only."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1


def boot_id() -> str:
    """An id that changes with every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int:
    """When the process started, in ticks since boot (field 22 of /proc/PID/stat); 0 when there is
    none. A zombie counts as none."""
    try:
        # A process may give itself any name, text or not.
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_bytes()
            .decode(errors="replace")
            .rsplit(")", 1)[1]
            .split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, ticks: int, boot: str) -> bool:
    """Whether the process that was recorded so still runs."""
    return pid > 0 and boot == boot_id() and ticks > 0 and start_ticks(pid) == ticks


def signal_group(group: int, number: int) -> None:
    """Send a signal to a whole process group, if there is one."""
    if group > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def end_with_parent() -> None:
    """In a child, before it becomes another program: take every signal again, and get SIGTERM
    should the parent die."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for memory: of our control group where it tells,
    else of the whole box."""
    for path, field in _counters():
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(dict(line.split() for line in path.read_text().splitlines())[field])
    return 0


def _counters() -> list[tuple[Path, str]]:
    groups = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                groups.append((Path(f"/sys/fs/cgroup{path}/memory.events"), "oom_kill"))
            elif "memory" in controllers.split(","):
                groups.append((Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"), "oom_kill"))
    return [*groups, (Path("/proc/vmstat"), "oom_kill")]
