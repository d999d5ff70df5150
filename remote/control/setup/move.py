"""`inv box.move`: a box with its disk to another zone or region, by an image of it.

Nothing is ended before the new instance answers over SSH. At every moment the image's tags and the
instances' own say where it stands, so a command that was cut off is repeated and goes on; the image
of a disk that was written to since is made anew.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remote.control.cloud import boxes
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.box import Box
from remote.control.cloud.ec2 import cleanup, images, instances
from remote.control.cloud.ec2.images import Image
from remote.control.cloud.phases import Phases
from remote.control.errors import CloudError
from remote.control.project import history, identity
from remote.control.setup.bake import require_box, require_cloud

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, CloudEntry

Say = Callable[[str], None]


@dataclass(frozen=True)
class Move:
    """One move. `old` is where the box is; `zone` is None where the cloud chooses; `source` and
    `target` are its two regions.

    `is_arrived`: an earlier command was cut off when only the end was left to do.
    """

    entry: "CloudEntry"
    old: Box
    zone: str | None
    source: Endpoint
    target: Endpoint
    is_arrived: bool = False

    @property
    def name(self) -> str:
        """The box's name."""
        return self.entry.name

    @property
    def goal(self) -> str:
        """Where it goes, for people."""
        return self.zone or self.target.region

    @property
    def is_adopted(self) -> bool:
        """Whether the inventory names the old instance by its id: then it is left as it is."""
        return bool(self.entry.instance_id)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "box": self.name,
            "id": self.old.id,
            "from": self.old.zone or self.old.region,
            "to": self.goal,
        }


def plan(entry: "BoxEntry", zone: str, region: str) -> Move:
    """What `carry_out` would do; only reads. Raises CloudError where the box cannot go there."""
    entry = require_cloud(entry)
    box, source = require_box(entry)
    target = source.in_region(region or (zone[:-1] if zone else box.region))
    found = Move(entry, box, zone or None, source, target)
    if zone and not zone.startswith(target.region):
        raise CloudError(
            f"zone {zone} is not in region {region}",
            where=f"box {entry.name}",
            remedy=f"`./inv box.move {entry.name} --zone {zone}`",
        )
    if _arrived(found, _images(found)):
        return replace(found, is_arrived=True)
    if not _is_elsewhere(found):
        what, remedy = (
            f"box {entry.name} is in {found.goal} already",
            f"`./inv start {entry.name}`, or name another zone or region",
        )
        raise CloudError(what, where=box.where, remedy=remedy)
    _check_offered(found)
    return found


def carry_out(
    move: Move,
    say: Say,
    wait_seconds: float = 0.0,
    set_deadlines: "Callable[[BoxEntry, Box], None] | None" = None,
) -> Box:
    """Move the box; returns it, up and entered, in its new place. Repeatable after a kill."""
    phases = Phases(move.name, say)
    with _explained(move):
        # From another laptop, too, the old instance is looked for where it is.
        history.append(
            move.name, "moved", id=move.old.id, region=move.old.region, zone=move.old.zone
        )
        if image := _arrived(move, _images(move)):
            box = boxes.ready(_entry_there(move, image), say, "auto", wait_seconds, set_deadlines)
        else:
            image = _image_there(move, phases, say)
            box = _launch(move, image, say, wait_seconds, set_deadlines)
        history.append(move.name, "moved", id=box.id, region=box.region, zone=box.zone)
        with phases.phase("clearing up"):
            _clear_up(move)
    phases.keep("move", box.id)
    return box


def _launch(
    move: Move,
    image: Image,
    say: Say,
    wait_seconds: float,
    set_deadlines: "Callable[[BoxEntry, Box], None] | None",
) -> Box:
    entry = _entry_there(move, image)
    if not move.is_adopted:
        return boxes.ready(
            entry, say, "fresh", wait_seconds, set_deadlines, {entry.name: move.old.id}
        )
    _release(move)
    return boxes.ready(entry, say, "auto", wait_seconds, set_deadlines)


def _entry_there(move: Move, image: Image) -> "CloudEntry":
    """The entry of the inventory as the new place wants it: that image, that place, no
    fallbacks."""
    there: dict[str, Any] = {
        "region": move.target.region,
        "zone": move.zone,
        "subnet": None,
        "fallbacks": [],
    }
    alike = {
        "instance_type": move.old.instance_type,
        "market": "on-demand",
        "disk_gb": max(move.entry.disk_gb, image.gb),
    }
    return move.entry.model_copy(update={**there, **alike, "ami": image.id, "instance_id": None})


def _image_there(move: Move, phases: Phases, say: Say) -> Image:
    """An image of the stopped box in the target's region, holding all that is on the disk."""
    with phases.phase("stop"):
        stopped = boxes.stop(move.entry, say)
    mine = [image for image in _images(move) if image.tags.get(images.FROM_TAG) == move.old.id]
    # A start is told in whole seconds: what was made within that second may be older.
    since = images.moment(stopped.launched_at + 1) if stopped and stopped.launched_at else ""
    for stale in (image for image in mine if image.made_at < since):
        images.remove(move.source.in_region(stale.region), stale)
    mine = [
        image
        for image in mine
        if image.made_at >= since and image.state in ("pending", "available")
    ]
    with phases.phase("image"):
        image = _found_or(
            mine, move.source, lambda: images.create(move.source, move.old.id, _tags(move)), say
        )
    if move.target.region == move.source.region:
        return image
    with phases.phase("copy"):
        return _found_or(mine, move.target, lambda: images.copy(image, move.target), say)


def _found_or(mine: list[Image], there: Endpoint, make: Callable[[], str], say: Say) -> Image:
    begun = next((image.id for image in reversed(mine) if image.region == there.region), None)
    return images.wait(there, begun or make(), say)


def _tags(move: Move) -> dict[str, str]:
    return {**identity.tags(move.name, move.entry.tags), images.KIND_TAG: images.MOVE}


def _images(move: Move) -> list[Image]:
    """The images of this box's moves, in both regions."""
    places = {there.region: there for there in (move.source, move.target)}
    return [
        image
        for there in places.values()
        for image in images.listing(there, images.MOVE)
        if image.box == move.name
    ]


def _arrived(move: Move, made: list[Image]) -> Image | None:
    """The image out of which the box in its new place was launched already, by a command that was
    cut off."""
    current = (
        move.old
        if not move.is_adopted
        else boxes.find(
            move.entry.model_copy(update={"instance_id": None, "region": move.target.region})
        )
    )
    if current is None or _is_elsewhere(replace(move, old=current)):
        return None
    instance = instances.by_id(move.target, current.id, move.name)
    used = instance.facts.get("ImageId") if instance else None
    return next((image for image in made if image.id == used), None)


def _is_elsewhere(move: Move) -> bool:
    """Whether the box is not where it is to go."""
    return move.old.region != move.target.region or (
        move.zone is not None and move.old.zone != move.zone
    )


def _check_offered(move: Move) -> None:
    """An image takes minutes: whether the new place has the type at all is asked before."""
    asked = [{"Name": "instance-type", "Values": [move.old.instance_type]}]
    with _explained(move):
        ec2 = move.target.client("ec2")
        told = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=asked
        )["InstanceTypeOfferings"]
    zones = sorted(each["Location"] for each in told)
    if not zones or (move.zone and move.zone not in zones):
        raise CloudError(
            f"{move.old.instance_type} is not offered in {move.goal}",
            where=move.old.where,
            why=f"in {move.target.region} it is offered in {', '.join(zones) or 'no zone'}",
            remedy=(
                f"`./inv box.move {move.name} --zone {zones[0]}`"
                if zones
                else "name another region"
            ),
            kept="the box, as it was",
        )


def _release(move: Move) -> None:
    """Take our tags off an adopted instance: from here on the new one is the box, and this one is
    its owner's again."""
    keys = [identity.BOX_TAG, identity.PROJECT_TAG, identity.ADOPTED_TAG]
    move.source.client("ec2").delete_tags(
        Resources=[move.old.id], Tags=[{"Key": key} for key in keys]
    )


def _clear_up(move: Move) -> None:
    for image in _images(move):
        images.remove(move.source.in_region(image.region), image)
    if move.target.region != move.source.region:
        cleanup.after_attempt(move.name, move.source)


def _explained(move: Move) -> AbstractContextManager[None]:
    return refusals.explained(
        refusals.Context(move.name, move.target.region, move.old.instance_type, move.target.regions)
    )
