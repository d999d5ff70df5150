"""What a launch would do and cost: for people, and as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remote.control.cloud.pricing import estimate
from remote.control.config import base_model
from remote.control.config.inventory import CloudEntry
from remote.control.output import console

if TYPE_CHECKING:
    from remote.control.cloud.provider import Plan
    from remote.control.operations.launching import Intent


def record(intent: "Intent") -> dict[str, Any]:
    """What a launch would do with one box, as JSON."""
    plan = intent.plan
    existing = plan.existing.id if plan.existing else None
    told = {
        "box": intent.name,
        "action": plan.action,
        "why": intent.why,
        "id": existing,
        "usd_per_hour": plan.hourly_usd,
    }
    lines = [estimate.record(line) for line in plan.lines or ()]
    worst = (
        {"usd": plan.worst.usd, "stops_at": plan.worst.stops_at.isoformat(), "by": plan.worst.by}
        if plan.worst
        else None
    )
    replaces = plan.replaces.id if plan.replaces else None
    then = base_model.after_launch(intent.entry) if intent.is_new else ""
    return {
        **told,
        **dict(plan.facts),
        "replaces": replaces,
        "offers": lines,
        "worst_case": worst,
        "then": then,
    }


def show(wanted: "Sequence[Intent]", bucket: str | None) -> None:
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


def _show_details(intent: "Intent") -> None:
    plan = intent.plan
    for label, value in plan.facts:
        console.tell(f"{label:>8}: {value}")
    if plan.lines and isinstance(intent.entry, CloudEntry):
        console.print_table(
            "offers, in the order in which they are tried", *estimate.table(plan.lines)
        )
        for sentence in estimate.sentences(intent.entry, plan.lines[0], plan.worst, plan.is_billed):
            console.tell(sentence)


def _sum(wanted: "Sequence[Intent]") -> str:
    new = [intent for intent in wanted if intent.is_new]
    hourly = sum(intent.plan.hourly_usd or 0 for intent in new)
    worst = sum(intent.plan.worst.usd or 0 for intent in new if intent.plan.worst)
    cost = f"; ${hourly:.2f} an hour" if hourly else ""
    return f"{len(new)} of {len(wanted)} boxes are new{cost}" + (
        f", worst case ${worst:.2f} in all" if worst else ""
    )


def _may_be_spot(intent: "Intent") -> bool:
    return any(offer.market == "spot" for offer in intent.plan.offers)


def _quotas(wanted: "Sequence[Intent]") -> list[str]:
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
