"""How the boxes stand: what the cloud says of each, and the clocks that each tells itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remote.contract.job.jobs import Status
from remote.control import fleet

if TYPE_CHECKING:
    from remote.contract.job.clocks import Reading
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import BoxEntry, Inventory
    from remote.control.runs.ledger import Ledger
    from remote.control.runs.state import RunState

SECONDS = 5.0
"""How long a box may take to tell its clocks; several share a laptop's processors, and get a little
more."""

_SECONDS_EACH = 0.25


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


@dataclass(frozen=True)
class OpenRun:
    """A run that is under way, has not succeeded, or has work left to do."""

    run: "Ledger"
    state: "RunState"
    is_driven: bool

    @property
    def is_going(self) -> bool:
        """Whether a command drives it, or its job may go on."""
        return self.is_driven or self.state.is_alive


@dataclass(frozen=True)
class Standing:
    """The boxes, and the open runs."""

    boxes: list[View]
    runs: list[OpenRun]


def standing(inventory: "Inventory", names: Sequence[str] = (), quick: bool = False) -> Standing:
    """How the boxes of those names or groups stand, and the open runs on them; without names all
    boxes, what runs besides, and all open runs. `quick` asks the cloud alone."""
    from remote.control.runs.ledger import all_runs
    from remote.control.runs.state import state_of

    views = look(inventory, names, quick)
    mine = {view.box.name for view in views}
    states = [(run, state_of(run)) for run in all_runs()]
    runs = [
        OpenRun(run, state, run.is_driven())
        for run, state in states
        if (state.owed or state.status is not Status.SUCCEEDED) and (not names or state.box in mine)
    ]
    return Standing(views, runs)


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


def _has_clocks(view: View) -> bool:
    return view.box.state == "running" and view.box.provider != "static" and view.entry is not None


def _readings(asked: "Sequence[Box]") -> "list[fleet.Outcome[Box, Reading | None]]":
    seconds = SECONDS + _SECONDS_EACH * len(asked)
    return fleet.outcomes_of(asked, lambda box, _: _read(box), seconds=seconds)


def _read(box: "Box") -> "Reading | None":
    from remote.control.backends import clocks
    from remote.control.transport.connect import connect

    with connect(box) as transport:
        return clocks.read(transport)


def _with_reading(view: View, done: "fleet.Outcome[Box, Reading | None]") -> View:
    if done.error:
        return View(view.box, view.entry, None, done.error.what)
    missing = "" if done.found else f"no clocks: `./inv start {view.box.name}` sets them"
    return View(view.box, view.entry, done.found, missing)
