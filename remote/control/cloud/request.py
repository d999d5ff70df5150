"""What RunInstances is asked for, and what must be there before: image, key pair, security group."""

from typing import Any

from remote.control.cloud import identity, ingress, keys, refusals, user_data
from remote.control.cloud.endpoint import Endpoint
from remote.control.cloud.provider import Progress

DEFAULT_IMAGE = "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.10-ubuntu-24.04/latest/ami-id"
"""Public SSM parameter of the Deep Learning AMI: Ubuntu with NVIDIA's driver. AWS keeps it pointing at the newest build."""


def prepare(entry: Any, there: Endpoint, context: refusals.Context, on_progress: Progress) -> dict[str, Any]:
    """The parameters of RunInstances for an entry, less the client token. Makes the key pair and the security group they name."""
    ec2 = there.client("ec2")
    found = image(entry, there, context)
    tags = identity.tags(entry.name, wish(entry, "tags") or {})
    login = keys.identity_of(entry)
    keys.ensure_pair(ec2, login, tags)
    group = ingress.ensure_group(ec2, identity.group_name(entry.name), _vpc(ec2, entry, context), tags)
    ingress.admit(ec2, group, there.caller_cidr(), on_progress)
    return parameters(entry, found, login.name, group, tags)


def parameters(entry: Any, found: dict[str, Any], key_name: str, group: str, tags: dict[str, str]) -> dict[str, Any]:
    """The parameters themselves: a pure function of what was found."""
    disk = {"VolumeType": "gp3", "VolumeSize": entry.disk_gb, "Encrypted": True, "DeleteOnTermination": True}
    tag_list = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    subnet = wish(entry, "subnet")
    return {
        "ImageId": found["ImageId"],
        "InstanceType": entry.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": key_name,
        "SecurityGroupIds": [group],
        **({"SubnetId": subnet} if subnet else {}),
        "UserData": user_data.render(entry.name, entry.root, wish(entry, "user")),
        "InstanceInitiatedShutdownBehavior": "stop",
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": found["RootDeviceName"], "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tag_list} for kind in ("instance", "volume")],
    }


def image(entry: Any, there: Endpoint, context: refusals.Context) -> dict[str, Any]:
    """The machine image an entry asks for, as `describe_images` tells it: by id, by SSM parameter, or the Deep Learning AMI."""
    wanted = wish(entry, "ami") or DEFAULT_IMAGE
    if wanted.startswith("/"):
        wanted = there.client("ssm").get_parameter(Name=wanted)["Parameter"]["Value"]
    images = there.client("ec2").describe_images(ImageIds=[wanted])["Images"]
    if not images:
        raise refusals.of_code("InvalidAMIID.NotFound", f"the image {wanted} does not exist", context)
    return dict(images[0])


def wish(entry: Any, name: str) -> Any:
    """A wish that only some providers' entries can hold; None for the others."""
    return getattr(entry, name, None)


def _vpc(ec2: Any, entry: Any, context: refusals.Context) -> str:
    if subnet := wish(entry, "subnet"):
        return str(ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"])
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise refusals.of_code("VPCIdNotSpecified", "no default VPC", context)
    return str(found[0]["VpcId"])
