"""Boxes made ready, their images and their moves, as tables and lines."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.setup.bake import Baked
    from remote.control.setup.image_inventory import Kept, Shelf
    from remote.control.setup.move import Move
    from remote.control.setup.setup import Done

PARTS = ("part", "outcome", "seconds")
"""The heads of `parts`."""

IMAGES = ("image", "box", "kind", "region", "state", "GB", "made (UTC)", "at most $/month", "note")
"""The heads of `images`."""


def parts(done: "Done") -> list[list[str]]:
    """What a setup brought, a row for each part."""
    return [[phase.name, phase.outcome, f"{phase.seconds:.1f}"] for phase in done.phases]


def brought(done: "Done", is_rehearsal: bool) -> str:
    """The same in one line."""
    names = ", ".join(phase.name for phase in done.phases)
    if is_rehearsal:
        return f"would bring {names} to {done.name}, where they are not there"
    return f"{done.name} is set up: {names}"


def before_bake(box: "Box", is_up: bool) -> str:
    """What making an image of a box means for it."""
    stopped = "; it is stopped for that, with every job on it, and started again" if is_up else ""
    return f"an image of {box.where} is made{stopped}"


def after_bake(baked: "Baked") -> str:
    """The image that was made, and what it costs."""
    price = (
        f", at most ${baked.usd_per_month:.2f} a month" if baked.usd_per_month is not None else ""
    )
    return (
        f"{baked.image.id} is ready ({baked.image.gb} GB{price}); new boxes like {baked.name} start"
        " from it. `./inv box.images`"
    )


def before_move(move: "Move") -> list[str]:
    """What will happen, for the question before it."""
    if move.is_arrived:
        return [
            f"{move.name} was moved to {move.goal} by a command that was cut off: what it left is"
            " taken away"
        ]
    fate = (
        "stays as it is, stopped: it was adopted, not launched"
        if move.is_adopted
        else "is terminated once the new one answers over SSH"
    )
    stops = "is stopped, " if move.old.state in ("pending", "running") else ""
    return [
        (
            f"{move.name} ({move.old.id} in {move.old.zone}) {stops}its disk is copied by an image,"
            f" and launched in {move.goal} as {move.old.instance_type}"
        ),
        f"{move.old.id} {fate}; then the image goes too",
    ]


def after_move(move: "Move", box: "Box") -> list[str]:
    """Where the box is now, and what is left to the user."""
    up = f"{box.name} is up in {box.zone or box.region}: {box.user}@{box.address}"
    place = f"`region: {box.region}` and `zone: {box.zone}`"
    if move.is_adopted:
        left = f"{move.old.id} is stopped, and no box of Windlass any more"
        return [
            up,
            f"{left}; in inventory.yaml remove `instance_id:` of {move.name} and write {place}",
        ]
    return [
        up,
        f"write {place} for {move.name} in inventory.yaml: other laptops look there, and its next"
        " launch goes there",
    ]


def images(shelf: "Shelf") -> list[list[str]]:
    """The images, and the snapshots of none."""
    return [
        *map(_image, shelf.kept),
        *(
            [snapshot, "", "snapshot", there.region, "", "", "", "", "of no image"]
            for there, snapshot in shelf.orphans
        ),
    ]


def _image(each: "Kept") -> list[str]:
    image = each.image
    usd = "" if each.usd_per_month is None else f"{each.usd_per_month:.2f}"
    return [
        image.id,
        image.box,
        image.kind,
        image.region,
        image.state,
        str(image.gb),
        image.made_at[:16].replace("T", " "),
        usd,
        each.useless,
    ]
