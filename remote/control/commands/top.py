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
    from remote.control.config.inventory import load_inventory
    from remote.control.output import console
    from remote.control.telemetry import live, screen
    from remote.control.telemetry import top as boxes

    inventory = load_inventory()
    if json and follow:
        boxes.tell(inventory, names, live.EVERY_SECONDS)
    elif json:
        console.print_json(screen.records(boxes.views(inventory, names)))
    elif boxes.is_live():
        boxes.watch(inventory, names)
    else:
        console.show(screen.tables(boxes.views(inventory, names), console.output().width))
