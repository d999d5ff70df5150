"""What everything costs, and what should not be there any more: `cost` and `reap`."""

from typing import TYPE_CHECKING, Any

from invoke import Exit as Leave

from remote.contract.job.exits import Exit
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.contract.job.clocks import Reading
    from remote.control.config.inventory import BoxEntry

_JSON = {"json": "tell the result as JSON on standard output"}


@verb(
    help={
        **_JSON,
        "everywhere": (
            "ask every region of the account, not only those of the inventory and the history"
        ),
    }
)
def cost(_context: Any, everywhere: bool = False, json: bool = False) -> None:
    """Show what this project has in the cloud, and what it costs now.

    All regions are searched.
    """
    from remote.control.cloud.pricing import costs
    from remote.control.config.inventory import load_inventory
    from remote.control.output import console

    found = costs.survey(load_inventory(), everywhere)
    if json:
        console.print_json(costs.record(found))
    elif found.items:
        console.print_table("", costs.COLUMNS, costs.report(found))
    for sentence in costs.sentences(found):
        console.tell(sentence)


@verb(
    help={
        **_JSON,
        "dry-run": "only show what would be done",
        "yes": "do not ask; needed where there is no terminal, as in cron",
        "everything": (
            "also what a person should decide: instances not in inventory.yaml, running spot boxes,"
            " unused disks before their time"
        ),
    }
)
def reap(
    _context: Any,
    everything: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Terminate boxes beyond their clocks, and delete leftovers; asks first."""
    from remote.control.cloud import reap as reaper
    from remote.control.config.inventory import load_inventory
    from remote.control.output import console

    inventory = load_inventory()
    finds, unasked = reaper.Judge(inventory, _clocks_of, everything).finds()
    if finds:
        console.print_table("", reaper.COLUMNS, reaper.report(finds))
    for error in unasked:
        console.say(f"not asked: {error}", "yellow")
    due = [find for find in finds if find.action]
    console.tell(
        f"{len(due)} of {len(finds)} to be removed"
        if finds
        else "nothing is left over, and no box is beyond its clocks"
    )
    if due and not dry_run and not console.ask_yes("Remove them?", yes):
        raise Leave("nothing was done; without a terminal this needs --yes", code=int(Exit.USAGE))
    errors = (
        {}
        if dry_run
        else reaper.all_taken(
            [find for find in finds if find.action or find.mark], inventory, console.say
        )
    )
    if json:
        console.print_json(
            [{**reaper.record(find), "error": _said(errors.get(find.name))} for find in finds]
        )
    for failed in errors.values():
        console.say("\n".join(failed.lines()), "red")
    if errors:
        raise Leave(code=max(int(failed.exit_code) for failed in errors.values()))


def _clocks_of(entry: "BoxEntry") -> "Reading | None":
    """How the clocks of a running box stand; None when they can't be read."""
    from remote.control.backends import clocks
    from remote.control.cloud import boxes
    from remote.control.errors import WindlassError
    from remote.control.transport.connect import connect

    try:
        with connect(boxes.running(entry)) as transport:
            return clocks.read(transport)
    except WindlassError:
        return None


def _said(error: Any) -> Any:
    return error.to_json() if error else None
