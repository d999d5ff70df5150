"""Boxes, their clocks and what they cost: as JSON, and as rows of tables."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from remote.control.output import timefmt
from remote.control.output.console import styled

if TYPE_CHECKING:
    from remote.contract.job.clocks import Reading
    from remote.control.cloud.box import Box
    from remote.control.operations.status import View

BOX_COLUMNS = (
    "name",
    "provider",
    "id",
    "state",
    "type",
    "region",
    "address",
    "up since (UTC)",
    "$/h",
    "note",
)
"""What the cells of a row of `box_rows` are."""

_KEYS = (
    "name",
    "provider",
    "id",
    "state",
    "type",
    "region",
    "address",
    "up_since",
    "usd_per_hour",
    "note",
)

_STATE_SHOWN = {"terminated": "absent"}


COLUMNS = (
    "box",
    "state",
    "what",
    "zone",
    "up for",
    "$/h",
    "does",
    "idle",
    "lifetime",
    "dollars",
    "stuck",
    "stops (UTC), by",
    "note",
)


def box_rows(boxes: "Iterable[Box]") -> list[list[str]]:
    """Rows for a table with the heads `BOX_COLUMNS`."""
    return [
        ["" if fact is None else _shown(fact) for fact in box_record(box).values()] for box in boxes
    ]


def box_record(box: "Box") -> dict[str, Any]:
    """A box as JSON. `up_since` is ISO 8601 in UTC; it and `usd_per_hour` are None while it does
    not run."""
    is_up = box.state in ("pending", "running")
    up_since = (
        datetime.fromtimestamp(box.launched_at, UTC).isoformat(timespec="seconds")
        if box.launched_at and is_up
        else None
    )
    state = _STATE_SHOWN.get(box.state, box.state)
    facts = (
        box.name,
        box.provider,
        box.id,
        state,
        box.instance_type,
        box.region,
        box.address,
        up_since,
    )
    return dict(zip(_KEYS, (*facts, box.hourly_usd if is_up else None, box.note), strict=True))


def view_record(view: "View") -> dict[str, Any]:
    """A box as JSON: what `boxes.record` tells, and `clocks` (None where they were not read, and
    `unread` says why)."""
    box, reading = view.box, view.reading
    told = {**box_record(box), "zone": box.zone, "market": box.market}
    dates = {
        "stopped_since": timefmt.iso(box.stopped_at),
        "reaped_from": timefmt.iso(view.reap_at),
        "stops_at": timefmt.iso(view.stops_at),
    }
    return {**told, **dates, "clocks": asdict(reading) if reading else None, "unread": view.unread}


def view_table(views: "Sequence[View]") -> tuple[list[str], list[list[Any]]]:
    """Heads and rows for people, without the columns that no box fills; a box that is stuck, or
    whose watchdog is silent, is red."""
    table = [_row(view) for view in views]
    kept = [number for number in range(len(COLUMNS)) if any(str(row[number]) for row in table)]
    return [COLUMNS[number] for number in kept], [[row[number] for number in kept] for row in table]


def _row(view: "View") -> list[Any]:
    box, reading = view.box, view.reading
    up = box.launched_at if box.state == "running" else None
    facts = [
        box.name,
        "absent" if box.state == "terminated" else box.state,
        _what(box),
        box.zone or box.region,
        timefmt.length(time.time() - up) if up else "",
        f"{box.hourly_usd:.3f}" if box.hourly_usd and up else "",
        *(_clocks(reading) if reading else [""] * 5),
        _stops(view),
        "; ".join(filter(None, (box.note, view.unread))),
    ]
    style = (
        "bold red"
        if reading and reading.state in ("stuck", "silent")
        else "yellow"
        if view.unread
        else ""
    )
    return [styled(str(fact), style) for fact in facts]


def _what(box: "Box") -> str:
    return (
        f"{box.instance_type} spot" if box.market == "spot" else box.instance_type or box.provider
    )


def _clocks(reading: "Reading") -> list[str]:
    """What it does, and used / limit of idle, lifetime, dollars and stuck."""
    limits = reading.limits
    doing = ", ".join(
        [reading.state, *reading.activity, *([reading.notice] if reading.notice else [])]
    )
    dollars = (
        f"${reading.spent_usd:.2f} / ${limits.dollars:.2f}"
        if limits.hourly_usd
        else f"- / ${limits.dollars:.2f}"
    )
    stuck = (
        f"{reading.stuck_job}: {timefmt.length(reading.stuck_for)} / {timefmt.length(limits.stuck)}"
        if reading.stuck_job
        else ""
    )
    idle = f"{timefmt.length(reading.idle_for)} / {timefmt.length(limits.idle)}"
    return [
        doing,
        idle,
        f"{timefmt.length(reading.elapsed)} / {timefmt.length(limits.lifetime)}",
        dollars,
        stuck,
    ]


def _stops(view: "View") -> str:
    if view.reap_at:
        return f"reaped from {timefmt.soon(view.reap_at)}"
    return (
        f"{timefmt.soon(view.stops_at)} {view.reading.stops_by}"
        if view.stops_at and view.reading
        else ""
    )


def _shown(fact: Any) -> str:
    if isinstance(fact, float):
        return f"{fact:.3f}"
    return (
        str(fact).replace("T", " ").removesuffix("+00:00")
        if str(fact).endswith("+00:00")
        else str(fact)
    )
