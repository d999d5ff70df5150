"""`inv top`: the boxes and what they do, live on a terminal, or as they stand now."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from remote.control.errors import WindlassError
from remote.control.output.console import ended_well, output, print_json_line
from remote.control.targets import boxes_of
from remote.control.telemetry import keys, screen
from remote.control.telemetry.live import LIST_SECONDS, View, Watcher, snapshot
from remote.control.transport.connect import connect

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory

SNAPSHOT_SECONDS = 12.0

_KEY_SECONDS = 0.25
_ENDS = ("q", "Q", keys.END)


def is_live() -> bool:
    """Whether there is a terminal to show a screen on, and to press q at."""
    return output().is_terminal and sys.stdin.isatty() and os.environ.get("TERM") != "dumb"


def views(inventory: "Inventory", names: Sequence[str]) -> list[View]:
    """How the boxes stand now."""
    return snapshot(boxes_of(inventory, names), connect, SNAPSHOT_SECONDS)


def watch(inventory: "Inventory", names: Sequence[str]) -> None:
    """A screen until q or Ctrl-C."""
    from rich.live import Live

    with (
        contextlib.suppress(KeyboardInterrupt),
        ended_well(),
        _watching(inventory, names) as watcher,
        keys.pressed() as key,
        Live(console=output(), screen=True, auto_refresh=False) as live,
    ):
        while key(_KEY_SECONDS) not in _ENDS:
            live.update(screen.tables(watcher.views(), output().width), refresh=True)


def tell(inventory: "Inventory", names: Sequence[str], every_seconds: float) -> None:
    """The boxes as one line of JSON every so many seconds on standard output, until Ctrl-C or until
    nobody reads."""
    with contextlib.suppress(KeyboardInterrupt), _watching(inventory, names) as watcher:
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while not watcher.is_whole() and time.monotonic() < deadline:
            time.sleep(0.05)
        while True:
            print_json_line(screen.records(watcher.views()))
            time.sleep(every_seconds)


@contextlib.contextmanager
def _watching(inventory: "Inventory", names: Sequence[str]) -> Iterator[Watcher]:
    watcher = Watcher(boxes_of(inventory, names), connect)
    over = threading.Event()
    threading.Thread(
        target=_renew, args=(watcher, inventory, names, over), daemon=True, name="top list"
    ).start()
    try:
        yield watcher
    finally:
        over.set()
        watcher.close()


def _renew(
    watcher: Watcher, inventory: "Inventory", names: Sequence[str], over: threading.Event
) -> None:
    """Look from time to time which boxes there are: one may be started while the screen is
    shown."""
    while not over.wait(LIST_SECONDS):
        with contextlib.suppress(
            WindlassError
        ):  # the cloud does not answer just now: the boxes themselves may
            watcher.renew(boxes_of(inventory, names))
