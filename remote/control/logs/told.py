"""What is told of a log, on its way from where it lies to who reads it."""

from dataclasses import dataclass

LOG = "log"
"""The source of what a job wrote itself."""


@dataclass(frozen=True)
class Told:
    """Whole lines of a job's log, or something that happened to its box.

    `at` in seconds since the epoch, 0 where that is not known; `source` is `LOG`, or as in `remote.contract.timeline.Event`, and `level`
    as there; `content` is of the log as it was written, of an event its text. `is_partial`: a line that has no end yet, shown until the
    next one; it comes again.
    """

    at: float
    box: str
    run: str = ""
    job: str = ""
    stage: str = ""
    source: str = LOG
    level: str = "info"
    content: bytes = b""
    is_partial: bool = False
