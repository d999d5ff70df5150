"""Images of boxes: baked ones, from which the next box starts ready, and those of a box on the
move. AWS is the truth, by tags."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from remote.contract.files import digest
from remote.contract.job import locks
from remote.control.cloud.access import waiting
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.provider import Progress
from remote.control.config.machines import machine
from remote.control.errors import CloudError
from remote.control.project import CODE, identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

KIND_TAG = "windlass:image"
"""On an image and its snapshots: BAKED or MOVE."""

BAKED, MOVE = "baked", "move"

ENVIRONMENT_TAG = "windlass:environment"
"""On a baked image: `environment_digest` of the box that it was made of."""

FROM_TAG = "windlass:from"
"""On an image of a box: the instance that it was made of."""

_REQUIREMENTS = "remote/payload/requirements.txt"
_PATIENCE = 12
"""An image takes longer than a change of state: so many times. Two hours on AWS."""


@dataclass(frozen=True)
class Image:
    """One image of this project. `gb` is the size of its disk; `made_at` ISO 8601 in UTC; `state`
    is EC2's word."""

    id: str
    name: str
    kind: str
    box: str
    region: str
    state: str
    architecture: str
    environment: str
    gb: int
    made_at: str
    snapshots: tuple[str, ...]
    tags: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether a box can be launched from it."""
        return self.state == "available"


def baked(entry: "CloudEntry", endpoint: Endpoint) -> str | None:
    """The id of the newest baked image of the endpoint's region that fits the entry's instance
    type, disk and environments; or None."""
    with refusals.explained(
        refusals.Context(entry.name, endpoint.region, entry.instance_type, endpoint.regions)
    ):
        return newest_fitting(listing(endpoint, BAKED), entry, endpoint)


def newest_fitting(images: list[Image], entry: "CloudEntry", endpoint: Endpoint) -> str | None:
    """Of these images the newest that fits. The type is only looked up when there is something to
    choose from."""
    wanted = environment_digest(entry.root, entry.shared, entry.instance_type)
    fitting = [
        image
        for image in images
        if image.is_ready and image.environment == wanted and image.gb <= entry.disk_gb
    ]
    if not fitting:
        return None
    architecture = architecture_of(endpoint, entry.instance_type)
    return next(
        (image.id for image in reversed(fitting) if image.architecture == architecture), None
    )


def listing(endpoint: Endpoint, kind: str | None = None) -> list[Image]:
    """This project's images in the endpoint's region, the oldest first."""
    filters = [{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]
    if kind:
        filters.append({"Name": f"tag:{KIND_TAG}", "Values": [kind]})
    found = endpoint.client("ec2").describe_images(Owners=["self"], Filters=filters)["Images"]
    return sorted(
        (_image_of(each, endpoint.region) for each in found),
        key=lambda image: (image.made_at, image.name),
    )


def environment_digest(root: str, shared: str | None, instance_type: str) -> str:
    """What a baked image must have alike to be of use: the lock of the environment, Windlass's
    folders, GPU or none."""
    known = machine(instance_type)
    flavour = "cuda" if known and known.gpu else "cpu"
    return digest.of_value(
        [locks.lock_of(CODE / _REQUIREMENTS, flavour).read_text(), root, shared or "", flavour]
    )


def architecture_of(endpoint: Endpoint, instance_type: str) -> str:
    """`x86_64` or `arm64`."""
    told = endpoint.client("ec2").describe_instance_types(InstanceTypes=[instance_type])[
        "InstanceTypes"
    ]
    supported = told[0].get("ProcessorInfo", {}).get("SupportedArchitectures", []) if told else []
    return "arm64" if "arm64" in supported else "x86_64"


def create(endpoint: Endpoint, instance_id: str, tags: dict[str, str]) -> str:
    """Begin an image of a stopped instance, its snapshots tagged alike; returns its id at once."""
    marked = {**tags, identity.PROJECT_TAG: identity.project_mark(), FROM_TAG: instance_id}
    made = endpoint.client("ec2").create_image(
        InstanceId=instance_id,
        Name=_name(marked),
        Description="made by Windlass",
        NoReboot=True,
        TagSpecifications=_specifications(marked),
    )
    return str(made["ImageId"])


def copy(image: Image, target: Endpoint) -> str:
    """Begin a copy of an image in another region, tagged alike; returns its id at once."""
    tags = {**image.tags, identity.PROJECT_TAG: identity.project_mark()}
    made = target.client("ec2").copy_image(
        SourceImageId=image.id,
        SourceRegion=image.region,
        Name=_name(tags),
        Encrypted=True,
        TagSpecifications=_specifications(tags),
    )
    return str(made["ImageId"])


def wait(endpoint: Endpoint, image_id: str, on_progress: Progress) -> Image:
    """The image once a box can be launched from it. Raises CloudError when it fails, or takes too
    long."""
    patience, where = endpoint.patience, f"image {image_id} in {endpoint.region}"

    def look() -> Image | None:
        told = _told(endpoint, image_id)
        if told and told.get("State") in ("failed", "error", "invalid", "deregistered"):
            why = told.get("StateReason", {}).get("Message", "")
            remedy = (
                "repeat the command: it makes another; `./inv box.images --prune` takes this one"
                " away"
            )
            raise CloudError(f"the image is {told['State']}", where=where, why=why, remedy=remedy)
        return (
            _image_of(told, endpoint.region) if told and told.get("State") == "available" else None
        )

    seconds, poll = patience.state * _PATIENCE, 2 * patience.poll
    found = waiting.until(look, f"waiting until {where} is made", on_progress, seconds, poll)
    if found is None:
        raise CloudError(
            "the image is not made yet",
            where=where,
            why=f"not within {seconds:.0f} s",
            remedy="repeat the command: it waits on",
        )
    return found


def remove(endpoint: Endpoint, image: Image) -> None:
    """Take an image and its snapshots away. Repeatable after a kill: snapshots left over are
    `orphans`."""
    ec2 = endpoint.client("ec2")
    ec2.deregister_image(ImageId=image.id)
    remove_snapshots(endpoint, image.snapshots)


def remove_snapshots(endpoint: Endpoint, snapshots: Iterable[str]) -> None:
    """Delete snapshots; one that is gone already is no error."""
    from botocore.exceptions import ClientError

    for snapshot in snapshots:
        try:
            endpoint.client("ec2").delete_snapshot(SnapshotId=snapshot)
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidSnapshot.NotFound":
                raise


def orphans(endpoint: Endpoint) -> list[str]:
    """Snapshots of images of this project that are there no more."""
    filters = [
        {"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]},
        {"Name": f"tag:{KIND_TAG}", "Values": [BAKED, MOVE]},
    ]
    found = endpoint.client("ec2").describe_snapshots(OwnerIds=["self"], Filters=filters)[
        "Snapshots"
    ]
    used = {snapshot for image in listing(endpoint) for snapshot in image.snapshots}
    # A snapshot that is still being made belongs to an image that may not show it yet.
    return [
        str(each["SnapshotId"])
        for each in found
        if each["SnapshotId"] not in used and each["State"] == "completed"
    ]


def moment(seconds: float) -> str:
    """A moment as `made_at` holds it: of two, the later one compares as greater. `seconds` since
    the epoch, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _told(endpoint: Endpoint, image_id: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        found = endpoint.client("ec2").describe_images(ImageIds=[image_id])["Images"]
    except ClientError as error:
        # A new image may be unknown to the next request for some seconds.
        if error.response["Error"]["Code"] == "InvalidAMIID.NotFound":
            return None
        raise
    return dict(found[0]) if found else None


def _name(tags: dict[str, str]) -> str:
    moment = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    return (
        f"windlass-{tags[identity.PROJECT_TAG]}-{tags[identity.BOX_TAG]}-{tags[KIND_TAG]}-{moment}"
    )


def _specifications(tags: dict[str, str]) -> list[dict[str, Any]]:
    listed = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return [{"ResourceType": kind, "Tags": listed} for kind in ("image", "snapshot")]


def _image_of(told: dict[str, Any], region: str) -> Image:
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in told.get("Tags", ())}
    disks = [mapping["Ebs"] for mapping in told.get("BlockDeviceMappings", ()) if "Ebs" in mapping]
    made = told.get("CreationDate", "")
    made_at = (
        made
        if isinstance(made, datetime)
        else datetime.fromisoformat(made)
        if made
        else datetime.fromtimestamp(0, UTC)
    )
    return Image(
        id=told["ImageId"],
        name=told.get("Name", ""),
        kind=tags.get(KIND_TAG, ""),
        box=tags.get(identity.BOX_TAG, ""),
        region=region,
        state=told.get("State", ""),
        architecture=told.get("Architecture", ""),
        environment=tags.get(ENVIRONMENT_TAG, ""),
        gb=sum(int(disk.get("VolumeSize", 0)) for disk in disks),
        made_at=moment(made_at.timestamp()),
        snapshots=tuple(str(disk["SnapshotId"]) for disk in disks if "SnapshotId" in disk),
        tags=tags,
    )
