"""How Windlass speaks to a person (standard error) and to a script (standard output, JSON)."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from remote.control import json_text
from remote.control.printable import plain, sized
from remote.control.secrets import mask, masked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PROGRESS_SECONDS = 10.0
"""How often a line tells of progress where no terminal shows a bar."""


@cache
def console() -> "Console":
    """The one console for people. Standard output stays clean for `--json`."""
    # Off a terminal no row is folded: whoever reads it there is a file, a log or grep.
    return _plain_console()(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 1000)


@cache
def _plain_console() -> "type[Console]":
    from rich.console import Console
    from rich.segment import Segment

    class PlainConsole(Console):
        """Whatever is shown, and whoever said it: no control sequence reaches the terminal but rich's own."""

        def render(self, *words: Any, **more: Any) -> "Iterable[Segment]":
            for segment in super().render(*words, **more):
                yield segment if segment.control else Segment(plain(segment.text), segment.style)

    return PlainConsole


def say(text: str = "", style: str | None = None) -> None:
    """One line for a person."""
    console().print(masked(text), style=style, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, as `json_text` writes it."""
    print(json_text.document(value))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], lines: bool = False) -> None:
    """A table for people, on standard error; with `lines` between rows that hold several."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold", show_lines=lines)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "run")  # a run's id is there to be typed
    shown = mask()
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(shown.text(str(cell))) for cell in row))
    if _needs(table) > console().width:  # lines around cells take a third of 80 columns
        table.box, table.pad_edge = None, False
    console().print(table)


def _needs(table: "Table") -> int:
    from rich.measure import Measurement

    return Measurement.get(console(), console().options.update(max_width=10_000), table).maximum


@contextlib.contextmanager
def ended_well() -> Iterator[None]:
    """SIGTERM ends what is inside as Ctrl-C does, so that a terminal whose cursor, keys or screen were changed is given back as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def lines_of(names: Sequence[str]) -> Iterator[Callable[[str, str, bool | None], None]]:
    """One line for each name, kept up to date on a terminal; elsewhere a line for each change.

    Yields what takes name, text, and whether it ended well (None: it goes on). May be called from any thread.
    """
    if not console().is_terminal:
        width = max(map(len, names))
        yield lambda name, text, _: say(f"{name:<{width}}  {text}")
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), TextColumn("{task.fields[text]}", markup=False))
    with Progress(*columns, console=console()) as progress:
        tasks = {name: progress.add_task(name, total=1, text="") for name in names}

        def show(name: str, text: str, ended: bool | None) -> None:
            told = masked(text if ended is not False else f"FAILED: {text}")
            progress.update(tasks[name], text=told, completed=0 if ended is None else 1)

        yield show


@contextlib.contextmanager
def bytes_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """What takes the bytes moved so far, of `total`: a bar on a terminal, gone afterwards; elsewhere a line each ten seconds.

    The first call tells what was there already: the rate is of what came since. May be called from any thread, one at a time.
    """
    if not console().is_terminal:
        yield _Progress(title, total).tell
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


class _Progress:
    """Lines about bytes that move, with the rate since the last line and what time is left at that."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._told_at, self._told = time.monotonic(), -1

    def tell(self, done: int) -> None:
        """So many bytes are there."""
        now = time.monotonic()
        if self._told < 0:
            self._told = done
        seconds = now - self._told_at
        if seconds < PROGRESS_SECONDS:
            return
        rate = (done - self._told) / seconds
        left = f", {timedelta(seconds=round((self._total - done) / rate))} left" if rate > 0 else ""
        share = f"{100 * done / self._total:.0f} % of {sized(self._total)}" if self._total else sized(done)
        say(f"  {self._title}: {share}, {sized(round(rate))}/s{left}")
        self._told_at, self._told = now, done


def ask_yes(question: str, assume_yes: bool) -> bool:
    """Whether to go on. Without a terminal the answer is `assume_yes`: nothing ever waits for a key that nobody can press."""
    if assume_yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return assume_yes
    from rich.prompt import Confirm

    return Confirm.ask(question, console=console(), default=False)


def ask_which(question: str, choices: Sequence[str]) -> int | None:
    """Which of several is meant, asked on a terminal; None where nobody chose."""
    from rich.prompt import Prompt

    for number, choice in enumerate(choices, 1):
        say(f"  {number}  {choice}")
    answer = Prompt.ask(f"{question} Its number, or Enter for none", console=console(), default="", show_default=False).strip()
    return int(answer) - 1 if answer.isdecimal() and 1 <= int(answer) <= len(choices) else None
