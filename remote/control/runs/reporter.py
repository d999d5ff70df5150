"""Where a run tells what it does, while it does it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from remote.contract.telemetry.events import Metric
from remote.control.backends.preflight import Report
from remote.control.progress import Bytes, Say, no_bytes, silent


class Display(Protocol):
    """Shows a job that is under way."""

    def line(self, text: str) -> None:
        """A line about it."""
        ...

    def metric(self, metric: Metric) -> None:
        """A measurement of it."""
        ...


class _NoDisplay:
    def line(self, text: str) -> None:
        pass

    def metric(self, metric: Metric) -> None:
        pass


@contextmanager
def _no_job(title: str) -> Iterator[Display]:
    yield _NoDisplay()


def _no_checks(report: Report) -> None:
    pass


@dataclass(frozen=True)
class Reporter:
    """Shows a run to whoever drives it; by default to nobody.

    `say` takes a line, `bytes` shows what moves, `job` shows a job under a title for as long as its
    block lasts, `checks` what preflight found.
    """

    say: Say = silent
    bytes: Bytes = no_bytes
    job: Callable[[str], AbstractContextManager[Display]] = _no_job
    checks: Callable[[Report], None] = _no_checks


NOBODY = Reporter()
"""Shows nothing."""
