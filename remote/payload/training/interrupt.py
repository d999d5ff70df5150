"""SIGTERM as a request: the step in hand is left, a checkpoint written, and the process ends by itself."""

import signal
from types import FrameType

from remote.contract.jobs import Cause
from remote.payload.job import StageFailed


class Stopped(Exception):
    """Someone asked the training to end."""


def stopped(step: int, kept: str) -> StageFailed:
    """How a stage ends that was asked to: `step` steps are done, `kept` is the checkpoint's path."""
    return StageFailed(Cause.CANCELLED, f"stopped at step {step}", "asked to by SIGTERM", "`./inv resume` goes on from there", kept)


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
