"""One record of a log, and what takes records: the one type for boxes, buckets and this laptop's
own copies."""

from dataclasses import dataclass

from remote.contract.job.jobs import JobState
from remote.contract.logs.query import LOG, JobFacts
from remote.control.output import timefmt
from remote.control.output.sanitize import counted
from remote.control.secrets import Mask

_BOX_SOURCES = ("kernel", "gpu", "watchdog", "spot")


@dataclass(frozen=True)
class LogRecord:
    """Whole lines of a job's file, or an event of its box.

    `at` in seconds since the epoch, 0 where that is not known. `source`: a file's name (LOG or
    METRICS), or as in `remote.contract.telemetry.timeline.Event`, and `level` as there. `content`:
    of a file as it was written, of an event its text. `next`: the offset behind the content in its
    file; `dropped`: instead of content, so many bytes before `next` are gone. `is_partial`: a line
    that has no end yet, to be shown until the next record; it comes again.
    """

    at: float
    box: str
    run: str = ""
    job: str = ""
    stage: str = ""
    source: str = LOG
    level: str = "info"
    content: bytes = b""
    next: int = 0
    dropped: int = 0
    is_partial: bool = False

    def warning(self, mask: Mask) -> str:
        """For people who follow one job: a warning about its box, in words; empty for any other
        record."""
        is_warning = self.source in _BOX_SOURCES and self.level != "info"
        return (
            f"[{timefmt.clock(self.at)} UTC {self.source}] {self.text(mask)}" if is_warning else ""
        )

    def text(self, mask: Mask) -> str:
        """Its lines as a person reads them, without the last end: no secrets, and of a line that
        was overwritten by carriage returns, such as a progress bar, its last state."""
        content = self.content.removesuffix(b"\n")
        if b"\r" in content:
            content = b"\n".join(map(last_state, content.split(b"\n")))
        return (
            hole_text(self.dropped) if self.dropped else mask.text(content.decode(errors="replace"))
        )


class LogSink:
    """Takes records. Called from the thread that reads the log."""

    def positions(self) -> dict[str, tuple[int, str]]:
        """Of one job that is copied: how far each of its files is here, and the mark of what is
        before that."""
        return {}

    def introduce(self, job: JobFacts) -> None:
        """Records of this job will follow."""

    def take(self, record: LogRecord) -> None:
        """Take a record. Raises ValueError for one that does not continue what was taken before."""

    def restart(self, job_id: str, name: str) -> None:
        """That file is another one now; it follows from its beginning."""

    def live(self) -> None:
        """What there was has been taken; what follows is new."""

    def ended(self, job: JobFacts, state: JobState) -> None:
        """All of that job has been taken."""

    def notice(self, text: str) -> None:
        """Something for people that belongs to no log, such as a lost connection."""


def last_state(line: bytes) -> bytes:
    """What a terminal would show of a line in the end."""
    return line.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in line else line


def hole_text(size: int) -> str:
    """What a reader sees in place of what is missing."""
    return f"[{counted(size, 'byte')} {'was' if size == 1 else 'were'} dropped on the box]"
