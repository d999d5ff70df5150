"""Boxes made ready before their first run, the images that spare the next one the wait, and boxes
that move."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remote.control.commands.boxes.box import DRY, JSON, NAMES, agree, boxes_of, tell_next_of
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry

_NAME = {"name": "the box, by its name in inventory.yaml (default: its default_box)"}
_YES = {"yes": "do not ask; needed where there is no terminal"}


@verb(
    positional=["names"],
    iterable=["model"],
    help={
        **NAMES,
        **JSON,
        **DRY,
        "model": "a further base model, as under `models:`; several times for several",
        "adopt": "a folder on the box that holds a base model: it is linked, not fetched",
        "name": "what recipes call the adopted model",
        "ollama": "install the pinned Ollama too",
    },
)
def setup(
    _context: Any,
    names: Sequence[str] = (),
    model: Sequence[str] | None = None,
    adopt: str = "",
    name: str = "",
    ollama: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Bring running boxes their code, environment, models and Ollama.

    What is there already is left as it is.
    """
    from remote.control.commands.views import fleet
    from remote.control.commands.views.boxes import setup as view
    from remote.control.output import console
    from remote.control.setup import setup as work
    from remote.control.transport.push.selection import Push

    inventory, entries = boxes_of(names)
    wishes, push = work.Wishes(tuple(model or ()), adopt, name, ollama), Push.of(inventory)

    def do(entry: "BoxEntry", say: work.Say) -> work.Done:
        if dry_run:
            return work.rehearse(entry, wishes, say)
        return work.set_up(entry, wishes, push, say)

    done = fleet.each(entries, do, lambda done: view.brought(done, dry_run), work.Done.record)
    if json:
        console.print_json(fleet.as_one([each.record() for each in done], names, inventory))
        return
    for each in done:
        console.print_table(each.name, view.PARTS, view.parts(each))
    if not dry_run:
        tell_next_of(entries, names)


@verb(positional=["name"], help={**_NAME, **JSON, **DRY, **_YES})
def bake(
    _context: Any, name: str = "", yes: bool = False, dry_run: bool = False, json: bool = False
) -> None:
    """Make an image of a box that is set up.

    The next boxes of its kind start from it. The box is stopped meanwhile.
    """
    from remote.control.backends.clocks import set_deadlines
    from remote.control.commands.views.boxes import setup as view
    from remote.control.output import console
    from remote.control.setup import bake as work

    (entry,) = boxes_of([name] if name else [])[1]
    box, _ = work.require_box(entry)
    is_up = box.state in ("pending", "running")
    with console.aside(not dry_run):
        console.tell(view.before_bake(box, is_up))
    if dry_run:
        if json:
            console.print_json({"box": entry.name, "id": box.id, "would_stop": is_up})
        return
    if is_up:
        agree(f"Stop {entry.name} and make an image of it?", yes, needs_terminal=True)
    baked = work.bake(entry, console.say, set_deadlines)
    if json:
        console.print_json(baked.record())
    console.tell(view.after_bake(baked))


@verb(
    positional=["name"],
    help={
        **_NAME,
        **JSON,
        **DRY,
        **_YES,
        "zone": "where to, such as us-east-1b",
        "region": "where to, such as us-west-2",
        "wait": "without capacity there, try again for so long: 90s, 30m, 2h",
    },
)
def move(
    _context: Any,
    name: str = "",
    zone: str = "",
    region: str = "",
    wait: str = "",
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Move a box with its disk to another zone or region.

    The old one is terminated once the new one answers.
    """
    from remote.control.backends.clocks import set_deadlines
    from remote.control.commands.boxes.box import seconds_of
    from remote.control.commands.views.boxes import setup as view
    from remote.control.commands.views.boxes.listing import box_record
    from remote.control.output import console
    from remote.control.setup import move as work

    (entry,) = boxes_of([name] if name else [])[1]
    planned, seconds = work.plan(entry, zone, region), seconds_of(wait)
    with console.aside(not dry_run):
        for sentence in view.before_move(planned):
            console.tell(sentence)
    if dry_run:
        if json:
            console.print_json(planned.record())
        return
    agree(f"Move {entry.name} to {planned.goal}?", yes, needs_terminal=True)
    box = work.carry_out(planned, console.say, seconds, set_deadlines)
    if json:
        console.print_json({**box_record(box), "zone": box.zone})
    for sentence in view.after_move(planned, box):
        console.tell(sentence)


@verb(
    help={
        **JSON,
        **DRY,
        **_YES,
        "prune": "take away the images that no box will use again, and what they left",
        "keep": "of each kind of image, how many of the newest stay",
    }
)
def images(
    _context: Any,
    prune: bool = False,
    keep: int = 1,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """List this project's images and what they cost; prune old ones."""
    from remote.control.commands.views.boxes import setup as view
    from remote.control.config.inventory import load_inventory
    from remote.control.output import console
    from remote.control.setup import image_inventory as work

    found = work.shelf(load_inventory(), max(1, keep))
    if json:
        console.print_json(found.record())
    else:
        console.print_table("", view.IMAGES, view.images(found))
    if not prune or not found.doomed:
        return
    doomed = ", ".join(found.doomed)
    if dry_run:
        console.tell(f"would remove {doomed}")
        return
    agree(f"Remove {doomed}?", yes, needs_terminal=True)
    work.prune(found)
    console.tell(f"removed {doomed}")
