"""`inv box.bake`: an image of a box that is set up, from which the next boxes start ready.

The box is stopped for it: an image of a running one holds whatever its disk cache had not written.
Tags on the image say how it goes on, so that a command that was cut off is simply repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.control.cloud import boxes
from remote.control.cloud.account import endpoint, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.box import Box
from remote.control.cloud.ec2 import images
from remote.control.cloud.ec2.images import Image
from remote.control.cloud.phases import Phases
from remote.control.cloud.pricing import prices
from remote.control.config.inventory import CloudEntry
from remote.control.errors import BoxStopped, CloudError
from remote.control.project import identity

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, CloudEntry

Say = Callable[[str], None]

THEN_TAG = "windlass:then"
"""On an image that is being made: whether the box is to run again afterwards, `start` or `stop`."""


@dataclass(frozen=True)
class Baked:
    """An image that is ready. `usd_per_month` is the most that its snapshot costs, or None where
    nothing is billed."""

    name: str
    image: Image
    usd_per_month: float | None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"box": self.name, **record(self.image), "usd_per_month": self.usd_per_month}


def bake(
    entry: "BoxEntry", say: Say, set_deadlines: "Callable[[BoxEntry, Box], None] | None" = None
) -> Baked:
    """Stop the box, make an image of it, and start it again if it ran. Repeatable after a kill: a
    begun image is waited for."""
    entry = require_cloud(entry)
    box, there = require_box(entry)
    phases = Phases(entry.name, say)
    with refusals.explained(
        refusals.Context(entry.name, there.region, box.instance_type, there.regions)
    ):
        begun = _begun(box, there)
        runs_on = (
            begun.tags.get(THEN_TAG) == "start" if begun else box.state in ("pending", "running")
        )
        image_id = begun.id if begun else _begin(entry, box, there, runs_on, phases, say)
        with phases.phase("image"):
            image = images.wait(there, image_id, say)
    if runs_on:
        with phases.phase("start"):
            boxes.start(entry, say, set_deadlines=set_deadlines)
    phases.keep("bake", image.id)
    return Baked(entry.name, image, cost(image, there))


def require_cloud(entry: "BoxEntry") -> "CloudEntry":
    """The entry, if a cloud made its box. Raises CloudError for a host that stands."""
    if isinstance(entry, CloudEntry):
        return entry
    raise CloudError(
        "a host that stands has no image, and moves nowhere",
        where=f"box {entry.name}",
        remedy="only boxes of EC2 do",
    )


def require_box(entry: "BoxEntry") -> tuple[Box, Endpoint]:
    """A box that can be stopped, and its region's endpoint. Raises BoxStopped or CloudError."""
    entry = require_cloud(entry)
    box = boxes.find(entry)
    if box is None:
        why = "it was never launched, or is terminated"
        raise BoxStopped(
            f"there is no box {entry.name}",
            where=f"box {entry.name}",
            why=why,
            remedy=f"`./inv launch {entry.name}`",
        )
    if box.market == "spot":
        why = "an image is made of a stopped box, and a one-time spot instance has no stopped state"
        remedy = (
            f"write `market: on-demand` for {entry.name} in inventory.yaml, then `./inv launch"
            f" {entry.name} --fresh`"
        )
        raise CloudError(
            f"box {entry.name} is a spot box, which cannot be stopped",
            where=box.where,
            why=why,
            remedy=remedy,
        )
    return box, endpoint.of_entry(entry).in_region(box.region)


def cost(image: Image, there: Endpoint) -> float | None:
    """The most that the image's snapshots cost a month, in US dollars: as if every block were in
    use. None where nothing is billed."""
    if not there.is_billed:
        return None
    usd = prices.quote("snapshot", there.region, there).usd
    return None if usd is None else usd * image.gb


def record(image: Image) -> dict[str, Any]:
    """An image as JSON."""
    facts = ("id", "kind", "box", "region", "state", "architecture", "gb", "made_at")
    return {**{name: getattr(image, name) for name in facts}, "snapshots": list(image.snapshots)}


def _begun(box: Box, there: Endpoint) -> Image | None:
    """The image that an earlier command began of this very instance and did not see ready; none
    where the box was started since."""
    if box.state in ("pending", "running"):
        return None
    found = [
        image
        for image in images.listing(there, images.BAKED)
        if image.tags.get(images.FROM_TAG) == box.id
    ]
    return next((image for image in reversed(found) if image.state == "pending"), None)


def _begin(
    entry: "CloudEntry", box: Box, there: Endpoint, runs_on: bool, phases: Phases, say: Say
) -> str:
    if runs_on:
        _take_rights_away(boxes.running(entry))
    with phases.phase("stop"):
        boxes.stop(entry, say)
    tags = {
        **identity.tags(entry.name, entry.tags),
        images.KIND_TAG: images.BAKED,
        images.ENVIRONMENT_TAG: images.environment_digest(box.root, box.shared, box.instance_type),
        THEN_TAG: "start" if runs_on else "stop",
    }
    return images.create(there, box.id, tags)


def _take_rights_away(box: Box) -> None:
    """The right to write to the bucket is one box's, for a while: no copy of its disk shall hold
    it."""
    from remote.control.transport.connect import connect
    from remote.control.transport.payload import on_box

    with connect(box) as transport:
        transport.exec(
            f"rm -f {on_box(f'{box.root}/grant.json')} {on_box(f'{box.root}/notice.json')}",
            timeout=60,
        )
