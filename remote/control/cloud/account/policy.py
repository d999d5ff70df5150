"""The least IAM policies that Windlass works with: one for its user, one for the role of a box that
has an instance profile.

`tests/integration/test_policy.py` holds both against every call that the commands and the boxes
make, resources and tags included. Source: the Service Authorization Reference of each service. A
request is asked about each resource that it touches, and a tag can only be demanded of a resource
that bears one: of what is made in the request, or of what was made by an earlier one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from remote.control.cloud.ec2.request import DEFAULT_IMAGE
from remote.control.config import base_model
from remote.control.config.inventory import CloudEntry
from remote.control.errors import ConfigError, Finding
from remote.control.project.identity import PROJECT_TAG

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory

Statement = dict[str, Any]

LONGEST = 6144
"""Characters that IAM lets a managed policy have, white space aside. (An inline policy of a user:
2048, too few for the user's.)"""

_ITS_OWN = {"StringLike": {f"aws:ResourceTag/{PROJECT_TAG}": "*"}}
_NEW = {"StringLike": {f"aws:RequestTag/{PROJECT_TAG}": "*"}}
_SPOT_ROLE = "arn:aws:iam::*:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"

_LOOK = (
    "DescribeAddresses",
    "DescribeAvailabilityZones",
    "DescribeImages",
    "DescribeInstances",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeKeyPairs",
    "DescribeRegions",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSpotInstanceRequests",
    "DescribeSpotPriceHistory",
    "DescribeSubnets",
    "DescribeVolumes",
    "DescribeVpcs",
)
_MAKE = ("CreateImage", "CreateSecurityGroup", "ImportKeyPair", "RunInstances")
_OWN = (
    "AuthorizeSecurityGroupIngress",
    "CancelSpotInstanceRequests",
    "CreateImage",
    "DeleteKeyPair",
    "DeleteSecurityGroup",
    "DeleteSnapshot",
    "CreateTags",
    "DeleteTags",
    "DeleteVolume",
    "DeregisterImage",
    "GetConsoleOutput",
    "RebootInstances",
    "ReleaseAddress",
    "RevokeSecurityGroupIngress",
    "StartInstances",
    "StopInstances",
    "TerminateInstances",
)


def document(whose: str, inventory: "Inventory") -> dict[str, Any]:
    """The policy of `user` or `box` as IAM reads it, for what the inventory asks for. Raises
    ConfigError for another word."""
    if whose not in _WHOSE:
        raise ConfigError(
            [
                Finding(
                    "--policy",
                    f"there is no policy `{whose}`",
                    "user or box",
                    "`./inv doctor --policy user`",
                )
            ]
        )
    return {"Version": "2012-10-17", "Statement": list(_WHOSE[whose](inventory))}


def _user(inventory: "Inventory") -> Iterator[Statement]:
    entries = [entry for entry in inventory.boxes.values() if isinstance(entry, CloudEntry)]
    yield _statement("Look", [*_ec2(_LOOK), "pricing:GetProducts", "servicequotas:GetServiceQuota"])
    yield _statement(
        "FindTheImage", ["ssm:GetParameter"], [_parameter(name) for name in _parameters(entries)]
    )
    yield from _making()
    yield _statement("OnlyItsOwn", _ec2(_OWN), condition=_ITS_OWN)
    if any(entry.instance_id for entry in entries):
        yield from _adopting()
    yield from _entering(entries)
    if names := sorted({entry.instance_profile for entry in entries if entry.instance_profile}):
        yield _statement(
            "SeeTheProfile",
            ["iam:GetInstanceProfile"],
            [f"arn:aws:iam::*:instance-profile/{name}" for name in names],
        )
        to_boxes = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
        yield _statement(
            "GiveTheBoxItsRole",
            ["iam:PassRole"],
            [f"arn:aws:iam::*:role/{name}" for name in names],
            to_boxes,
        )
    if any(
        "spot" in (entry.market, *(other.market for other in entry.fallbacks)) for entry in entries
    ):
        of_spot = {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}}
        yield _statement("FirstSpotRequest", ["iam:CreateServiceLinkedRole"], _SPOT_ROLE, of_spot)
    if bucket := inventory.storage.bucket:
        actions = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        yield _statement("KeepAndBring", actions, _kept(bucket))
    models = sorted(
        {
            (model.bucket, model.prefix)
            for entry in entries
            for model in base_model.of_entry(entry)
            if model.bucket
        }
    )
    if models:
        yield _statement(
            "BringModels",
            ["s3:GetObject"],
            [f"arn:aws:s3:::{name}/{prefix}*" for name, prefix in models],
        )
    if buckets := sorted({*([bucket] if bucket else []), *(name for name, _ in models)}):
        # No condition on the prefix: HeadBucket tells none, nor does a GetObject that is to say
        # 404, not 403.
        yield _statement("List", ["s3:ListBucket"], [f"arn:aws:s3:::{name}" for name in buckets])


def _making() -> Iterator[Statement]:
    made = ("image", "instance", "key-pair", "security-group", "snapshot", "volume")
    yield _statement("MakeOnlyWithOurTag", _ec2(_MAKE), _of_ec2(*made), _NEW)
    # What a launch is made of or makes without a tag; a rehearsed one names no group of ours and no
    # spot request.
    parts = (
        "image",
        "key-pair",
        "network-interface",
        "security-group",
        "snapshot",
        "spot-instances-request",
        "subnet",
    )
    yield _statement("LaunchFrom", ["ec2:RunInstances"], _of_ec2(*parts))
    yield _statement("MakeGroupsIn", ["ec2:CreateSecurityGroup"], _of_ec2("vpc"))
    # The source is asked about as well as the copy, and bears no tag of the request.
    yield _statement("CopyImages", ["ec2:CopyImage"], _of_ec2("image", "snapshot"))
    made_by = {"StringEquals": {"ec2:CreateAction": ["CopyImage", *_MAKE]}}
    yield _statement("TagWhatIsMade", ["ec2:CreateTags"], condition=_NEW | made_by)


def _adopting() -> Iterator[Statement]:
    """An instance of others becomes ours by the tag, and gets a group of ours beside its owner's,
    which bear none."""
    yield _statement("Adopt", ["ec2:CreateTags"], _of_ec2("instance"), _NEW)
    yield _statement(
        "AdmitToTheAdopted", ["ec2:ModifyInstanceAttribute"], _of_ec2("instance"), _ITS_OWN
    )
    yield _statement("BesideItsGroups", ["ec2:ModifyInstanceAttribute"], _of_ec2("security-group"))


def _entering(entries: "list[CloudEntry]") -> Iterator[Statement]:
    if any(entry.instance_connect for entry in entries):
        yield _statement(
            "AdmitOurKey", ["ec2-instance-connect:SendSSHPublicKey"], _of_ec2("instance"), _ITS_OWN
        )
    if any(entry.reach == "ssm" for entry in entries):
        ours = {"StringLike": {f"ssm:resourceTag/{PROJECT_TAG}": "*"}}
        yield _statement("StartSessions", ["ssm:StartSession"], _of_ec2("instance"), ours)
        yield _statement(
            "SessionsCarrySsh", ["ssm:StartSession"], "arn:aws:ssm:*::document/AWS-StartSSHSession"
        )
        sessions = [f"arn:aws:ssm:*:*:session/${{aws:{who}}}-*" for who in ("userid", "username")]
        yield _statement(
            "KeepSessions",
            ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"],
            sessions,
        )


def _box(inventory: "Inventory") -> Iterator[Statement]:
    if not inventory.storage.bucket:
        what, expected = (
            "no bucket is named, and without one a box needs no right of its own",
            "`storage.bucket` in inventory.yaml",
        )
        raise ConfigError(
            [Finding("--policy box", what, expected, "name the bucket to which boxes shall spill")]
        )
    # What was spilled comes back by addresses that the laptop signs.
    bucket = inventory.storage.bucket
    yield _statement("Spill", ["s3:PutObject"], _kept(bucket))


_WHOSE = {"user": _user, "box": _box}


def _parameters(entries: "list[CloudEntry]") -> list[str]:
    named = {entry.ami for entry in entries if entry.ami and entry.ami.startswith("/")}
    return sorted({DEFAULT_IMAGE, *named})


def _parameter(name: str) -> str:
    """A parameter's ARN: AWS's own belong to no account. The names of the default image change with
    each release of it."""
    if name == DEFAULT_IMAGE:
        return "arn:aws:ssm:*::parameter/aws/service/deeplearning/*"
    return f"arn:aws:ssm:*:{'' if name.startswith('/aws/') else '*'}:parameter{name}"


def _kept(bucket: str) -> list[str]:
    """What jobs leave in the bucket, and the datasets of recipes that want them there."""
    return [f"arn:aws:s3:::{bucket}/{folder}/*" for folder in ("windlass", "datasets")]


def _of_ec2(*kinds: str) -> list[str]:
    """Every resource of these kinds, of this account or (images, snapshots) of none."""
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in kinds]


def _ec2(operations: tuple[str, ...]) -> list[str]:
    return [f"ec2:{operation}" for operation in operations]


def _statement(
    sid: str,
    actions: list[str],
    resource: str | list[str] = "*",
    condition: dict[str, Any] | None = None,
) -> Statement:
    where = resource[0] if len(resource) == 1 else resource
    allowed = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": where}
    return {**allowed, "Condition": condition} if condition else allowed
