"""The inventory with its defaults, as tables."""

from typing import TYPE_CHECKING

from remote.control.config.documentation import values_of

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory

BOXES = ("box", "key", "value")
"""The heads of `boxes`."""

ELSEWHERE = ("section", "key", "value")
"""The heads of `elsewhere`."""


def boxes(inventory: "Inventory") -> list[tuple[str, ...]]:
    """Every key of every box."""
    return [(name, *row) for name, box in inventory.boxes.items() for row in values_of(box)]


def elsewhere(inventory: "Inventory") -> list[tuple[str, ...]]:
    """Every key of the other sections."""
    named = {
        "ollama": inventory.ollama,
        "storage": inventory.storage,
        "ssh": inventory.ssh,
        "push": inventory.push,
    }
    return [(section, *row) for section, value in named.items() for row in values_of(value)]
