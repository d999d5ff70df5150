"""How the boxes stand: what the cloud says of each, and the clocks that each tells itself."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from remote.control import fleet
from remote.control.output import timefmt
from remote.control.output.console import styled

if TYPE_CHECKING:
    from remote.contract.job.clocks import Reading
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import BoxEntry, Inventory

SECONDS = 5.0
"""How long a box may take to tell its clocks; several share a laptop's processors, and get a little
more."""

_SECONDS_EACH = 0.25

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


@dataclass(frozen=True)
class View:
    """One box: `entry` is None where the inventory does not name it; `reading` is None where its
    clocks were not asked or could not be told, and `unread` says why."""

    box: "Box"
    entry: "BoxEntry | None"
    reading: "Reading | None" = None
    unread: str = ""

    @property
    def reap_at(self) -> float | None:
        """From when on `inv reap` ends a stopped box, in seconds since the epoch, UTC."""
        clocks = getattr(self.entry, "clocks", None)
        return self.box.stopped_at + clocks.stopped if clocks and self.box.stopped_at else None

    @property
    def stops_at(self) -> float | None:
        """When its clocks stop it if nothing changes, in seconds since the epoch, UTC."""
        reading = self.reading
        return reading.at + reading.stops_in if reading and reading.stops_by else None


def look(inventory: "Inventory", names: Sequence[str] = (), quick: bool = False) -> list[View]:
    """The boxes of those names or groups; without names all, and what runs besides. `quick` asks
    the cloud alone."""
    from remote.control.targets import boxes_of

    views = [View(box, inventory.boxes.get(box.name)) for box in boxes_of(inventory, names)]
    asked = [] if quick else [view for view in views if _has_clocks(view)]
    read = {
        id(view): done
        for view, done in zip(asked, _readings([view.box for view in asked]), strict=True)
    }
    return [_with_reading(view, read[id(view)]) if id(view) in read else view for view in views]


def record(view: View) -> dict[str, Any]:
    """A box as JSON: what `boxes.record` tells, and `clocks` (None where they were not read, and
    `unread` says why)."""
    from remote.control.cloud import boxes

    box, reading = view.box, view.reading
    told = {**boxes.record(box), "zone": box.zone, "market": box.market}
    dates = {
        "stopped_since": timefmt.iso(box.stopped_at),
        "reaped_from": timefmt.iso(view.reap_at),
        "stops_at": timefmt.iso(view.stops_at),
    }
    return {**told, **dates, "clocks": asdict(reading) if reading else None, "unread": view.unread}


def table(views: Sequence[View]) -> tuple[list[str], list[list[Any]]]:
    """Heads and rows for people, without the columns that no box fills; a box that is stuck, or
    whose watchdog is silent, is red."""
    table = [_row(view) for view in views]
    kept = [number for number in range(len(COLUMNS)) if any(str(row[number]) for row in table)]
    return [COLUMNS[number] for number in kept], [[row[number] for number in kept] for row in table]


def _has_clocks(view: View) -> bool:
    return view.box.state == "running" and view.box.provider != "static" and view.entry is not None


def _readings(asked: "Sequence[Box]") -> "list[fleet.Outcome[Box, Reading | None]]":
    seconds = SECONDS + _SECONDS_EACH * len(asked)
    return fleet.outcomes_of(asked, lambda box, _: _read(box), seconds=seconds)


def _read(box: "Box") -> "Reading | None":
    from remote.control.cloud import clocks
    from remote.control.transport.connect import connect

    with connect(box) as transport:
        return clocks.read(transport)


def _with_reading(view: View, done: "fleet.Outcome[Box, Reading | None]") -> View:
    if done.error:
        return View(view.box, view.entry, None, done.error.what)
    missing = "" if done.found else f"no clocks: `./inv start {view.box.name}` sets them"
    return View(view.box, view.entry, done.found, missing)


def _row(view: View) -> list[Any]:
    box, reading = view.box, view.reading
    up = box.launched_at if box.state == "running" else None
    facts = [
        box.name,
        "absent" if box.state == "terminated" else box.state,
        _what(box),
        box.zone or box.region,
        length(time.time() - up) if up else "",
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
        f"{reading.stuck_job}: {length(reading.stuck_for)} / {length(limits.stuck)}"
        if reading.stuck_job
        else ""
    )
    idle = f"{length(reading.idle_for)} / {length(limits.idle)}"
    return [doing, idle, f"{length(reading.elapsed)} / {length(limits.lifetime)}", dollars, stuck]


def _stops(view: View) -> str:
    if view.reap_at:
        return f"reaped from {timefmt.soon(view.reap_at)}"
    return (
        f"{timefmt.soon(view.stops_at)} {view.reading.stops_by}"
        if view.stops_at and view.reading
        else ""
    )


def length(seconds: float) -> str:
    """`45s`, `12m`, `2h05`, `3d04h`."""
    whole = int(seconds) if math.isfinite(seconds) else 0
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    return (
        f"{whole // 3600}h{whole % 3600 // 60:02}"
        if whole < 172800
        else f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    )
