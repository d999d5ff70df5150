"""What the watchdog tells the supervisors of a box: why they are about to be told to stop.
`<root>/notice.json`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from remote.contract.files import atomic

SPOT, DEADMAN = "spot", "deadman"

FLUSH = "flush"
"""A file of this name in a job's folder asks the stage for a checkpoint now, and to go on. The
stage removes it."""


@dataclass(frozen=True)
class Notice:
    """`kind` is SPOT (the cloud takes the box back) or DEADMAN (a clock ran out); `deadline` is
    when the power goes, in seconds since the epoch, UTC; `why` is for people."""

    kind: str
    deadline: float
    why: str


def write(root: Path, notice: Notice) -> None:
    """Leave a notice for the supervisors. Then send them SIGTERM."""
    atomic.write_json(root / "notice.json", asdict(notice))


def read(root: Path, now: float) -> Notice | None:
    """The notice in force at `now`, or None; one long past its deadline is of an earlier life of
    the box."""
    # late: the watchdog writes notices and reads none, and has no room for these
    from remote.contract.files import typed, untrusted_json

    try:
        notice = typed.read(
            Notice,
            untrusted_json.read_object(root / "notice.json", max_bytes=untrusted_json.RECORD_BYTES),
        )
    except (OSError, ValueError, TypeError):
        return None
    return notice if now < notice.deadline + 600 else None
