"""What should not be there any more: boxes beyond their clocks, and what was left over. Found by
the project's tags, over all regions.

A box within its clocks is never touched, nor is an instance that somebody else made. What a person
should decide is only told, unless it is asked for with `everything`: instances that the inventory
does not name, running spot boxes, and disks before their time.

EC2 does not always tell since when a thing has been unused. Then the first look writes that moment
into the tag `windlass:unused`, and the time counts from there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from remote.contract.job.clocks import Reading
from remote.control.cloud import boxes
from remote.control.cloud.account import refusals
from remote.control.cloud.bucket import Bucket, Spilled
from remote.control.cloud.ec2 import cleanup, images, instances, transitions
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.pricing import costs, prices
from remote.control.cloud.pricing.costs import Place
from remote.control.cloud.pricing.estimate import span
from remote.control.cloud.provider import Progress
from remote.control.config.inventory import Clocks, CloudEntry
from remote.control.errors import WindlassError
from remote.control.project import history, identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry, Inventory

COLUMNS = ("what", "id", "box", "where", "$/month", "why", "then")

_IN_THE_MAKING = timedelta(minutes=15)
_MARGIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Find:
    """One thing that should not be there. `action` is what would be done now, empty where it is
    only told; `until` is when it is due."""

    kind: str
    id: str
    box: str
    place: Place
    why: str
    action: str
    monthly_usd: float = 0.0
    until: datetime | None = None
    mark: bool = False

    @property
    def name(self) -> str:
        """How it is called in lines of progress and in errors."""
        return f"{self.kind} {self.id}"


@dataclass(frozen=True)
class Judge:
    """One look at everything. `read` tells how the clocks of a running box of the inventory stand,
    None where they can't be read."""

    inventory: "Inventory"
    read: Callable[[Any], Reading | None]
    everything: bool = False

    def finds(self) -> tuple[list[Find], list[str]]:
        """What should not be there, and in words the places that could not be asked. Changes
        nothing."""
        found, errors = costs.looked(
            costs.places(self.inventory), lambda place: list(self._of(place))
        )
        kept, complaint = costs.spilled(self.inventory)
        spills = list(self._spills(*kept)) if kept else []
        return [*(find for _, finds in found for find in finds), *spills], [*errors, *complaint]

    def _of(self, place: Place) -> Iterator[Find]:
        for each in place.instances:
            yield from (
                self._lost(each, place) if place.is_lost(each) else self._instance(each, place)
            )
        with refusals.explained(
            refusals.Context("", place.there.region, regions=place.there.regions)
        ):
            yield from self._requests(place)
            yield from self._volumes(place)
            yield from self._images(place)
            yield from self._groups(place)
            yield from self._pairs(place)
        for address in place.addresses:
            if not address.get("AssociationId") and not address.get("InstanceId"):
                monthly = (place.usd("address") or 0) * prices.HOURS_PER_MONTH
                yield Find(
                    "address",
                    address["AllocationId"],
                    _box(address),
                    place,
                    "attached to nothing",
                    "release",
                    monthly,
                )

    # ---- Instances ----

    def _lost(self, each: Instance, place: Place) -> Iterator[Find]:
        """What this checkout launched and its mark does not find any more is told, whatever its
        clocks say, and left alone."""
        why, command = identity.lost_sight_of(
            each.tag(identity.PROJECT_TAG), each.id, place.there.region
        )
        yield Find(
            "instance",
            each.id,
            each.tag(identity.BOX_TAG),
            place,
            f"{each.state}, {why}: `{command}`",
            "",
        )

    def _instance(self, each: Instance, place: Place) -> Iterator[Find]:
        entry = self._entry_of(each)
        clocks = entry.clocks if entry else Clocks()
        if entry and _has_successor(each, place):
            why = "its successor is up, and its loss was agreed to"
            yield Find("instance", each.id, each.tag(identity.BOX_TAG), place, why, "terminate")
            return
        judged = self._running if each.state in ("pending", "running") else self._stopped
        for find in judged(each, entry, clocks, place):
            if each.is_adopted or each.id in place.ids:
                yield _only_told(
                    find,
                    (
                        f"; it was adopted: `./inv terminate {find.box}` if you mean it"
                        if entry
                        else "; it was adopted"
                    ),
                )
            elif entry is None and not self.everything:
                yield _only_told(find, "; not in inventory.yaml: `./inv reap --everything`")
            else:
                yield find

    def _running(
        self, each: Instance, entry: "CloudEntry", clocks: Clocks, place: Place
    ) -> Iterator[Find]:
        up = place.now - datetime.fromtimestamp(each.launched_at or 0, UTC)
        due = timedelta(seconds=clocks.lifetime + clocks.grace) + _MARGIN
        if up < due or (entry and _is_watched(self.read(entry))):
            return
        hourly = place.usd(f"compute {each.facts['InstanceType']}") or 0.0
        why = (
            f"runs for {span(up)}, beyond its lifetime of"
            f" {span(timedelta(seconds=clocks.lifetime))}, and its clocks do not answer"
        )
        find = Find(
            "instance",
            each.id,
            each.tag(identity.BOX_TAG),
            place,
            why,
            "stop",
            hourly * prices.HOURS_PER_MONTH,
        )
        if each.market != "spot":
            yield find
        elif self.everything:
            yield _changed(find, action="terminate")
        else:
            yield _only_told(
                find,
                "; a spot box cannot be stopped, only ended with its disk: `./inv reap"
                " --everything`",
            )

    def _stopped(
        self, each: Instance, _entry: "CloudEntry", clocks: Clocks, place: Place
    ) -> Iterator[Find]:
        since = datetime.fromtimestamp(each.stopped_at, UTC) if each.stopped_at else None
        disks = sum(volume["Size"] for volume in place.volumes if costs.holder(volume) == each.id)
        monthly = (place.usd("disk gp3") or 0) * disks
        find = Find("instance", each.id, each.tag(identity.BOX_TAG), place, "stopped", "", monthly)
        yield from _in_time(find, since, timedelta(seconds=clocks.stopped), place.now, "terminate")

    def _entry_of(self, each: Instance) -> Any:
        named = self.inventory.boxes.get(each.tag(identity.BOX_TAG))
        return named or next(
            (
                one
                for one in self.inventory.boxes.values()
                if getattr(one, "instance_id", None) == each.id
            ),
            None,
        )

    # ---- What was left over ----

    def _requests(self, place: Place) -> Iterator[Find]:
        asked = [*place.tagged, {"Name": "state", "Values": ["open", "active"]}]
        for request in place.there.client("ec2").describe_spot_instance_requests(Filters=asked)[
            "SpotInstanceRequests"
        ]:
            is_old = place.now - _utc(request.get("CreateTime"), place.now) > _MARGIN
            if is_old and request.get("InstanceId") not in {each.id for each in place.instances}:
                why = f"{request['State']}, and its instance is gone: it may be served again"
                yield Find(
                    "spot request",
                    request["SpotInstanceRequestId"],
                    _box(request),
                    place,
                    why,
                    "cancel",
                )

    def _volumes(self, place: Place) -> Iterator[Find]:
        for volume in place.volumes:
            if volume["State"] != "available":
                continue
            monthly = (place.usd(f"disk {volume['VolumeType']}") or 0) * volume["Size"]
            find = Find(
                "volume",
                volume["VolumeId"],
                _box(volume),
                place,
                "attached to nothing",
                "",
                monthly,
            )
            since = _moment(costs.tag(volume, identity.UNUSED_TAG))
            yield from self._at_once(find, "delete") or _in_time(
                find, since, self._keep(find.box), place.now, "delete"
            )

    def _images(self, place: Place) -> Iterator[Find]:
        """Images of a move that never ended, and snapshots of no image. Baked images stay until
        `box.images` prunes them."""
        snapshot = (place.usd("snapshot") or 0) if place.snapshots else 0
        sizes = {each["SnapshotId"]: each["VolumeSize"] for each in place.snapshots}
        for image in place.images:
            if costs.tag(image, images.KIND_TAG) != images.MOVE:
                continue
            monthly = snapshot * sum(sizes.get(each, 0) for each in costs.snapshots_of([image]))
            find = Find(
                "image",
                image["ImageId"],
                _box(image),
                place,
                "of a move that did not end",
                "",
                monthly,
            )
            made = _utc(image.get("CreationDate"), place.now)
            yield from self._at_once(find, "deregister") or _in_time(
                find, made, self._keep(find.box), place.now, "deregister"
            )
        of_images = costs.snapshots_of(place.images)
        for each in place.snapshots:
            if each["SnapshotId"] in of_images:
                continue
            find = Find(
                "snapshot",
                each["SnapshotId"],
                _box(each),
                place,
                "of no image",
                "",
                snapshot * each["VolumeSize"],
            )
            made = _utc(each.get("StartTime"), place.now)
            yield from self._at_once(find, "delete") or _in_time(
                find, made, self._keep(find.box), place.now, "delete"
            )

    def _groups(self, place: Place) -> Iterator[Find]:
        pages = (
            place.there.client("ec2")
            .get_paginator("describe_security_groups")
            .paginate(Filters=place.tagged)
        )
        used = {
            group["GroupId"]
            for each in place.instances
            for group in each.facts.get("SecurityGroups", ())
        }
        for group in (group for page in pages for group in page["SecurityGroups"]):
            box = _box(group)
            if group["GroupId"] not in used and not _is_in_the_making(box, place.now):
                yield Find(
                    "security group", group["GroupId"], box, place, "no instance uses it", "delete"
                )

    def _pairs(self, place: Place) -> Iterator[Find]:
        used = {str(each.facts.get("KeyName", "")) for each in place.instances}
        for pair in place.there.client("ec2").describe_key_pairs(Filters=place.tagged)["KeyPairs"]:
            is_old = place.now - _utc(pair.get("CreateTime"), place.now) > _IN_THE_MAKING
            if is_old and pair["KeyName"] not in used:
                yield Find(
                    "key pair", pair["KeyName"], _box(pair), place, "no instance uses it", "delete"
                )

    def _spills(self, bucket: Bucket, jobs: list[Spilled]) -> Iterator[Find]:
        """What a box put into the bucket is kept as long as the disk of the box that stays longest
        would be."""
        place = Place(bucket.at)
        keep = max((self._keep(name) for name in self.inventory.boxes), default=self._keep(""))
        for job in jobs:
            monthly = (prices.tabled("s3", bucket.at.region).usd or 0) * job.size / 1e9
            find = Find(
                "spill",
                job.job_id,
                "",
                place,
                f"in s3://{bucket.name}, not written to",
                "",
                monthly,
            )
            yield from _in_time(find, job.at, keep, place.now, "delete")

    def _at_once(self, find: Find, action: str) -> list[Find]:
        return [_changed(find, action=action)] if self.everything else []

    def _keep(self, box: str) -> timedelta:
        entry = self.inventory.boxes.get(box)
        return timedelta(
            seconds=(entry.clocks if entry and isinstance(entry, CloudEntry) else Clocks()).stopped
        )


def take(find: Find, inventory: "Inventory", on_progress: Progress) -> None:
    """Do what a find asks for, or write down since when it has been unused. Repeatable; raises the
    errors of `refusals`."""
    ec2 = find.place.there.client("ec2")
    with refusals.explained(
        refusals.Context(find.box, find.place.there.region, regions=find.place.there.regions)
    ):
        if find.mark:
            wanted = {
                identity.UNUSED_TAG: find.place.now.isoformat(timespec="seconds"),
                identity.PROJECT_TAG: identity.project_mark(),
            }
            ec2.create_tags(
                Resources=[find.id],
                Tags=[{"Key": key, "Value": value} for key, value in wanted.items()],
            )
        if not find.action:
            return
        on_progress(
            f"{find.action}: {find.name} of {find.box or 'no box'} in {find.place.there.region}"
        )
        if find.kind == "instance":
            _end(find, inventory, on_progress)
            return
        undo: dict[str, Callable[[], Any]] = {
            "spot request": partial(
                ec2.cancel_spot_instance_requests, SpotInstanceRequestIds=[find.id]
            ),
            "volume": partial(ec2.delete_volume, VolumeId=find.id),
            "image": partial(_deregister, find, ec2),
            "snapshot": partial(ec2.delete_snapshot, SnapshotId=find.id),
            "address": partial(ec2.release_address, AllocationId=find.id),
            "security group": partial(ec2.delete_security_group, GroupId=find.id),
            "key pair": partial(ec2.delete_key_pair, KeyName=find.id),
            "spill": partial(_remove_spill, find, inventory),
        }
        undo[find.kind]()


def report(finds: list[Find]) -> list[list[str]]:
    """Rows for a table with the heads `COLUMNS`."""
    return [
        [
            find.kind,
            find.id,
            find.box,
            find.place.there.region,
            f"{find.monthly_usd:.2f}",
            find.why,
            find.action or _later(find),
        ]
        for find in finds
    ]


def record(find: Find) -> dict[str, Any]:
    """A find as JSON."""
    return {
        "kind": find.kind,
        "id": find.id,
        "box": find.box,
        "region": find.place.there.region,
        "why": find.why,
        "action": find.action or None,
        "monthly_usd": round(find.monthly_usd, 4),
        "due": find.until.isoformat(timespec="seconds") if find.until else None,
    }


def _end(find: Find, inventory: "Inventory", on_progress: Progress) -> None:
    """Stop or end an instance. The present state counts, not that of the first look: a box started
    meanwhile stays."""
    now = instances.by_id(find.place.there, find.id, find.box)
    before = next((each for each in find.place.instances if each.id == find.id), None)
    if now is None or now.is_gone or before is None or now.launched_at != before.launched_at:
        on_progress(f"{find.name} is no longer as it was; left alone")
        return
    if find.action == "stop":
        transitions.until_stopped(now, find.box, on_progress)
        history.append(find.box, "stopped", id=find.id, by="reap")
    elif entry := inventory.boxes.get(find.box):
        boxes.terminate(entry, on_progress, find.id)
    else:
        gone = transitions.until_terminated(now, find.box, on_progress)
        history.append(find.box, "terminated", id=find.id)
        cleanup.forget(gone)
        cleanup.after_attempt(find.box, find.place.there)


def _deregister(find: Find, ec2: Any) -> None:
    image = next(each for each in find.place.images if each["ImageId"] == find.id)
    ec2.deregister_image(ImageId=find.id)
    for snapshot in costs.snapshots_of([image]):
        ec2.delete_snapshot(SnapshotId=snapshot)


def _remove_spill(find: Find, inventory: "Inventory") -> None:
    kept, _ = costs.spilled(inventory)
    if kept:
        kept[0].remove(find.id)


def _in_time(
    find: Find, since: datetime | None, keep: timedelta, now: datetime, action: str
) -> Iterator[Find]:
    """What is due when it has been unused for `keep`: from its own mark where nobody knows since
    when."""
    if since is None:
        why = f"{find.why}; since when is not known: counted from now"
        yield _changed(find, why=why, until=now + keep, mark=True)
    elif now - since >= keep:
        yield _changed(
            find,
            why=f"{find.why} for {span(now - since)}, longer than {span(keep)}",
            action=action,
            until=since + keep,
        )
    else:
        yield _changed(find, why=f"{find.why} for {span(now - since)}", until=since + keep)


def _has_successor(each: Instance, place: Place) -> bool:
    """Whether a fresh one took its place, and whoever made it was cut off before ending this
    one."""
    name = each.tag(identity.BOX_TAG)
    others = (
        other
        for other in place.instances
        if other.tag(identity.BOX_TAG) == name and not other.is_replaced
    )
    return each.is_replaced and any(other.state == "running" for other in others)


def _is_watched(reading: Reading | None) -> bool:
    """Whether a box's own clocks run: then it stops by itself, when they say."""
    return reading is not None and reading.state != "silent"


def _is_in_the_making(box: str, now: datetime) -> bool:
    asked = history.last(box, "asking") if box else None
    return bool(asked and now.timestamp() - asked["at"] < _IN_THE_MAKING.total_seconds())


def _only_told(find: Find, more: str) -> Find:
    return _changed(find, action="", why=find.why + (more if find.action else ""))


def _changed(find: Find, **facts: Any) -> Find:
    return Find(**{**vars(find), **facts})


def _later(find: Find) -> str:
    return (
        f"stays until {find.until:%Y-%m-%d %H:%M} UTC"
        if find.until and find.until > find.place.now
        else "only told"
    )


def _box(thing: dict[str, Any]) -> str:
    return costs.tag(thing, identity.BOX_TAG)


def _moment(text: str) -> datetime | None:
    try:
        return _utc(text, datetime.now(UTC)) if text else None
    except ValueError:
        return None


def _utc(given: Any, otherwise: datetime) -> datetime:
    """A moment as boto3 or a tag tells it: a datetime, or ISO 8601."""
    if not given:
        return otherwise
    told = (
        given
        if isinstance(given, datetime)
        else datetime.fromisoformat(str(given).replace("Z", "+00:00"))
    )
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def all_taken(
    finds: list[Find], inventory: "Inventory", on_progress: Progress
) -> dict[str, WindlassError]:
    """Take every find, the instances first, as what they hold is free only then. Returns the errors
    by name; the others go on."""
    errors: dict[str, WindlassError] = {}
    for find in sorted(finds, key=lambda find: find.kind != "instance"):
        try:
            take(find, inventory, on_progress)
        except WindlassError as error:
            errors[find.name] = error
    return errors
