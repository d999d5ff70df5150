"""What the box's kernel said: lines with their time, and what kind of line it is. Linux, standard
library only.

Three ways to the same lines, the first that answers: /dev/kmsg (root, or a box without
`kernel.dmesg_restrict`), `dmesg`, and `sudo -n dmesg`, which leaves a line in the box's own log
each time: a box without any has none to show. A file named by WINDLASS_KERNEL_LOG stands for all
three; its lines are spelled as `dmesg --time-format iso` spells them.
"""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

STAND_IN = "WINDLASS_KERNEL_LOG"
XID, OUT_OF_MEMORY, DISK, HARDWARE, HUNG, CRASH = "xid", "oom", "disk", "hardware", "hung", "crash"
"""The kinds of lines that an on-call wants to see; any other kind is ''."""

_ANSWER_SECONDS = 10.0
_RECORD_BYTES = 8192
_DMESG = ("dmesg", "--time-format", "iso", "--color=never")
_XID = re.compile(r"NVRM: Xid \(.*?\): (\d+)")
_KINDS = (
    (XID, _XID),
    (OUT_OF_MEMORY, re.compile(r"[Oo]ut of memory: Kill|invoked oom-killer|oom-kill:|oom_reaper:")),
    (
        DISK,
        re.compile(
            r"(EXT4-fs|XFS|BTRFS).*(error|corrupt|shut ?down)|I/O error|Remounting"
            r" filesystem|nvme.*(timeout|reset)",
            re.I,
        ),
    ),
    (
        HARDWARE,
        re.compile(
            r"\[Hardware Error\]|NVRM: .*(fallen off the bus|RmInitAdapter failed)|EDAC"
            r" .*(CE|UE)|AER: .*(Uncorrect|Fatal)"
        ),
    ),
    (HUNG, re.compile(r"blocked for more than \d+ seconds|soft lockup|hard LOCKUP|rcu.*stall")),
    (CRASH, re.compile(r"segfault at|general protection fault|traps: .* trap|Kernel panic")),
)
_OF_THE_PROGRAM = frozenset({13, 31, 43, 45, 68, 69})
"""Xids that the driver reports for what a program did, or for its death: the card is well. NVIDIA's
catalogue of Xid errors, column "resolution": restart the application."""


def lines(since: float) -> list[tuple[float, str]]:
    """What the kernel said at or after `since`, oldest first: (seconds since the epoch, text).
    Empty where the box does not tell."""
    return [line for line in _all() if line[0] >= since]


def classify(text: str) -> str:
    """Which kind of line it is; '' for what needs nobody's attention."""
    return next((kind for kind, words in _KINDS if words.search(text)), "")


def xid(text: str) -> int | None:
    """The number of the NVIDIA Xid that the line reports, if it reports one."""
    found = _XID.search(text)
    return int(found.group(1)) if found else None


def blames_gpu(text: str) -> bool:
    """Whether the line reports an Xid that speaks of the card rather than of the program on it."""
    number = xid(text)
    return number is not None and number not in _OF_THE_PROGRAM


def _all() -> list[tuple[float, str]]:
    if stand_in := os.environ.get(STAND_IN):
        return _of_file(Path(stand_in))
    ways = (_of_device, lambda: _of_dmesg([*_DMESG]), lambda: _of_dmesg(["sudo", "-n", *_DMESG]))
    found = next((found for way in ways if (found := way()) is not None), [])
    return sorted(found, key=lambda line: line[0])  # processors speak out of turn by microseconds


def _of_device() -> list[tuple[float, str]] | None:
    try:
        device = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        return [_parsed(record, booted) for record in _records(device)]
    except OSError:
        return None
    finally:
        os.close(device)


def _records(device: int) -> Iterator[str]:
    while True:
        try:
            record = os.read(device, _RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:  # overwritten while we read: the next one is there
            continue
        if not record:
            return
        yield record.decode(errors="replace")


def _parsed(record: str, booted: float) -> tuple[float, str]:
    """A record of /dev/kmsg: `6,1234,98765432,-;text`, then lines of detail that begin with a
    space."""
    head, _, text = record.partition(";")
    return booted + int(head.split(",")[2]) / 1e6, text.split("\n")[0]


def _of_dmesg(words: list[str]) -> list[tuple[float, str]] | None:
    try:
        answer = subprocess.run(
            words,
            capture_output=True,
            check=False,
            timeout=_ANSWER_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _of_text(answer.stdout) if answer.returncode == 0 else None


def _of_file(path: Path) -> list[tuple[float, str]]:
    try:
        return _of_text(path.read_bytes())
    except OSError:
        return []


def _of_text(output: bytes) -> list[tuple[float, str]]:
    found = []
    for line in output.decode(errors="replace").splitlines():
        moment, _, text = line.partition(" ")
        with contextlib.suppress(ValueError):  # a line of detail, without a time of its own
            found.append((datetime.fromisoformat(moment.replace(",", ".")).timestamp(), text))
    return found
