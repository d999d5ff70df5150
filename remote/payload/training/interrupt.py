"""Requests from outside: SIGTERM, by which the step in hand is left, a checkpoint written, and the
process ends by itself; and the file `flush`, by which a checkpoint is written after the step in
hand, and the training goes on."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from remote.contract.job.jobs import Cause
from remote.contract.job.notices import FLUSH
from remote.payload.job import StageFailed


class Stopped(Exception):
    """Someone asked the training to end."""


def stopped(step: int, kept: str) -> StageFailed:
    """How a stage ends that was asked to: `step` steps are done, `kept` is the checkpoint's
    path."""
    return StageFailed(
        Cause.CANCELLED,
        f"stopped at step {step}",
        "asked to by SIGTERM",
        "`./inv resume` goes on from there",
        kept,
    )


class Interrupt:
    """Remembers SIGTERM; `check` raises Stopped where it is safe to leave."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def check(self) -> None:
        """Raise Stopped once SIGTERM has come."""
        if self.asked:
            raise Stopped

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def flush(job_folder: Path, save: Callable[[], object]) -> bool:
    """Between two steps: save if someone asked for it, and take the request away once that is done.
    Returns whether it was asked."""
    request = job_folder / FLUSH
    if not request.exists():
        return False
    save()
    request.unlink(missing_ok=True)
    return True
