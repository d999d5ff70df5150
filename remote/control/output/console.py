"""How Windlass speaks.

What a command was asked to tell is standard output: tables, lists, plans, findings, outcomes and
what to type next (`tell`, `print_table`), or with `--json` one document (`print_json`), and then
the rest is `aside`. Progress, warnings, questions and errors are standard error (`say`). All of it
is masked, and nothing that anybody else wrote can play with the terminal, through a pipe neither.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from remote.control.output import json_text
from remote.control.output.sanitize import folded, plain, sized
from remote.control.secrets import mask, masked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

command = "./inv"
"""How Windlass was started, and is named in what it tells: `windlass` where it is installed."""

_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "bold red": "1;31",
    "bold green": "1;32",
}

_UNFOLDED = 1000
"""Columns where no terminal is."""

_NARROWEST = 24
"""Columns for what a name means; with fewer it stands on lines of its own."""
_COMMAND = re.compile(r"(?<![\w/.-])\./inv(?=[ `]|$)", re.MULTILINE)

PROGRESS_SECONDS = 10.0
"""How often a line tells of progress where no terminal shows a bar."""


@cache
def console() -> "Console":
    """Standard error, for progress."""
    return _made(sys.stderr)


@cache
def output() -> "Console":
    """Standard output."""
    return _made(sys.stdout)


def _made(stream: TextIO) -> "Console":
    return _plain_console()(
        stderr=stream is sys.stderr,
        highlight=False,
        emoji=False,
        # Rich would leave bold and dim.
        color_system=None if "NO_COLOR" in os.environ else "auto",
        width=None if stream.isatty() else _UNFOLDED,
    )


_asides: list[None] = []
"""One for each `aside` that has not ended: threads of a command tell aside together."""


@contextlib.contextmanager
def aside(yes: bool = True) -> Iterator[None]:
    """What is told inside goes to standard error: a script reads a document, or the words belong to
    a question. Unless not `yes`."""
    if yes:
        _asides.append(None)
    try:
        yield
    finally:
        if yes:
            _asides.pop()


@cache
def _plain_console() -> "type[Console]":
    from rich.console import Console
    from rich.segment import Segment

    class PlainConsole(Console):
        """Whatever is shown, and whoever said it: no control sequence reaches the terminal but
        rich's own."""

        def on_broken_pipe(self) -> None:
            """Nobody reads any more: that ends a command quietly, where rich would have it fail."""
            raise BrokenPipeError

        def render(self, *words: Any, **more: Any) -> "Iterable[Segment]":
            for segment in super().render(*words, **more):
                yield segment if segment.control else Segment(plain(segment.text), segment.style)

    return PlainConsole


def say(text: str = "", style: str | None = None) -> None:
    """A line of progress, or a warning: on standard error."""
    _write_line(sys.stderr, text, style)


def tell(text: str = "", style: str | None = None, whole: bool = False) -> None:
    """A line of what the command was asked for: on standard output, unless `aside`. One that is
    `whole` is there to be copied."""
    _write_line(_told_on(), text, style, whole)


def tell_next(step: str) -> None:
    """What to type next, where there is something: a command in backquotes, and what it does."""
    if step:
        tell(f"next: {step}")


def write(text: str) -> None:
    """A piece of what the command was asked for, without a line's end: on standard output, at
    once."""
    sys.stdout.write(plain(_shown(text)))
    sys.stdout.flush()


def width() -> int:
    """How many columns lines on standard output are folded to: those of its terminal; so many that
    nothing is folded where there is none."""
    return _columns(sys.stdout) if sys.stdout.isatty() else _UNFOLDED


def in_columns(pairs: Sequence[tuple[str, str | None]], first: int = 0) -> list[str]:
    """Lines of names with what they mean, the names in a column of at least `first`, folded to the
    terminal; on a narrow one the meaning stands below the name."""
    first = max([first, *(len(name) for name, _ in pairs)])
    room = width() - first - 5
    is_below = room < _NARROWEST
    indent = " " * (6 if is_below else first + 4)
    lines = []
    for name, meaning in pairs:
        words = textwrap.wrap(meaning or "", max(width() - 7, 10) if is_below else room) or [""]
        lines.append(f"  {name}" if is_below else f"  {name:<{first}}  {words.pop(0)}".rstrip())
        lines += [f"{indent}{line}" for line in words if line]
    return lines


def complain(text: str) -> None:
    """The lines of an error: on standard error. As quick as can be, for a command line that is off
    has loaded nothing else."""
    columns = _columns(sys.stderr) if sys.stderr.isatty() else 0
    sys.stderr.write(f"{folded(plain(_shown(text)), columns)}\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """One JSON document on standard output, as `json_text` writes it."""
    sys.stdout.write(f"{json_text.document(value)}\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:
    """A JSON value as one line on standard output, at once."""
    sys.stdout.write(f"{json_text.line(value)}\n")
    sys.stdout.flush()


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], lines: bool = False
) -> None:
    """A table on standard output, unless `aside`; with `lines` between rows that hold several. On a
    terminal too narrow for its columns, each row is a list; off a terminal it is one line."""
    if _told_on().isatty():
        _console_told_on().print(_table(title, columns, list(rows), lines))
        return
    for line in _in_lines(title, columns, rows):
        _write_line(_told_on(), line)


def styled(text: str, style: str) -> "str | Text":
    """A cell of a table in a style."""
    if not style:
        return text
    from rich.text import Text

    return Text(text, style=style)


def show(renderable: Any) -> None:
    """Something of rich's own on standard output, unless `aside`."""
    _console_told_on().print(renderable)


def _columns(stream: TextIO) -> int:
    """Those of the terminal behind this stream: the other one may be a file."""
    fallback = shutil.get_terminal_size().columns  # COLUMNS, else standard output's
    if os.environ.get("COLUMNS"):
        return fallback
    try:
        return os.get_terminal_size(stream.fileno()).columns or fallback
    except (OSError, ValueError):  # no terminal, or no file
        return fallback


def _shown(text: str) -> str:
    return as_typed(masked(text))


def as_typed(text: str) -> str:
    """A text of ours with its commands as they are typed here: `./inv logs`, `windlass logs`."""
    return text if command == "./inv" else _COMMAND.sub(command, text)


def _told_on() -> TextIO:
    return sys.stderr if _asides else sys.stdout


def _console_told_on() -> "Console":
    return console() if _asides else output()


def _write_line(stream: TextIO, text: str, style: str | None = None, whole: bool = False) -> None:
    # Not by rich: it takes longer to load than many a command takes. What rich draws just then, it
    # moves out of the line's way.
    words = plain(_shown(text))
    if stream.isatty():
        words = words if whole else folded(words, _columns(stream))
        if style and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
            words = f"\x1b[{_STYLES[style]}m{words}\x1b[0m"
    stream.write(f"{words}\n")
    stream.flush()


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], lines: bool
) -> "Table":
    from rich.table import Table
    from rich.text import Text

    shown = mask()
    cells = [
        [cell if isinstance(cell, Text) else Text(as_typed(shown.text(str(cell)))) for cell in row]
        for row in rows
    ]
    if cells and _is_too_wide(columns, cells):
        return _as_lists(title, columns, cells)
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        header_style="bold",
        show_lines=lines,
    )
    for column in columns:
        table.add_column(
            Text(column), overflow="fold", no_wrap=column == "run"
        )  # a run's id is there to be typed
    for row in cells:
        table.add_row(*row)
    if _needs(table) > _console_told_on().width:  # lines around cells take a third of 80 columns
        table.box, table.pad_edge = None, False
    return table


def _is_too_wide(columns: Sequence[str], rows: "Sequence[Sequence[Text]]") -> bool:
    """Whether folding would leave columns too narrow to read: less than their longest word, or than
    so much of it."""
    room = _console_told_on().width
    enough = 6 if room >= 80 else 14
    needed = 2 * (len(columns) - 1)
    for name, *cells in zip(columns, *(map(str, row) for row in rows), strict=True):
        longest = max((len(word) for cell in (name, *cells) for word in cell.split()), default=0)
        needed += longest if name == "run" else min(longest, enough)
    return needed > room


def _as_lists(title: str, columns: Sequence[str], rows: "Sequence[Sequence[Text]]") -> "Table":
    """A line for each cell that is not empty, under its column's name, and a gap between rows."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.title, table.title_justify = (Text(title) if title else None), "left"
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            table.add_row()
        for name, cell in zip(columns, row, strict=True):
            if cell.plain:
                table.add_row(Text(name), cell)
    return table


def _in_lines(
    title: str, columns: "Sequence[str]", rows: "Iterable[Sequence[object]]"
) -> Iterator[str]:
    """A table for a file or a pipe: no row is folded, and nothing but blanks stands between
    cells."""
    from rich.cells import cell_len

    shown = mask()
    table = [
        list(columns),
        *([" ".join(as_typed(shown.text(str(cell))).split()) for cell in row] for row in rows),
    ]
    widths = [max(map(cell_len, column), default=0) for column in zip(*table, strict=True)]
    if title.strip():
        yield title.strip()
    for row in table:
        padded = (
            f"{cell}{' ' * (width - cell_len(cell))}"
            for cell, width in zip(row, widths, strict=True)
        )
        if line := "  ".join(padded).rstrip():
            yield line


def _needs(table: "Table") -> int:
    from rich.measure import Measurement

    shown_on = _console_told_on()
    return Measurement.get(shown_on, shown_on.options.update(max_width=10_000), table).maximum


@contextlib.contextmanager
def ended_well() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is inside as Ctrl-C does: a terminal whose cursor, keys or screen
    were changed is given back as it was, and processes that were started are ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]  # as under nohup
    before = {
        number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in heard
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def lines_of(names: Sequence[str]) -> Iterator[Callable[[str, str, bool | None], None]]:
    """One line for each name, kept up to date on a terminal; elsewhere a line for each change, and
    what ended well is told.

    Yields what takes name, text, and whether it ended well (None: it goes on). May be called from
    any thread.
    """
    if not sys.stderr.isatty():
        width = max(map(len, names))
        yield lambda name, text, ended: (tell if ended else say)(f"{name:<{width}}  {text}")
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    texts = (
        TextColumn(form, markup=False) for form in ("{task.description}", "{task.fields[text]}")
    )
    with Progress(
        SpinnerColumn(finished_text=" "),
        *texts,
        console=console(),
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        tasks = {name: progress.add_task(name, total=1, text="") for name in names}

        def show(name: str, text: str, ended: bool | None) -> None:
            told = masked(text if ended is not False else f"FAILED: {text}")
            progress.update(tasks[name], text=told, completed=0 if ended is None else 1)

        yield show


@contextlib.contextmanager
def bytes_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """What takes the bytes moved so far, of `total`: a bar on a terminal, gone afterwards;
    elsewhere a line each ten seconds.

    The first call tells what was there already: the rate is of what came since. May be called from
    any thread, one at a time.
    """
    if not sys.stderr.isatty():
        yield _Progress(title, total).tell
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    name = TextColumn("  {task.description}", markup=False)
    columns = (
        name,
        *([BarColumn()] if total else []),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console(), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        task = progress.add_task(title, total=total or None)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def rows_asked(total: int) -> Iterator[Callable[[int], None]]:
    """What takes how many rows of `total` were asked: a bar on a terminal, gone afterwards;
    elsewhere a line at each quarter."""
    if not sys.stderr.isatty():
        told = 0

        def tell_quarter(asked: int) -> None:
            nonlocal told
            if (quarter := asked * 4 // total) > told:
                told = quarter
                say(f"  asked {asked} of {total}")

        yield tell_quarter
        return
    from rich.progress import Progress

    with Progress(
        console=console(), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        task = progress.add_task("asking", total=total)
        yield lambda asked: progress.update(task, completed=asked)


class _Progress:
    """Lines about bytes that move, with the rate since the last line and what time is left at
    that."""

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
        share = (
            f"{100 * done / self._total:.0f} % of {sized(self._total)}"
            if self._total
            else sized(done)
        )
        say(f"  {self._title}: {share}, {sized(round(rate))}/s{left}")
        self._told_at, self._told = now, done


def ask_yes(question: str, assume_yes: bool) -> bool:
    """Whether to go on. Without a terminal the answer is `assume_yes`: nothing ever waits for a key
    that nobody can press."""
    if assume_yes or not can_ask():
        return assume_yes
    from rich.prompt import Confirm
    from rich.text import Text

    return Confirm.ask(Text(_shown(question)), console=console(), default=False)


def can_ask() -> bool:
    """Whether somebody sits at a terminal, and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str) -> str:
    """A line typed on a terminal; `default` where it is empty."""
    from rich.prompt import Prompt
    from rich.text import Text

    words = Text(_shown(question))
    return Prompt.ask(words, console=console(), default=default, show_default=bool(default)).strip()


def ask_which(question: str, choices: Sequence[str]) -> int | None:
    """Which of several is meant, asked on a terminal; None where nobody chose."""
    from rich.prompt import Prompt
    from rich.text import Text

    for number, choice in enumerate(choices, 1):
        say(f"  {number}  {choice}")
    words = Text(_shown(f"{question} Its number, or Enter for none"))
    answer = Prompt.ask(words, console=console(), default="", show_default=False).strip()
    return int(answer) - 1 if answer.isdecimal() and 1 <= int(answer) <= len(choices) else None
