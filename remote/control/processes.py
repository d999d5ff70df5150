"""All processes of an instance, found and ended wherever they detached to.

A job that started a session of its own is a child of nobody, but it inherited the instance's mark
in its environment. OpenSSH overwrites its own environment, so its processes are found by their
process group instead.
"""

import contextlib
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

INSTANCE = "WINDLASS_INSTANCE"
CLOUD = "WINDLASS_CLOUD"


@dataclass(frozen=True)
class Process:
    """A living process of this user, with its environment as `NAME=value` items (as far as it can
    be read)."""

    pid: int
    parent: int
    group: int
    environment: bytes

    def has(self, mark: bytes) -> bool:
        """Whether `mark` (`NAME=value`) is in its environment."""
        return mark in self.environment


def members(name: str, value: str, groups: Collection[int] = ()) -> set[int]:
    """The pids of all processes that carry `name=value`, belong to `groups`, or descend from such a
    process."""
    mark = b"\0" + f"{name}={value}".encode() + b"\0"
    living = _census.taken() if Path("/proc/self/environ").exists() else list(_from_ps(mark))
    found = {process.pid for process in living if process.group in groups or process.has(mark)}
    size = -1
    while size != len(found):
        size = len(found)
        found |= {process.pid for process in living if process.parent in found}
    return found - {os.getpid()}


def end(
    name: str,
    value: str,
    groups: Collection[int] = (),
    grace_seconds: float = 0,
    patience_seconds: float = 10,
) -> set[int]:
    """End all `members`: SIGTERM, and after `grace_seconds` SIGKILL. Returns the pids that outlived
    even that."""
    asked: set[int] = set()
    started = time.monotonic()
    while living := members(name, value, groups):
        waited = time.monotonic() - started
        if waited > grace_seconds + patience_seconds:
            break
        if waited >= grace_seconds:
            _send(signal.SIGKILL, living)
        _send(signal.SIGTERM, living - asked)
        asked |= living
        time.sleep(0.02)
    return living


class _Census:
    """All processes, listed once for all who ask at the same time: many instances stop together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0.0
        self._found: list[Process] = []

    def taken(self) -> list[Process]:
        """A list that was begun after it was asked for."""
        asked = time.monotonic()
        with self._lock:
            if self._begun <= asked:
                self._begun = time.monotonic()
                self._found = list(_from_proc())
            return self._found


_census = _Census()


def _send(number: signal.Signals, pids: Collection[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _from_proc() -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, parent, group = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if state not in "ZX":
            yield Process(int(folder.name), int(parent), int(group), b"\0" + environment + b"\0")


def _from_ps(mark: bytes) -> Iterator[Process]:
    """The same where there is no /proc. `ps` shows the environment behind the command, parted by
    blanks."""
    all_with_environment = ["-E", "-axww"] if platform.system() == "Darwin" else ["axeww"]
    columns = "pid=,ppid=,pgid=,stat=,command="
    listing = subprocess.run(
        ["ps", *all_with_environment, "-o", columns], capture_output=True, check=False
    ).stdout
    bare = mark.strip(b"\0")
    for line in listing.splitlines():
        pid, parent, group, state, *command = line.split(None, 4)
        if not state.startswith(b"Z"):
            carries = bool(command) and b" " + bare + b" " in command[0] + b" "
            yield Process(int(pid), int(parent), int(group), mark if carries else b"")
