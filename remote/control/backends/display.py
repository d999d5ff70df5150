"""Who hears of a job while it is followed. What shows it, on a terminal or a page, makes one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from remote.contract.telemetry.events import Metric


class Display(Protocol):
    """Where a job's warnings and measurements go."""

    def line(self, text: str) -> None:
        """A line for the reader."""
        ...

    def metric(self, metric: Metric) -> None:
        """A measurement."""
        ...


Shows = Callable[[str], AbstractContextManager[Display]]
"""Makes the display of one job, by its title, for as long as it is followed."""


@contextmanager
def followed(shows: Shows, title: str, on_interrupt: str) -> Iterator[Display]:
    """The display of a job while it is followed. Ctrl-C leaves the job running: the display hears
    `on_interrupt`, how to come back."""
    with shows(title) as display:
        try:
            yield display
        except KeyboardInterrupt:
            display.line(on_interrupt)
            raise


class _Silent:
    def line(self, text: str) -> None:
        """Nobody hears it."""

    def metric(self, metric: Metric) -> None:
        """Nobody hears it."""


@contextmanager
def silent(title: str) -> Iterator[Display]:
    """Nobody looks on."""
    yield _Silent()
