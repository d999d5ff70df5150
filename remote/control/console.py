"""How Windlass speaks to a person (standard error) and to a script (standard output, JSON)."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from remote.control.secrets import mask, masked, masked_value

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> "Console":
    """The one console for people. Standard output stays clean for `--json`."""
    from rich.console import Console

    # Off a terminal no row is folded: whoever reads it there is a file, a log or grep.
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 1000)


def say(text: str = "", style: str | None = None) -> None:
    """One line for a person."""
    console().print(masked(text), style=style, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(masked_value(value), indent=1, sort_keys=True, default=lambda each: masked(str(each))))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], lines: bool = False) -> None:
    """A table for people, on standard error; with `lines` between rows that hold several."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold", show_lines=lines)
    for column in columns:
        table.add_column(column, overflow="fold")
    shown = mask()
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(shown.text(str(cell))) for cell in row))
    console().print(table)


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
    """A bar on a terminal while `total` bytes move, gone afterwards; silent elsewhere. Yields what takes the bytes moved so far."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True, disable=not console().is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


def ask_yes(question: str, assume_yes: bool) -> bool:
    """Whether to go on. Without a terminal the answer is `assume_yes`: nothing ever waits for a key that nobody can press."""
    if assume_yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return assume_yes
    from rich.prompt import Confirm

    return Confirm.ask(question, console=console(), default=False)
