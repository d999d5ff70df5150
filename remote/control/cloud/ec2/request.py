"""What RunInstances is asked for, and what must be there before: image, key pair, security
group."""

from typing import TYPE_CHECKING, Any

from remote.control.cloud import limits
from remote.control.cloud.access import ingress, keys, reach
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2 import images, user_data
from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.provider import Progress
from remote.control.project import identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

DEFAULT_IMAGE = (
    "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.10-ubuntu-24.04"
    "/latest/ami-id"
)
"""Public SSM parameter of the Deep Learning AMI: Ubuntu with NVIDIA's driver. AWS keeps it pointing
at the newest build."""


def prepare(
    entry: "CloudEntry",
    offer: Offer,
    there: Endpoint,
    context: refusals.Context,
    on_progress: Progress,
) -> dict[str, Any]:
    """The parameters of RunInstances for an offer, less the client token. Makes the key pair and
    the security group they name."""
    ec2 = there.client("ec2")
    found = image(entry.model_copy(update={"instance_type": offer.instance_type}), there, context)
    login = keys.identity_of(entry)
    keys.ensure_pair(ec2, login, identity.shared_tags())
    tags = identity.tags(entry.name, entry.tags)
    vpc = _vpc(ec2, offer, context)
    group = ingress.ensure_group(ec2, identity.group_name(entry.name), vpc, tags)
    ingress.admit(ec2, group, reach.entrance(entry, there, vpc), on_progress)
    return parameters(entry, offer, found, login.name, group, tags)


def parameters(
    entry: "CloudEntry",
    offer: Offer,
    found: dict[str, Any],
    key_name: str,
    group: str,
    tags: dict[str, str],
) -> dict[str, Any]:
    """The parameters themselves: a pure function of what was found."""
    disk = {
        "VolumeType": "gp3",
        "VolumeSize": entry.disk_gb,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    tag_list = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    is_spot = offer.market == "spot"
    tagged = ("instance", "volume", "spot-instances-request") if is_spot else ("instance", "volume")
    return {
        "ImageId": found["ImageId"],
        "InstanceType": offer.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        **({"KeyName": key_name} if key_name else {}),
        "SecurityGroupIds": [group],
        **_placement(offer),
        **(_spot(entry) if is_spot else {}),
        **(
            {"IamInstanceProfile": {"Name": entry.instance_profile}}
            if entry.instance_profile
            else {}
        ),
        "UserData": user_data.render(entry, limits.at_launch(entry, offer)),
        "InstanceInitiatedShutdownBehavior": "terminate" if is_spot else "stop",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        },
        "BlockDeviceMappings": [{"DeviceName": found["RootDeviceName"], "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tag_list} for kind in tagged],
    }


def _placement(offer: Offer) -> dict[str, Any]:
    """A subnet lies in one zone; without one the zone picks its default subnet."""
    if offer.subnet:
        return {"SubnetId": offer.subnet}
    return {"Placement": {"AvailabilityZone": offer.zone}} if offer.zone else {}


def _spot(entry: "CloudEntry") -> dict[str, Any]:
    """One-time and terminated when taken back: a persistent request would launch again behind
    everybody's back."""
    price = {"MaxPrice": f"{entry.max_spot_usd:g}"} if entry.max_spot_usd else {}
    options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate", **price}
    return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options}}


def image(entry: "CloudEntry", there: Endpoint, context: refusals.Context) -> dict[str, Any]:
    """The machine image of an entry, as `describe_images` tells it: the one it names by id or SSM
    parameter, else the newest baked one that fits, else the Deep Learning AMI."""
    wanted = entry.ami or images.baked(entry, there) or DEFAULT_IMAGE
    if wanted.startswith("/"):
        wanted = there.client("ssm").get_parameter(Name=wanted)["Parameter"]["Value"]
    found = there.client("ec2").describe_images(ImageIds=[wanted])["Images"]
    if not found:
        raise refusals.of_code(
            "InvalidAMIID.NotFound", f"the image {wanted} does not exist", context
        )
    return dict(found[0])


def wish(entry: "CloudEntry", name: str) -> Any:
    """A wish that only some providers' entries can hold; None for the others."""
    return getattr(entry, name, None)


def _vpc(ec2: Any, offer: Offer, context: refusals.Context) -> str:
    if offer.subnet:
        return str(ec2.describe_subnets(SubnetIds=[offer.subnet])["Subnets"][0]["VpcId"])
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise refusals.of_code("VPCIdNotSpecified", "no default VPC", context)
    return str(found[0]["VpcId"])
