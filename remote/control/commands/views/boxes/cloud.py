"""The embedded cloud, its instances and its faults, as tables and lines."""

from collections.abc import Sequence
from typing import Any

INSTANCES = ("id", "name", "type", "market", "zone", "state", "host", "port", "user", "disk")
"""The heads of `instances`."""


def state(record: dict[str, Any] | None) -> str:
    """Whether it is up, as `embedded.running` tells."""
    if record is None:
        return "the embedded cloud is down"
    return f"the embedded cloud is up at {record['url']} (process {record['pid']})"


def instances(listed: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Its instances, as `embedded.listing` tells."""
    return [[instance[column] for column in INSTANCES] for instance in listed]


def faults(found: Sequence[dict[str, Any]], what: str) -> str:
    """How many faults, `what` became of them, and each in words."""
    count = f"{len(found)} fault{'' if len(found) == 1 else 's'}"
    return f"{count} {what}{''.join(f'; {_fault(each)}' for each in found)}"


def _fault(fault: dict[str, Any]) -> str:
    told = {
        name: value
        for name, value in fault.items()
        if value not in ("", None, 0) and name not in ("kind", "id", "at")
    }
    return " ".join((fault["kind"], *(f"{name} {value}" for name, value in told.items())))
