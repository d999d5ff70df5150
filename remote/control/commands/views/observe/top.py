"""The boxes and what they do, live: a screen on a terminal, or lines of JSON."""

import contextlib
import os
import sys
import time

from remote.control.commands.views.observe import keys, top_tables
from remote.control.observe.live import Watcher
from remote.control.observe.records import records
from remote.control.output.console import ended_well, output, print_json_line

_KEY_SECONDS = 0.25
_ENDS = ("q", "Q", keys.END)


def is_live() -> bool:
    """Whether there is a terminal to show a screen on, and to press q at."""
    return output().is_terminal and sys.stdin.isatty() and os.environ.get("TERM") != "dumb"


def show(watching: contextlib.AbstractContextManager[Watcher]) -> None:
    """A screen until q or Ctrl-C."""
    from rich.live import Live

    with (
        contextlib.suppress(KeyboardInterrupt),
        ended_well(),
        watching as watcher,
        keys.pressed() as key,
        Live(console=output(), screen=True, auto_refresh=False) as live,
    ):
        while key(_KEY_SECONDS) not in _ENDS:
            live.update(top_tables.tables(watcher.views(), output().width), refresh=True)


def print_lines(
    watching: contextlib.AbstractContextManager[Watcher], every_seconds: float, first_seconds: float
) -> None:
    """The boxes as one line of JSON every so many seconds on standard output, until Ctrl-C or until
    nobody reads. The first waits at most `first_seconds` for all of them."""
    with contextlib.suppress(KeyboardInterrupt), watching as watcher:
        deadline = time.monotonic() + first_seconds
        while not watcher.is_whole() and time.monotonic() < deadline:
            time.sleep(0.05)
        while True:
            print_json_line(records(watcher.views()))
            time.sleep(every_seconds)
