"""Images of boxes: baked ones, from which the next box starts ready, and those of a box on the move. AWS is the truth, by tags."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remote.contract import digest
from remote.control.cloud import identity, refusals
from remote.control.cloud.endpoint import Endpoint
from remote.control.config.machines import machine
from remote.control.project import CODE

KIND_TAG = "windlass:image"
"""On an image and its snapshots: BAKED or MOVE."""

BAKED, MOVE = "baked", "move"

ENVIRONMENT_TAG = "windlass:environment"
"""On a baked image: `environment_digest` of the box that it was made of."""

_REQUIREMENTS = "remote/payload/requirements.txt"


@dataclass(frozen=True)
class Image:
    """One image of this project. `gb` is the size of its disk; `made_at` ISO 8601 in UTC; `state` is EC2's word."""

    id: str
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


def baked(entry: Any, endpoint: Endpoint) -> str | None:
    """The id of the newest baked image of the endpoint's region that fits the entry's instance type, disk and environments; or None."""
    with refusals.explained(refusals.Context(entry.name, endpoint.region, entry.instance_type, endpoint.regions)):
        return newest_fitting(listing(endpoint, BAKED), entry, endpoint)


def newest_fitting(images: list[Image], entry: Any, endpoint: Endpoint) -> str | None:
    """Of these images the newest that fits. The type is only looked up when there is something to choose from."""
    wanted = environment_digest(entry.root, entry.instance_type)
    fitting = [image for image in images if image.is_ready and image.environment == wanted and image.gb <= entry.disk_gb]
    if not fitting:
        return None
    architecture = architecture_of(endpoint, entry.instance_type)
    return next((image.id for image in reversed(fitting) if image.architecture == architecture), None)


def listing(endpoint: Endpoint, kind: str | None = None) -> list[Image]:
    """This project's images in the endpoint's region, the oldest first."""
    filters = [{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]
    if kind:
        filters.append({"Name": f"tag:{KIND_TAG}", "Values": [kind]})
    found = endpoint.client("ec2").describe_images(Owners=["self"], Filters=filters)["Images"]
    return sorted((_image_of(each, endpoint.region) for each in found), key=lambda image: (image.made_at, image.id))


def environment_digest(root: str, instance_type: str) -> str:
    """What must be alike for a baked image to be of use: requirements of the environments, Windlass's folder, GPU or none."""
    known = machine(instance_type)
    flavour = "cuda" if known and known.gpu else "cpu"
    return digest.of_value([(CODE / _REQUIREMENTS).read_text(), root, flavour])


def architecture_of(endpoint: Endpoint, instance_type: str) -> str:
    """`x86_64` or `arm64`."""
    told = endpoint.client("ec2").describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    supported = told[0].get("ProcessorInfo", {}).get("SupportedArchitectures", []) if told else []
    return "arm64" if "arm64" in supported else "x86_64"


def _image_of(told: dict[str, Any], region: str) -> Image:
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in told.get("Tags", ())}
    disks = [mapping["Ebs"] for mapping in told.get("BlockDeviceMappings", ()) if "Ebs" in mapping]
    made = told.get("CreationDate", "")
    return Image(
        id=told["ImageId"],
        kind=tags.get(KIND_TAG, ""),
        box=tags.get(identity.BOX_TAG, ""),
        region=region,
        state=told.get("State", ""),
        architecture=told.get("Architecture", ""),
        environment=tags.get(ENVIRONMENT_TAG, ""),
        gb=sum(int(disk.get("VolumeSize", 0)) for disk in disks),
        made_at=made.isoformat() if isinstance(made, datetime) else str(made),
        snapshots=tuple(str(disk["SnapshotId"]) for disk in disks if "SnapshotId" in disk),
        tags=tags,
    )
