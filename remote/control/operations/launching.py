"""Before money is spent: what a launch of one or many boxes would do and cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remote.control import fleet
from remote.control.config.inventory import CloudEntry

if TYPE_CHECKING:
    from remote.control.cloud.provider import Mode, Plan
    from remote.control.config.inventory import BoxEntry, Inventory


@dataclass(frozen=True)
class Intent:
    """What a launch would do with one box of the inventory."""

    entry: "BoxEntry"
    plan: "Plan"
    why: str

    @property
    def name(self) -> str:
        """The box's name."""
        return self.entry.name

    @property
    def is_new(self) -> bool:
        """Whether a box would be made."""
        return self.plan.existing is None and isinstance(self.entry, CloudEntry)


def intents(inventory: "Inventory", entries: Sequence["BoxEntry"], mode: "Mode") -> list[Intent]:
    """What `launch` would do with each box; only reads. Boxes alike that are not there yet are
    planned once."""
    first: dict[str, BoxEntry] = {}
    there = _there(inventory, entries) if len(entries) > 1 else set()
    like = {
        entry.name: first.setdefault(_likeness(entry, entry.name in there), entry)
        for entry in entries
    }
    outcomes = fleet.outcomes_of(list(first.values()), lambda entry, _: _planned(entry, mode))
    plans = dict(
        zip((entry.name for entry in first.values()), fleet.or_raise(outcomes), strict=True)
    )
    return [_intent(entry, like[entry.name].name, plans) for entry in entries]


def costs_money(wanted: Sequence[Intent]) -> bool:
    """Whether a box that is billed would be made."""
    return any(intent.is_new and intent.plan.is_billed for intent in wanted)


def loses_data(wanted: Sequence[Intent]) -> bool:
    """Whether a box that is there would be replaced."""
    return any(intent.plan.replaces for intent in wanted)


def _intent(entry: "BoxEntry", planned: str, plans: "dict[str, Plan]") -> Intent:
    """`planned` is the box whose plan this one shares: the reason names that one."""
    plan = plans[planned]
    return Intent(entry, plan, plan.why.replace(f"box {planned} ", f"box {entry.name} "))


def _there(inventory: "Inventory", entries: Sequence["BoxEntry"]) -> set[str]:
    from remote.control.cloud import boxes
    from remote.control.cloud.account import endpoint

    for entry in {
        entry.provider: entry for entry in entries if isinstance(entry, CloudEntry)
    }.values():
        endpoint.of_entry(
            entry
        )  # a listing starts nothing, and would know of no box of a cloud that is down
    return {box.name for box in boxes.listing(inventory) if box.state != "terminated"}


def _likeness(entry: "BoxEntry", is_there: bool) -> str:
    """The same for boxes that one plan fits: `name` is no part of the dump."""
    return entry.name if is_there else entry.model_dump_json()


def _planned(entry: "BoxEntry", mode: "Mode") -> "Plan":
    from remote.control.cloud import boxes

    return boxes.plan(entry, mode)
