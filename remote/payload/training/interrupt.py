"""SIGTERM as a request: the step in hand is left, a checkpoint written, and the process ends by itself."""

import signal
from types import FrameType


class Stopped(Exception):
    """Someone asked the training to end."""


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
