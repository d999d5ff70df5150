"""Where a run tells what it does, while it does it."""

from collections.abc import Callable
from dataclasses import dataclass

from remote.control.backends import display
from remote.control.backends.preflight import Report
from remote.control.progress import Bytes, Rows, Say, no_bytes, no_rows, silent


@dataclass(frozen=True)
class Reporter:
    """Shows a run to whoever drives it; by default to nobody.

    `say` takes a line, `bytes` shows what moves, `rows` how
    many were asked, `job` shows a job while it is followed, `checks`
    what preflight found.
    """

    say: Say = silent
    bytes: Bytes = no_bytes
    rows: Rows = no_rows
    job: display.Shows = display.silent
    checks: Callable[[Report], None] = lambda report: None


NOBODY = Reporter()
"""Shows nothing."""
