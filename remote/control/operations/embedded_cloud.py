"""The embedded cloud: a box's console, and faults that are injected and taken back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from remote.control.cloud import boxes, embedded
from remote.control.errors import BoxStopped, CloudError

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry


def console_of(entry: "BoxEntry") -> str:
    """The last 64 KiB of the console of an embedded box. Raises CloudError for a box that is
    elsewhere, BoxStopped for one that was never launched."""
    if entry.provider != "embedded":
        raise CloudError(
            f"box {entry.name} is not in the embedded cloud",
            where="inventory.yaml",
            why=f"its provider is {entry.provider}",
        )
    box = boxes.find(entry)
    if box is None:
        raise BoxStopped(
            f"box {entry.name} was never launched", remedy=f"./inv launch {entry.name}"
        )
    return embedded.console(embedded.endpoint(), box.id)


def inject(fault: Mapping[str, str], dry_run: bool = False) -> dict[str, Any]:
    """Have something go wrong, as `cloud.embedded.inject` says; returns the fault, with its `id`
    unless `dry_run`. Raises CloudError where there is no such fault."""
    if dry_run:
        embedded.check(dict(fault))
        return dict(fault)
    return {"id": embedded.inject(embedded.endpoint(), dict(fault)), **fault}


def take_back(facts: Mapping[str, str], dry_run: bool = False) -> list[dict[str, Any]]:
    """Take back the faults that have these facts, unless `dry_run`; returns them."""
    url = embedded.endpoint()
    found = [
        fault
        for fault in embedded.faults(url)
        if all(str(fault[name]) == value for name, value in facts.items())
    ]
    for fault in () if dry_run else found:
        embedded.clear(url, fault["id"])
    return found
