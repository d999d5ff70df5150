"""Boxes: launch, start, stop, terminate; and `box.*`."""

from typing import TYPE_CHECKING, Any

from invoke import Collection
from invoke import Exit as Leave

from remote.contract.exits import Exit
from remote.control.commands.verb import verb

if TYPE_CHECKING:
    from remote.control.cloud.box import Box

_NAME = {"name": "the box, by its name in inventory.yaml (default: its default_box)"}
_DRY = {"dry-run": "only show what would be done"}
_JSON = {"json": "tell the result as JSON on standard output"}


@verb(positional=["name"], help={
    **_NAME, **_JSON, "yes": "do not ask before something that costs money", "dry-run": "show what would be made, with its price",
})  # fmt: skip
def launch(_context: Any, name: str = "", yes: bool = False, dry_run: bool = False, json: bool = False) -> None:
    """Launches a box, or starts it if it is stopped, and waits until SSH answers."""
    from remote.control import console
    from remote.control.cloud import boxes

    entry = _entry(name)
    plan = boxes.plan(entry)
    if dry_run:
        _show_plan(entry.name, plan, json)
        return
    if plan.facts and plan.is_billed:
        _show_plan(entry.name, plan, as_json=False)
        _confirm(f"Launch {entry.name}?", yes, needs_terminal=False)
    box = boxes.ready(entry, console.say)
    _tell(box, json, f"{box.name} is up: {box.user}@{box.address}; its host key is pinned. Log in: ./inv ssh {box.name}")


@verb(positional=["name"], help={**_NAME, **_JSON, **_DRY})
def start(_context: Any, name: str = "", dry_run: bool = False, json: bool = False) -> None:
    """Starts a stopped box; on a running one, opens port 22 for this laptop's address and checks the host key."""
    from remote.control import console
    from remote.control.cloud import boxes

    entry = _entry(name)
    plan = boxes.plan(entry) if dry_run else None
    if plan and plan.existing:
        _show_plan(entry.name, plan, json)
        return
    box = boxes.start(entry, console.say)
    _tell(box, json, f"{box.name} is up: {box.user}@{box.address}")


@verb(positional=["name"], help={**_NAME, **_JSON, **_DRY})
def stop(_context: Any, name: str = "", dry_run: bool = False, json: bool = False) -> None:
    """Stops a box and waits; its disk stays."""
    from remote.control import console
    from remote.control.cloud import boxes

    entry = _entry(name)
    if dry_run:
        _tell(boxes.find(entry), json, f"would stop {entry.name}")
        return
    box = boxes.stop(entry, console.say)
    done = f"{entry.name} is {box.state}; its disk stays" if box else f"{entry.name} is not there"
    _tell(box, json, done)


@verb(positional=["name"], help={
    **_NAME, **_JSON, "yes": "do not ask; needed where there is no terminal", "id": "the instance, where several are that box",
    "dry-run": "only show what would be lost",
})  # fmt: skip
def terminate(
    _context: Any, name: str = "", yes: bool = False, id: str = "", dry_run: bool = False, json: bool = False
) -> None:
    """Removes a box for good, with its disk and all jobs on it."""
    from remote.control import console
    from remote.control.cloud import boxes

    entry = _entry(name)
    box = None if id else boxes.find(entry)
    if box is None and not id and not dry_run:
        boxes.terminate(entry, console.say)  # clears up what an interrupted terminate left
        _tell(None, json, f"{entry.name} is not there")
        return
    console.say(_loss(entry, box, id))
    if dry_run:
        _tell(box, json, f"would terminate {id or (box.where if box else entry.name)}")
        return
    _confirm(f"Terminate {entry.name}?", yes, needs_terminal=True)
    gone = boxes.terminate(entry, console.say, id or None)
    _tell(gone, json, f"{entry.name} is terminated; nothing of it is billed any more" if gone else f"{entry.name} is not there")


@verb(name="list", help=_JSON)
def list_boxes(_context: Any, json: bool = False) -> None:
    """Lists every box of the inventory, and what the cloud runs besides in this project's name."""
    from remote.control import console
    from remote.control.cloud import boxes
    from remote.control.config.inventory import load_inventory

    listing = boxes.listing(load_inventory())
    if json:
        console.print_json([boxes.record(box) for box in listing])
        return
    console.print_table("", boxes.COLUMNS, boxes.report(listing))


def _entry(name: str) -> Any:
    from remote.control.config.inventory import load_inventory

    return load_inventory().box(name or None)


def _confirm(question: str, yes: bool, needs_terminal: bool) -> None:
    import sys

    from remote.control import console

    has_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not has_terminal and not needs_terminal:
        return
    if not console.ask_yes(question, yes):
        raise Leave("nothing was done" if has_terminal else "nothing was done: without a terminal this needs --yes", code=int(Exit.USAGE))


def _show_plan(name: str, plan: Any, as_json: bool) -> None:
    from remote.control import console

    if as_json:
        existing = plan.existing.id if plan.existing else None
        console.print_json({"box": name, "action": plan.action, "id": existing, "usd_per_hour": plan.hourly_usd, **dict(plan.facts)})
    console.say(f"{name}: {plan.action}" + (f" ({plan.existing.where}, {plan.existing.state})" if plan.existing else ""))
    for label, value in plan.facts:
        console.say(f"{label:>8}: {value}")


def _loss(entry: Any, box: "Box | None", instance_id: str) -> str:
    what = box.where if box else f"box {entry.name} ({instance_id})" if instance_id else f"box {entry.name}: not there"
    disk = f"its disk of {entry.disk_gb} GB" if hasattr(entry, "disk_gb") else "its disk"
    return f"{what}\nwill be lost: {disk} with every job, checkpoint, artifact not yet pulled, model and environment under {entry.root}"


def _tell(box: "Box | None", as_json: bool, sentence: str) -> None:
    from remote.control import console
    from remote.control.cloud import boxes

    if as_json:
        console.print_json(boxes.record(box) if box else None)
    console.say(sentence)


collection = Collection(list_boxes)
