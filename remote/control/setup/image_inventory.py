"""`inv box.images`: the images of this project over all regions of the inventory, and which of them
nothing will use again."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.control.cloud.account import endpoint, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2 import images, offers
from remote.control.cloud.ec2.images import Image
from remote.control.cloud.ec2.instances import map_concurrently
from remote.control.config.inventory import CloudEntry
from remote.control.setup.bake import cost, record

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry, Inventory


@dataclass(frozen=True)
class Kept:
    """One image, what its snapshots cost a month at most, and why it may go; `useless` is empty for
    one that stays."""

    image: Image
    there: Endpoint
    usd_per_month: float | None
    useless: str

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**record(self.image), "usd_per_month": self.usd_per_month, "useless": self.useless}


@dataclass(frozen=True)
class Shelf:
    """All images, and the snapshots of images that are there no more, by region."""

    kept: list[Kept]
    orphans: list[tuple[Endpoint, str]]

    @property
    def useless(self) -> list[Kept]:
        """What `prune` takes away."""
        return [each for each in self.kept if each.useless]

    @property
    def doomed(self) -> list[str]:
        """The ids of all that it takes away: images, and snapshots of none."""
        return [
            *(each.image.id for each in self.useless),
            *(snapshot for _, snapshot in self.orphans),
        ]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        lost = [{"region": there.region, "id": snapshot} for there, snapshot in self.orphans]
        return {"images": [each.record() for each in self.kept], "snapshots_of_no_image": lost}


def shelf(inventory: "Inventory", keep: int = 1) -> Shelf:
    """Every image of the project in the regions of its boxes. Of those alike the newest `keep` are
    of use, if a box fits them."""
    entries = [entry for entry in inventory.boxes.values() if isinstance(entry, CloudEntry)]
    places = _places(entries)
    listed = map_concurrently(lambda there: _of_region(there, entries, keep), places)
    lost = map_concurrently(_orphans, places)
    return Shelf(
        [each for some in listed for each in some], [each for some in lost for each in some]
    )


def prune(found: Shelf) -> None:
    """Take away every image that is of no use, and the snapshots that images left."""
    for each in found.useless:
        with _explained(each.there):
            images.remove(each.there, each.image)
    for there, snapshot in found.orphans:
        with _explained(there):
            images.remove_snapshots(there, [snapshot])


def _places(entries: Sequence["CloudEntry"]) -> list[Endpoint]:
    found: dict[tuple[str, str], Endpoint] = {}
    for entry in entries:
        home = endpoint.of_entry(entry)
        for region in offers.regions_of(entry):
            found.setdefault((entry.provider, region), home.in_region(region))
    return list(found.values())


def _of_region(there: Endpoint, entries: Sequence["CloudEntry"], keep: int) -> list[Kept]:
    with _explained(there):
        found = images.listing(there)
    wanted = {
        images.environment_digest(entry.root, entry.shared, entry.instance_type)
        for entry in entries
    }
    return [
        Kept(image, there, cost(image, there), _useless(image, found, wanted, keep))
        for image in found
    ]


def _useless(image: Image, found: Sequence[Image], wanted: set[str], keep: int) -> str:
    """Why an image is of no use any more. One of a move is not judged here: `box.move` ends with
    it, and `reap` finds what stayed."""
    if image.kind != images.BAKED or image.state == "pending":
        return ""
    if not image.is_ready:
        return f"it is {image.state}"
    if image.environment not in wanted:
        return "its environments are of older requirements, or of no box of the inventory"
    alike = [
        each
        for each in found
        if each.is_ready
        and (each.environment, each.architecture) == (image.environment, image.architecture)
    ]
    return "" if image in alike[-keep:] else "a newer one is alike"


def _orphans(there: Endpoint) -> list[tuple[Endpoint, str]]:
    with _explained(there):
        return [(there, snapshot) for snapshot in images.orphans(there)]


def _explained(there: Endpoint) -> AbstractContextManager[None]:
    return refusals.explained(refusals.Context("", there.region, regions=there.regions))
