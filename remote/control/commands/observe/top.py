"""The boxes and what they do, live."""

from collections.abc import Sequence
from typing import Any

from remote.control.commands.program.verb import verb


@verb(
    positional=["names"],
    help={
        "names": "boxes or groups (default: all of inventory.yaml, and what runs besides)",
        "json": "print as JSON how they stand now",
        "follow": "with --json: a line every two seconds, until Ctrl-C",
    },
)
def top(_context: Any, names: Sequence[str] = (), json: bool = False, follow: bool = False) -> None:
    """Show boxes and runs live: GPU, step, loss, time left, cost, clocks.

    `q` ends it. Without a terminal it prints once.
    """
    from remote.control.commands.views.observe import top as view
    from remote.control.commands.views.observe.top_tables import tables
    from remote.control.commands.views.progress import say
    from remote.control.config.inventory import load_inventory
    from remote.control.observe import top as boxes
    from remote.control.observe.live import EVERY_SECONDS
    from remote.control.observe.records import records
    from remote.control.output import console

    inventory = load_inventory()
    if json and follow:
        watching = boxes.watching(inventory, names, say)
        view.print_lines(watching, EVERY_SECONDS, boxes.SNAPSHOT_SECONDS)
    elif json:
        console.print_json(records(boxes.views(inventory, names, say)))
    elif view.is_live():
        view.show(boxes.watching(inventory, names, say))
    else:
        console.show(tables(boxes.views(inventory, names, say), console.output().width))
