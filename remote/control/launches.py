"""Before money is spent: what a launch of one or many boxes would do and cost, for a person and for
a script."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.control import fleet
from remote.control.config import base_model
from remote.control.output import console

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
        return self.plan.existing is None and self.entry.provider != "static"

    def record(self) -> dict[str, Any]:
        """As JSON."""
        from remote.control.cloud.pricing import estimate

        plan = self.plan
        existing = plan.existing.id if plan.existing else None
        told = {
            "box": self.name,
            "action": plan.action,
            "why": self.why,
            "id": existing,
            "usd_per_hour": plan.hourly_usd,
        }
        lines = [estimate.record(line) for line in plan.lines or ()]
        worst = (
            {
                "usd": plan.worst.usd,
                "stops_at": plan.worst.stops_at.isoformat(),
                "by": plan.worst.by,
            }
            if plan.worst
            else None
        )
        replaces = plan.replaces.id if plan.replaces else None
        then = base_model.after_launch(self.entry) if self.is_new else ""
        return {
            **told,
            **dict(plan.facts),
            "replaces": replaces,
            "offers": lines,
            "worst_case": worst,
            "then": then,
        }


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


def show(wanted: Sequence[Intent], bucket: str | None) -> None:
    """Tell the plans: one line a box, what it would be made of once for all boxes alike, and the
    sum. `bucket` is the inventory's."""
    told: list[Plan] = []
    for intent in wanted:
        plan = intent.plan
        state = f" ({plan.existing.where}, {plan.existing.state})" if plan.existing else ""
        console.tell(
            f"{intent.name}: {plan.action}{state}" + (f"; {intent.why}" if intent.why else "")
        )
        if plan.replaces:
            console.tell(
                f"  ends {plan.replaces.where} with its disk, and every job and model on it, once"
                " the new one is up",
                "bold red",
            )
    for intent in wanted:
        if not any(intent.plan is plan for plan in told):
            told.append(intent.plan)
            _show_details(intent)
    for line in filter(
        None, (base_model.after_launch(intent.entry) for intent in wanted if intent.is_new)
    ):
        console.tell(line, "yellow")
    if len(wanted) > 1:
        console.tell(_sum(wanted), "bold")
    for line in _quotas(wanted):
        console.tell(line, "bold red")
    if bucket is None and (
        spot := [intent.name for intent in wanted if intent.is_new and _may_be_spot(intent)]
    ):
        console.tell(
            f"{', '.join(spot)}: when the cloud takes a spot box back, what is on it is lost"
            " without `storage.bucket`",
            "yellow",
        )


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
        entry.provider: entry for entry in entries if entry.provider != "static"
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


def _show_details(intent: Intent) -> None:
    from remote.control.cloud.pricing import estimate

    plan = intent.plan
    for label, value in plan.facts:
        console.tell(f"{label:>8}: {value}")
    if plan.lines:
        console.print_table(
            "offers, in the order in which they are tried", *estimate.table(plan.lines)
        )
        for sentence in estimate.sentences(intent.entry, plan.lines[0], plan.worst, plan.is_billed):
            console.tell(sentence)


def _sum(wanted: Sequence[Intent]) -> str:
    new = [intent for intent in wanted if intent.is_new]
    hourly = sum(intent.plan.hourly_usd or 0 for intent in new)
    worst = sum(intent.plan.worst.usd or 0 for intent in new if intent.plan.worst)
    cost = f"; ${hourly:.2f} an hour" if hourly else ""
    return f"{len(new)} of {len(wanted)} boxes are new{cost}" + (
        f", worst case ${worst:.2f} in all" if worst else ""
    )


def _may_be_spot(intent: Intent) -> bool:
    return any(offer.market == "spot" for offer in intent.plan.offers)


def _quotas(wanted: Sequence[Intent]) -> list[str]:
    """Where the boxes together need more than the quota has, though each alone would fit."""
    rooms: dict[tuple[str, str], list[Any]] = {}
    for intent in wanted:
        room = intent.plan.lines[0].room if intent.is_new and intent.plan.lines else None
        if room:
            rooms.setdefault((room.region, room.code), []).append(room)
    return [
        f"quota {code} in {region} has {some[0].left} vCPUs left and these {len(some)} boxes need"
        f" {sum(room.needed for room in some)}"
        for (region, code), some in rooms.items()
        if len(some) > 1 and sum(room.needed for room in some) > some[0].left
    ]
