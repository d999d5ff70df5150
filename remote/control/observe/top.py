"""The boxes and what they do: as they stand now, or kept up to date."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from remote.control.errors import WindlassError
from remote.control.observe.live import LIST_SECONDS, View, Watcher, snapshot
from remote.control.progress import Say
from remote.control.targets import boxes_of
from remote.control.transport.connect import connect

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory

SNAPSHOT_SECONDS = 12.0
"""How long boxes may take to tell how they stand."""


def views(inventory: "Inventory", names: Sequence[str], say: Say) -> list[View]:
    """How the boxes of those names or groups stand now; without names all, and what runs
    besides. `say` hears how they are reached."""
    return snapshot(boxes_of(inventory, names), lambda box: connect(box, say), SNAPSHOT_SECONDS)


@contextlib.contextmanager
def watching(inventory: "Inventory", names: Sequence[str], say: Say) -> Iterator[Watcher]:
    """The boxes of those names or groups (all, and what runs besides, without names), kept up to
    date inside. `say` hears how they are reached."""
    watcher = Watcher(boxes_of(inventory, names), lambda box: connect(box, say))
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
