"""`box.clocks` and `box.extend`: when a box stops by itself, and how to put that off."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from invoke import Exit as Leave

from remote.contract.job.exits import Exit
from remote.control.commands.boxes.box import NAMES
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.contract.job.clocks import Reading
    from remote.control.config.inventory import BoxEntry
    from remote.control.transport.base import Transport

_JSON = {
    "json": "tell the result as JSON on standard output: a list where several boxes were named"
}


@verb(positional=["names"], help={**NAMES, **_JSON})
def clocks(_context: Any, names: Sequence[str] = (), json: bool = False) -> None:
    """Show the clocks of running boxes, and which one stops each first."""
    from remote.control.backends import clocks as of_box
    from remote.control.commands.views.boxes import clocks as view

    readings = _each(names, of_box.required, json)
    for name, reading in readings:
        view.show(name, reading)


@verb(
    positional=["names"],
    help={
        **NAMES,
        **_JSON,
        "lifetime": "run so much longer, whatever it does: 30m, 2h",
        "idle": "so much longer without work: 30m, 2h",
        "stuck": "so much longer without a sign of life of a job: 30m, 2h",
        "dollars": "cost so much more",
        "dry-run": "only show how the clocks stand",
    },
)
def extend(
    _context: Any,
    names: Sequence[str] = (),
    lifetime: str = "",
    idle: str = "",
    stuck: str = "",
    dollars: float = 0.0,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Give running boxes more time or money before they stop.

    Holds for this start alone.
    """
    from remote.control.backends import clocks as of_box
    from remote.control.commands.views.boxes import clocks as view

    amounts = {
        "lifetime": _seconds("lifetime", lifetime),
        "idle": _seconds("idle", idle),
        "stuck": _seconds("stuck", stuck),
    }
    wanted = {clock: amount for clock, amount in {**amounts, "dollars": dollars}.items() if amount}
    if not wanted or dollars < 0:
        raise Leave(
            "error: say what to add, such as `--lifetime 2h`, `--idle 1h`, `--stuck 1h` or"
            " `--dollars 10`",
            code=int(Exit.USAGE),
        )

    def work(transport: "Transport") -> "Reading":
        reading = of_box.required(transport)
        for clock, amount in () if dry_run else wanted.items():
            reading = of_box.extend(transport, clock, amount)
        return reading

    for name, reading in _each(names, work, json):
        view.show(name, reading)


def _each(
    names: Sequence[str], work: "Callable[[Transport], Reading]", as_json: bool
) -> "list[tuple[str, Reading]]":
    """The readings of boxes by name, told as JSON where that is wanted."""
    from dataclasses import asdict

    from remote.control.backends.clocks import require_some
    from remote.control.cloud import boxes
    from remote.control.commands.views import fleet
    from remote.control.commands.views.boxes import clocks as view
    from remote.control.config.inventory import load_inventory
    from remote.control.output import console
    from remote.control.transport.connect import connect

    def of_entry(entry: "BoxEntry", _say: Any) -> "tuple[str, Reading]":
        require_some(entry)
        with connect(boxes.running(entry)) as transport:
            return entry.name, work(transport)

    def recorded(found: "tuple[str, Reading]") -> Any:
        return {"box": found[0], **asdict(found[1])}

    inventory = load_inventory()
    found = fleet.each(
        inventory.resolve(names), of_entry, lambda each: view.sentence(*each), recorded
    )
    if as_json:
        console.print_json(fleet.as_one([recorded(each) for each in found], names, inventory))
    return found


def _seconds(flag: str, given: str) -> float:
    from remote.control.config.yaml.section import seconds

    try:
        return float(seconds(given)) if given else 0.0
    except ValueError as error:
        raise Leave(
            f"error: --{flag} is {given!r}; it should be {error}", code=int(Exit.USAGE)
        ) from None
