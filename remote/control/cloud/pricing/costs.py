"""Everything of this project that costs money, over all regions, by its tags: what each thing is,
and what it costs.

List prices, as `prices` tells them. AWS is the truth: a box that no inventory names any more is
found as well.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from remote.control.cloud import boxes, bucket
from remote.control.cloud.account import endpoint, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.bucket import Bucket, Spilled
from remote.control.cloud.ec2 import instances
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.ec2.offers import Offer, regions_of
from remote.control.cloud.pricing import prices, spot_prices
from remote.control.config.inventory import CloudEntry
from remote.control.errors import WindlassError
from remote.control.output.sanitize import counted
from remote.control.project import history, identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry, Inventory

COLUMNS = ("what", "id", "box", "where", "state", "$/h now", "$/month so", "this start $", "note")


@dataclass(frozen=True)
class Item:
    """One thing that costs, or may. `hourly_usd` is what it costs an hour as it stands now (None:
    the price is not known); `so_far_usd` is what a running instance with its disks has cost since
    its last start, `since`.
    """

    kind: str
    id: str
    box: str
    region: str
    what: str
    state: str
    hourly_usd: float | None
    since: datetime | None = None
    so_far_usd: float | None = None
    note: str = ""

    @property
    def monthly_usd(self) -> float | None:
        """What it costs a month if it stays as it is."""
        return None if self.hourly_usd is None else self.hourly_usd * prices.HOURS_PER_MONTH


@dataclass(frozen=True)
class Survey:
    """What was found. `errors` tells the places that could not be asked: what is there is not in
    the sums."""

    items: list[Item]
    errors: list[str]
    is_billed: bool

    @property
    def hourly_usd(self) -> float:
        """What all of it costs an hour now, as far as prices are known."""
        return sum(item.hourly_usd or 0 for item in self.items)

    @property
    def so_far_usd(self) -> float:
        """What the boxes that run have cost since their last start."""
        return sum(item.so_far_usd or 0 for item in self.items)

    @property
    def unpriced(self) -> list[str]:
        """The ids of what has no known price."""
        return [item.id for item in self.items if item.hourly_usd is None]


@dataclass(frozen=True)
class Place:
    """One region of one cloud, and all that this project has there."""

    there: Endpoint
    ids: tuple[str, ...] = ()
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def instances(self) -> list[Instance]:
        """Every instance of the project that is not terminated, those that the inventory names by
        id, and those that were launched here."""
        tagged = instances.of_project(self.there)
        named = instances.by_ids(
            self.there, [each for each in self.ids if each not in {one.id for one in tagged}]
        )
        lost = instances.lost_sight_of(None, [self.there], [*tagged, *named])
        return [each for each in (*tagged, *named, *lost) if not each.is_gone]

    def is_lost(self, instance: Instance) -> bool:
        """Whether this checkout launched it and its mark does not find it any more."""
        return (
            instance.tag(identity.PROJECT_TAG) != identity.project_mark()
            and instance.id not in self.ids
        )

    @cached_property
    def volumes(self) -> list[dict[str, Any]]:
        """Volumes with the project's tag, and those of instances that others made: they bear no tag
        of ours."""
        found = self._pages("describe_volumes", "Volumes", self.tagged)
        if ids := [
            each.id
            for each in self.instances
            if each.is_adopted or self.is_lost(each) or each.id in self.ids
        ]:
            found += self._pages(
                "describe_volumes", "Volumes", [{"Name": "attachment.instance-id", "Values": ids}]
            )
        return list({volume["VolumeId"]: volume for volume in found}.values())

    @cached_property
    def images(self) -> list[dict[str, Any]]:
        """Images of the project."""
        with self._explained():
            return list(
                self.there.client("ec2").describe_images(Owners=["self"], Filters=self.tagged)[
                    "Images"
                ]
            )

    @cached_property
    def snapshots(self) -> list[dict[str, Any]]:
        """Snapshots with the project's tag, and those of its images."""
        found = self._pages("describe_snapshots", "Snapshots", self.tagged, OwnerIds=["self"])
        known = {snapshot["SnapshotId"] for snapshot in found}
        if missing := sorted(snapshots_of(self.images) - known):
            found += self._pages(
                "describe_snapshots",
                "Snapshots",
                [{"Name": "snapshot-id", "Values": missing}],
                OwnerIds=["self"],
            )
        return found

    @cached_property
    def addresses(self) -> list[dict[str, Any]]:
        """Elastic addresses with the project's tag. Windlass makes none."""
        with self._explained():
            return list(
                self.there.client("ec2").describe_addresses(Filters=self.tagged)["Addresses"]
            )

    def usd(self, item: str) -> float | None:
        """The list price of an item of `prices.quote` here."""
        return prices.quote(item, self.there.region, self.there).usd

    @cached_property
    def tagged(self) -> list[dict[str, Any]]:
        """The filter for what bears the project's tag."""
        return [{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]

    def _pages(
        self, operation: str, key: str, filters: list[dict[str, Any]], **asked: Any
    ) -> list[dict[str, Any]]:
        with self._explained():
            pages = (
                self.there.client("ec2").get_paginator(operation).paginate(Filters=filters, **asked)
            )
            return [each for page in pages for each in page[key]]

    def _explained(self) -> Any:
        return refusals.explained(
            refusals.Context("", self.there.region, regions=self.there.regions)
        )


def survey(inventory: "Inventory", everywhere: bool = False) -> Survey:
    """All that the project has, in all regions of the inventory and of the history; with
    `everywhere` in all that the account has.

    Raises the error of the first place when no place can be asked.
    """
    found, errors = looked(places(inventory, everywhere), lambda place: list(_items(place)))
    is_billed = any(place.there.is_billed for place, _ in found)
    items = [item for _, items in found for item in items]
    kept, complaint = spilled(inventory)
    if kept:
        items.append(_kept_in(*kept))
    return Survey(items, [*errors, *complaint], is_billed)


def spilled(inventory: "Inventory") -> tuple[tuple[Bucket, list[Spilled]] | None, list[str]]:
    """The inventory's bucket with what boxes have spilled there, None where there is none; and in
    words why it could not be asked."""
    name, entries = inventory.storage.bucket, inventory.boxes.values()
    entry = next(
        (
            each
            for each in entries
            if each.provider == "ec2" or (each.provider == "embedded" and _is_up(each))
        ),
        None,
    )
    if entry is None or name is None:
        return None, []
    try:
        found = bucket.of_entry(name, entry)
        return ((found, jobs) if found and (jobs := found.spilled()) else None), []
    except WindlassError as error:
        return None, [f"s3://{name}: {error.what} ({error.why})"]


def places(inventory: "Inventory", everywhere: bool = False) -> list[Place]:
    """Every region where boxes of the inventory may be. A cloud that is down holds nothing that
    costs, and is left out."""
    found: list[Place] = []
    entries = [*inventory.boxes.values(), *boxes.forgotten(inventory)]
    for provider in dict.fromkeys(
        entry.provider for entry in entries if isinstance(entry, CloudEntry)
    ):
        mine = [entry for entry in entries if entry.provider == provider]
        regions = [
            region
            for entry in mine
            for region in (*regions_of(entry), *history.regions(entry.name))
        ]
        ids = tuple(entry.instance_id for entry in mine if entry.instance_id)
        if provider == "embedded" and not _is_up(mine[0]):
            continue
        home = endpoint.of_entry(mine[0], start=False)
        more = _enabled(home) if everywhere else []
        found += [Place(home.in_region(region), ids) for region in dict.fromkeys((*regions, *more))]
    return found


def looked(
    where: Iterable[Place], look: Callable[[Place], list[Any]]
) -> tuple[list[tuple[Place, list[Any]]], list[str]]:
    """What `look` finds in each place, asked side by side, and in words the places that could not
    be asked. Raises when none could."""

    def asked(place: Place) -> list[Any] | WindlassError:
        try:
            return look(place)
        except WindlassError as error:
            return error

    answers = list(
        zip(chosen := list(where), instances.map_concurrently(asked, chosen), strict=True)
    )
    failed = [(place, answer) for place, answer in answers if isinstance(answer, WindlassError)]
    if failed and len(failed) == len(answers):
        raise failed[0][1]
    found = [(place, answer) for place, answer in answers if not isinstance(answer, WindlassError)]
    return found, [f"{place.there.region}: {error.what} ({error.why})" for place, error in failed]


def snapshots_of(images: Iterable[dict[str, Any]]) -> set[str]:
    """The ids of the snapshots of which the images are made."""
    disks = (
        mapping.get("Ebs", {})
        for image in images
        for mapping in image.get("BlockDeviceMappings", ())
    )
    return {str(disk["SnapshotId"]) for disk in disks if disk.get("SnapshotId")}


def tag(thing: dict[str, Any], key: str) -> str:
    """The value of a tag of anything that EC2 describes, or the empty string."""
    return next((str(each["Value"]) for each in thing.get("Tags") or () if each["Key"] == key), "")


def report(found: Survey) -> list[list[str]]:
    """Rows for a table with the heads `COLUMNS`."""
    return [
        [
            f"{item.kind}: {item.what}",
            item.id,
            item.box,
            item.region,
            item.state,
            "?" if item.hourly_usd is None else f"{item.hourly_usd:.3f}",
            "?" if item.monthly_usd is None else f"{item.monthly_usd:.2f}",
            "" if item.so_far_usd is None else f"{item.so_far_usd:.2f}",
            item.note,
        ]
        for item in found.items
    ]


def record(found: Survey) -> dict[str, Any]:
    """The survey as JSON. US dollars."""
    items = [
        {
            **vars(item),
            "since": item.since.isoformat(timespec="seconds") if item.since else None,
            "monthly_usd": item.monthly_usd,
        }
        for item in found.items
    ]
    sums = {
        "hourly_usd": found.hourly_usd,
        "monthly_usd": found.hourly_usd * prices.HOURS_PER_MONTH,
        "so_far_usd": found.so_far_usd,
    }
    return {
        "items": items,
        **sums,
        "unpriced": found.unpriced,
        "not_asked": found.errors,
        "is_billed": found.is_billed,
    }


def sentences(found: Survey) -> list[str]:
    """The sums as a person reads them."""
    if not found.items:
        return [
            *(f"not asked: {error}" for error in found.errors),
            "nothing of this project costs anything",
        ]
    running = sum(
        item.kind == "instance" and item.state in ("pending", "running") for item in found.items
    )
    least = "at least " if found.unpriced or found.errors else ""
    told = [
        (
            f"now: {least}${found.hourly_usd:.3f} an hour, {running}"
            f" box{'es' if running != 1 else ''} running; left as it is,"
            f" {least}${found.hourly_usd * prices.HOURS_PER_MONTH:.2f} a month"
        ),
        f"since the last start of each box that runs: {least}${found.so_far_usd:.2f}",
    ]
    if found.unpriced:
        told.append(f"no price is known for {', '.join(found.unpriced)}")
    told += [f"not asked: {error}" for error in found.errors]
    return (
        told
        if found.is_billed
        else [*told, "the embedded cloud bills nothing: these are the prices that AWS would ask"]
    )


# ---- Items ----


def _items(place: Place) -> Iterator[Item]:
    region = place.there.region
    for each in place.instances:
        yield _instance(each, place)
    for volume in place.volumes:
        yield _volume(volume, place)
    for address in place.addresses:
        usd = 0.0 if address.get("InstanceId") else place.usd("address")
        state = "in use" if address.get("InstanceId") else "idle"
        yield Item(
            "address",
            address["AllocationId"],
            tag(address, identity.BOX_TAG),
            region,
            address["PublicIp"],
            state,
            usd,
        )
    for image in place.images:
        note = "its snapshots are listed by themselves"
        yield Item(
            "image",
            image["ImageId"],
            tag(image, identity.BOX_TAG),
            region,
            image.get("Name", ""),
            image["State"],
            0.0,
            note=note,
        )
    for snapshot in place.snapshots:
        usd = _by_month(place.usd("snapshot"), snapshot["VolumeSize"])
        what, box = f"of {snapshot['VolumeSize']} GB", tag(snapshot, identity.BOX_TAG)
        note = "at most: only blocks in use are billed"
        yield Item(
            "snapshot",
            snapshot["SnapshotId"],
            box,
            region,
            what,
            snapshot["State"],
            usd,
            snapshot.get("StartTime"),
            note=note,
        )


def _kept_in(where: Bucket, jobs: list[Spilled]) -> Item:
    gb = sum(job.size for job in jobs) / 1e9
    what = f"{gb:.1f} GB of {counted(len(jobs), 'job')}"
    note = "what boxes spilled; `./inv reap` removes it when its time is over"
    hourly = _by_month(prices.tabled("s3", where.at.region).usd, gb)
    return Item(
        "bucket",
        where.name,
        "",
        where.at.region,
        what,
        "kept",
        hourly,
        min(job.at for job in jobs),
        note=note,
    )


def _instance(each: Instance, place: Place) -> Item:
    box, what = each.tag(identity.BOX_TAG), f"{each.facts['InstanceType']} {each.market}"
    lost = ""
    if place.is_lost(each):
        why, command = identity.lost_sight_of(
            each.tag(identity.PROJECT_TAG), each.id, place.there.region
        )
        lost = f"{why}: `{command}`"
    since = each.facts.get("LaunchTime")
    if each.state not in ("pending", "running"):
        return Item(
            "instance", each.id, box, place.there.region, what, each.state, 0.0, since, note=lost
        )
    compute = _compute(each, place)
    address = (place.usd("address") or 0) if each.facts.get("PublicIpAddress") else 0
    hourly = None if compute is None else compute + address
    disks = sum(
        _volume(volume, place).hourly_usd or 0
        for volume in place.volumes
        if holder(volume) == each.id
    )
    hours = (place.now - since).total_seconds() / 3600 if since else 0
    so_far = None if hourly is None else (hourly + disks) * hours
    note = lost or ("with its public address" if address else "")
    return Item(
        "instance", each.id, box, place.there.region, what, each.state, hourly, since, so_far, note
    )


def _compute(each: Instance, place: Place) -> float | None:
    kind = str(each.facts["InstanceType"])
    on_demand = place.usd(f"compute {kind}")
    if each.market != "spot":
        return on_demand
    spot = spot_prices.history(Offer(place.there.region, each.zone, kind, "spot"), place.there)
    return spot.current if spot else on_demand


def _volume(volume: dict[str, Any], place: Place) -> Item:
    kind = volume["VolumeType"]
    usd = _by_month(place.usd(f"disk {kind}"), volume["Size"])
    owner = holder(volume)
    box = tag(volume, identity.BOX_TAG) or next(
        (each.tag(identity.BOX_TAG) for each in place.instances if each.id == owner), ""
    )
    note = f"of {owner}" if owner else "attached to nothing"
    made = volume.get("CreateTime")
    return Item(
        "volume",
        volume["VolumeId"],
        box,
        place.there.region,
        f"{volume['Size']} GB {kind}",
        volume["State"],
        usd,
        made,
        note=note,
    )


def holder(volume: dict[str, Any]) -> str:
    """The instance to which a volume is attached, or the empty string."""
    return next(
        (
            str(each["InstanceId"])
            for each in volume.get("Attachments", ())
            if each.get("InstanceId")
        ),
        "",
    )


def _by_month(usd: float | None, gb: float) -> float | None:
    return None if usd is None else usd * gb / prices.HOURS_PER_MONTH


def _is_up(entry: "CloudEntry") -> bool:
    try:
        endpoint.of_entry(entry, start=False)
    except WindlassError:
        return False
    return True


def _enabled(home: Endpoint) -> list[str]:
    """Every region that the account may use."""
    with refusals.explained(refusals.Context("", home.region, regions=home.regions)):
        return sorted(
            each["RegionName"] for each in home.client("ec2").describe_regions()["Regions"]
        )
