"""Keys that are pressed while a screen is shown."""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator

END = "\x04"
"""Ctrl-D, and what a terminal that is gone gives."""


@contextlib.contextmanager
def pressed() -> Iterator[Callable[[float], str]]:
    """Yields what waits so many seconds for a key and returns it, or nothing. The terminal is as it
    was afterwards."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda seconds: _key(terminal, seconds)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key(terminal: int, seconds: float) -> str:
    ready, _, _ = select.select([terminal], [], [], seconds)
    return (os.read(terminal, 1).decode(errors="replace") or END) if ready else ""
