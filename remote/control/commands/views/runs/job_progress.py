"""A job as a person sees it while it runs: one live line on a terminal, plain lines elsewhere."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from remote.contract.telemetry.events import Metric
from remote.control.backends.display import Display
from remote.control.output.console import console, ended_well, say

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_EVERY_SECONDS = 5.0


@contextlib.contextmanager
def display_for(title: str) -> Iterator[Display]:
    """A live line where there is a terminal, plain lines where there is none."""
    is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    made: LiveDisplay | PlainDisplay = LiveDisplay(title) if is_live else PlainDisplay(title)
    with ended_well(), made as display:
        yield display


def summary(metric: Metric) -> str:
    """The measurement in words: `loss 0.412 · val 0.398 · 1,234 tok/s · 5.1 GB`."""
    parts = (
        _part("loss {:.3f}", metric.loss),
        _part("val {:.3f}", metric.val_loss),
        _part("{:,.0f} tok/s", metric.tokens_per_second),
        _part("{:.1f} GB", metric.memory_gb),
    )
    return " · ".join(part for part in (*parts, metric.note or "") if part)


def clock(seconds: float) -> str:
    """`4:05`, or `1:04:05`."""
    hours, rest = divmod(round(seconds) if math.isfinite(seconds) else 0, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class PlainDisplay:
    """One line every few seconds at most, and always the last one."""

    def __init__(self, title: str, every_seconds: float = PLAIN_EVERY_SECONDS) -> None:
        self._title, self._every = title, every_seconds
        self._said_at, self._unsaid = float("-inf"), ""

    def line(self, text: str) -> None:
        """A line for the reader."""
        say(text)

    def metric(self, metric: Metric) -> None:
        """A measurement, said when the last one is old enough."""
        share = f"{100 * metric.step / metric.total_steps:3.0f}% " if metric.total_steps else ""
        steps = f"{share}step {metric.step}/{metric.total_steps} " if share or metric.step else ""
        eta = f" · {clock(metric.eta_seconds)} to go" if metric.eta_seconds is not None else ""
        self._unsaid = f"  {self._title} {steps}· {summary(metric)}{eta}"
        if time.monotonic() - self._said_at >= self._every:
            self._flush()

    def _flush(self) -> None:
        if self._unsaid:
            say(self._unsaid)
        self._said_at, self._unsaid = time.monotonic(), ""

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush()


class LiveDisplay:
    """A progress bar that stays at the bottom while lines pass above it."""

    def __init__(self, title: str) -> None:
        self._progress, self._is_measured = _progress(), False
        self._task = self._progress.add_task(title, total=None, said="", eta="")

    def line(self, text: str) -> None:
        """A line for the reader, above the bar."""
        say(text)

    def metric(self, metric: Metric) -> None:
        """A measurement, shown at once. Validation lines and notes do not wipe out the loss."""
        eta = f"{clock(metric.eta_seconds)} to go" if metric.eta_seconds is not None else ""
        if metric.loss is not None or metric.note:
            self._progress.update(self._task, said=summary(metric), eta=eta)
        self._is_measured = True
        self._progress.update(self._task, completed=metric.step, total=metric.total_steps or None)

    def __enter__(self) -> "LiveDisplay":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_measured:  # nothing to look back at
            self._progress.update(self._task, visible=False)
        self._progress.stop()


def _progress() -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    def of_known_total(column: type[Any], **options: Any) -> Any:
        """The column, which stays empty until a total is known: a bar without one looks full."""
        render = column.render
        known = type(
            f"Known{column.__name__}",
            (column,),
            {"render": lambda self, task: render(self, task) if task.total else Text()},
        )
        return known(**options)

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        of_known_total(BarColumn, bar_width=24),
        of_known_total(TaskProgressColumn),
        of_known_total(MofNCompleteColumn),
        TextColumn("{task.fields[said]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}", markup=False),
        # Only a terminal's standard output may pass through the bar: a pipe gets the log's lines
        # untouched.
        console=console(),
        redirect_stdout=sys.stdout.isatty(),
    )


def _part(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)
