"""A box's disk that is full: nothing more can be written, what is there can be read.

With the right to mount (root), a full file system of 64 KiB is laid over the disk: writing fails
with "No space left on device", and `df` tells so. Files that were open before are written on.
Without it no process of the box may make a file grow: writing fails with "File too large", `df`
tells nothing. Either way what changed meanwhile is undone when the disk has room again.
"""

import contextlib
import os
import resource
import subprocess
from collections.abc import Collection
from pathlib import Path

_KIBIBYTES = 64
MARK = "no-writes"
"""While this file is beside the disk, whoever enters the box may make no file grow."""


def fill(disk: Path, members: Collection[int]) -> str:
    """Make the disk full; returns in words how. `members` are the processes of the box."""
    if is_full(disk):
        return "the disk is full"
    if _cover(disk):
        return "the disk is full: no space left on device"
    (disk.parent / MARK).touch()
    _limit(members, 0)
    return "the disk is full: no file may grow (this machine lets no file system be mounted)"


def free(disk: Path, members: Collection[int]) -> None:
    """Give the disk its room back."""
    beside = disk.parent / "full"
    for mounted in (disk, beside):
        if os.path.ismount(mounted):
            _run("umount", "-l", str(mounted), cwd=disk.parent)
    with contextlib.suppress(OSError):
        beside.rmdir()
    if (disk.parent / MARK).exists():
        (disk.parent / MARK).unlink()
        _limit(members, resource.RLIM_INFINITY)


def is_full(disk: Path) -> bool:
    """Whether it was filled, and not freed since."""
    return os.path.ismount(disk) or (disk.parent / MARK).exists()


def _cover(disk: Path) -> bool:
    """Names relative to the folder: what stands between commas in mount's options may hold no
    comma."""
    folder, beside = disk.parent, disk.parent / "full"
    beside.mkdir(exist_ok=True)
    if not _run(
        "mount", "-t", "tmpfs", "-o", f"size={_KIBIBYTES}k,mode=700", "tmpfs", "full", cwd=folder
    ):
        beside.rmdir()
        return False
    (beside / "upper").mkdir(mode=0o700)
    (beside / "work").mkdir()
    layers = f"lowerdir={disk.name},upperdir=full/upper,workdir=full/work"
    if not _run("mount", "-t", "overlay", "-o", layers, "overlay", disk.name, cwd=folder):
        _run("umount", "-l", "full", cwd=folder)
        beside.rmdir()
        return False
    with contextlib.suppress(OSError), open(beside / "filling", "wb", buffering=0) as filling:
        while filling.write(bytes(1024)):
            pass
    return True


def _run(*command: str, cwd: Path) -> bool:
    try:
        return (
            subprocess.run(
                command, cwd=cwd, capture_output=True, check=False, timeout=20
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _limit(members: Collection[int], most_bytes: int) -> None:
    """Only Linux can set another process's limits; elsewhere those that come in from now on are
    limited."""
    if not hasattr(resource, "prlimit"):
        return
    for pid in members:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(
                pid,
                resource.RLIMIT_FSIZE,
                (most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard), hard),
            )
