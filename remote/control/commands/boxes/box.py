"""The life of boxes: launch, start, stop, reboot, terminate, list. Each takes several names or
groups."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from invoke import Collection
from invoke import Exit as Leave

from remote.contract.job.exits import Exit
from remote.control.commands.program.verb import verb
from remote.control.output import console

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.cloud.provider import Mode
    from remote.control.config.inventory import BoxEntry, Inventory
    from remote.control.operations.launching import Intent

NAMES = {"names": "boxes or groups by their names in inventory.yaml (default: its default_box)"}
DRY = {"dry-run": "only show what would be done"}
JSON = {"json": "tell the result as JSON on standard output: a list where several boxes were named"}
_WAIT = {"wait": "without capacity, try again for so long: 90s, 30m, 2h"}
_YES = {"yes": "do not ask before something that costs money or loses data"}


@verb(
    positional=["names"],
    help={
        **NAMES,
        **JSON,
        **_WAIT,
        **_YES,
        "fresh": "make a new box, and end the one that is there",
        "reuse": "never make a new box",
        "dry-run": (
            "show what would be made, with prices, quota and the latest moment at which it stops"
        ),
    },
)
def launch(
    _context: Any,
    names: Sequence[str] = (),
    fresh: bool = False,
    reuse: bool = False,
    wait: str = "",
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Launch boxes, or start those that are stopped.

    Waits until SSH answers and the clocks of each box run.
    """
    from functools import partial

    from remote.control.backends.clocks import set_deadlines
    from remote.control.cloud import boxes
    from remote.control.commands.views import fleet
    from remote.control.commands.views.boxes.listing import box_record

    inventory, entries = boxes_of(names)
    mode, seconds = _mode(fresh, reuse), seconds_of(wait)
    losses: dict[str, str] = {}
    if dry_run or fresh or any(entry.provider == "ec2" for entry in entries):
        wanted = _plans(names, inventory, entries, mode, dry_run, json)
        if dry_run:
            return
        _agree_to(wanted, yes)
        losses = {each.name: each.plan.replaces.id for each in wanted if each.plan.replaces}
    launched = fleet.each(
        entries,
        partial(
            boxes.ready, mode=mode, wait_seconds=seconds, set_deadlines=set_deadlines, losses=losses
        ),
        lambda box: (
            f"{box.name} is up: {box.user}@{box.address}; its host key is pinned; log in: `./inv"
            f" ssh {box.name}`"
        ),
        box_record,
    )
    _print(json, [box_record(box) for box in launched], names, inventory)
    tell_next_of(entries, names)


@verb(positional=["names"], help={**NAMES, **JSON, **DRY, **_WAIT})
def start(
    _context: Any,
    names: Sequence[str] = (),
    wait: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Start stopped boxes, or make running ones reachable again.

    A running box gets port 22 opened for this laptop, its host key checked and its clocks set.
    """
    from functools import partial

    from remote.control.backends.clocks import set_deadlines
    from remote.control.cloud import boxes

    inventory, entries = boxes_of(names)
    seconds = seconds_of(wait)
    if dry_run:
        _plans(names, inventory, entries, "reuse", dry_run, json)
        return
    _each(
        names,
        inventory,
        entries,
        partial(boxes.start, wait_seconds=seconds, set_deadlines=set_deadlines),
        lambda box: f"{box.name} is up: {box.user}@{box.address}",
        json,
    )
    tell_next_of(entries, names)


@verb(positional=["names"], help={**NAMES, **JSON, **DRY})
def stop(
    _context: Any, names: Sequence[str] = (), dry_run: bool = False, json: bool = False
) -> None:
    """Stop boxes and wait; their disks stay."""
    from remote.control.cloud import boxes

    inventory, entries = boxes_of(names)
    if dry_run:
        _each(
            names,
            inventory,
            entries,
            lambda entry, _: boxes.find(entry),
            lambda box: f"would stop {_named(box, 'stopped')}",
            json,
        )
        return
    _each(names, inventory, entries, boxes.stop, _stopped, json)


@verb(positional=["names"], help={**NAMES, **JSON, **DRY})
def reboot(
    _context: Any, names: Sequence[str] = (), dry_run: bool = False, json: bool = False
) -> None:
    """Restart running boxes and wait until SSH answers.

    Their clocks go on counting.
    """
    from remote.control.cloud import boxes

    inventory, entries = boxes_of(names)
    if dry_run:
        _each(
            names,
            inventory,
            entries,
            lambda entry, _: boxes.find(entry),
            lambda box: f"would restart {_named(box, 'restarted')}",
            json,
        )
        return
    _each(
        names,
        inventory,
        entries,
        boxes.reboot,
        lambda box: f"{box.name} is up again: {box.user}@{box.address}",
        json,
    )


@verb(
    positional=["names"],
    help={
        **NAMES,
        **JSON,
        "yes": "do not ask; needed where there is no terminal",
        "id": "the instance, where several are that box",
        "dry-run": "only show what would be lost",
    },
)
def terminate(
    _context: Any,
    names: Sequence[str] = (),
    yes: bool = False,
    id: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Delete boxes for good, with their disks and all jobs on them."""
    from remote.control.cloud import boxes
    from remote.control.fleet import found

    inventory, entries = boxes_of(names)
    if id and len(entries) > 1:
        raise Leave(
            "error: --id is one instance, and several boxes are named", code=int(Exit.USAGE)
        )
    there = {} if id else found(entries, boxes.find)
    standing = [entry for entry in entries if _stands(entry)]
    doomed = [entry for entry in entries if entry not in standing and (id or entry.name in there)]
    with console.aside(not dry_run):  # then the words belong to the question
        for entry in doomed:
            _tell_loss(entry, there.get(entry.name), id)
        if doomed:
            console.tell(
                "all on them goes: every job, checkpoint, artifact not yet pulled, model and"
                " environment"
            )
    if dry_run:
        for entry in standing:
            console.tell(_named(there.get(entry.name), "terminated"))
        present = [there.get(entry.name) for entry in entries]
        _print(json, [_recorded(box) for box in present], names, inventory)
        return
    if doomed:
        agree(f"Terminate {_these(doomed)}?", yes, needs_terminal=True)
    _each(
        names,
        inventory,
        entries,
        lambda entry, say: boxes.terminate(entry, say, id or None, is_agreed=True),
        lambda box: (
            f"{box.name} is terminated; nothing of it is billed any more" if box else _NOT_THERE
        ),
        json,
    )


@verb(
    name="list",
    positional=["names"],
    help={**NAMES, **JSON, "names": "boxes or groups (default: all, and what runs besides)"},
)
def list_boxes(_context: Any, names: Sequence[str] = (), json: bool = False) -> None:
    """List boxes as the cloud reports them.

    Without names, also what else runs in this project's name.
    """
    from remote.control import targets
    from remote.control.commands.views.boxes.listing import BOX_COLUMNS, box_record, box_rows
    from remote.control.config.inventory import load_inventory

    listing = targets.boxes_of(load_inventory(), names)
    if json:
        console.print_json([box_record(box) for box in listing])
        return
    if listing:
        console.print_table("", BOX_COLUMNS, box_rows(listing))
    else:
        console.tell("no box is there; `./inv launch NAME` makes one")


_NOT_THERE = "there is no such box"


def boxes_of(names: Sequence[str]) -> "tuple[Inventory, list[BoxEntry]]":
    """The inventory, and the boxes of it that these names and groups mean."""
    from remote.control.config.inventory import load_inventory

    inventory = load_inventory()
    return inventory, inventory.resolve(names)


def _each(
    names: Sequence[str],
    inventory: "Inventory",
    entries: "list[BoxEntry]",
    work: Any,
    shown: "Callable[[Any], str]",
    as_json: bool,
) -> None:
    from remote.control.commands.views import fleet

    found = fleet.each(entries, work, shown, _recorded)
    _print(as_json, [_recorded(box) for box in found], names, inventory)


def _print(as_json: bool, records: list[Any], names: Sequence[str], inventory: "Inventory") -> None:
    if as_json:
        from remote.control.commands.views.fleet import as_one

        console.print_json(as_one(records, names, inventory))


def _recorded(box: "Box | None") -> Any:
    from remote.control.commands.views.boxes.listing import box_record

    return box_record(box) if box else None


def _plans(
    names: Sequence[str],
    inventory: "Inventory",
    entries: "list[BoxEntry]",
    mode: "Mode",
    dry_run: bool,
    as_json: bool,
) -> "list[Intent]":
    """What a launch would do, shown where nothing else is done, or where it must be agreed to."""
    from remote.control.commands.views.boxes import launch as view
    from remote.control.operations import launching

    wanted = launching.intents(inventory, entries, mode)
    if dry_run or launching.costs_money(wanted) or launching.loses_data(wanted):
        with console.aside(not dry_run):  # then the words belong to the question
            view.show(wanted, inventory.storage.bucket)
    if dry_run:
        _print(as_json, [view.record(intent) for intent in wanted], names, inventory)
    return wanted


def _agree_to(wanted: "list[Intent]", yes: bool) -> None:
    from remote.control.operations import launching

    if launching.loses_data(wanted):
        doomed = [intent for intent in wanted if intent.plan.replaces]
        agree(f"End {_these(doomed)} with its disk?", yes, needs_terminal=True)
    if launching.costs_money(wanted):
        new = [intent for intent in wanted if intent.is_new]
        agree(f"Launch {_these(new)}?", yes, needs_terminal=False)


def _mode(fresh: bool, reuse: bool) -> "Mode":
    if fresh and reuse:
        raise Leave("error: --fresh and --reuse contradict each other", code=int(Exit.USAGE))
    return "fresh" if fresh else "reuse" if reuse else "auto"


def seconds_of(wait: str) -> float:
    """The seconds of a duration such as 30m; a command line that is off ends here."""
    from remote.control.config.yaml.section import seconds

    try:
        return float(seconds(wait)) if wait else 0.0
    except ValueError as error:
        raise Leave(
            f"error: --wait is {wait!r}; it should be {error}", code=int(Exit.USAGE)
        ) from None


def agree(question: str, yes: bool, needs_terminal: bool) -> None:
    """Go on when the user agrees, or said so with --yes; else leave. Without a terminal only what
    loses data needs that."""
    import sys

    has_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not has_terminal and not needs_terminal:
        return
    if not console.ask_yes(question, yes):
        raise Leave(
            (
                "nothing was done"
                if has_terminal
                else "nothing was done: without a terminal this needs --yes"
            ),
            code=int(Exit.USAGE),
        )


def tell_next_of(entries: "Sequence[BoxEntry]", names: Sequence[str]) -> None:
    """What boxes that are up are there for."""
    from remote.control.commands.views import next_step

    console.tell_next(
        next_step.on_box(entries[0])
        if len(entries) == 1
        else f"`./inv status {' '.join(names)}` shows their clocks"
    )


def _these(boxes: Sequence[Any]) -> str:
    return ", ".join(each.name for each in boxes) if len(boxes) < 9 else f"these {len(boxes)} boxes"


def _stands(entry: "BoxEntry | None") -> bool:
    from remote.control.config.inventory import HostEntry

    return isinstance(entry, HostEntry)


def _stopped(box: "Box | None") -> str:
    if box is None:
        return _NOT_THERE
    if box.state == "running":
        return f"{box.name} is left running"
    return f"{box.name} is {box.state}; its disk stays. `./inv start {box.name}` starts it again"


def _named(box: "Box | None", done: str) -> str:
    if box is not None and _stands(box.entry):
        return f"nothing: {box.where} is a host that stands, and never {done} by Windlass"
    return f"{box.where}, {box.state}" if box else "nothing: there is no such box"


def _tell_loss(entry: "BoxEntry", box: "Box | None", instance_id: str) -> None:

    what = f"{box.where}, {box.state}" if box else f"box {entry.name} ({instance_id})"
    disk = f"its disk of {entry.disk_gb} GB" if hasattr(entry, "disk_gb") else "its disk"
    adopted = (
        "; it was adopted, not made by Windlass" if getattr(entry, "instance_id", None) else ""
    )
    console.tell(f"{what}: will be lost with {disk}{adopted}")


collection = Collection()
