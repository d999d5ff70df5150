"""The least IAM policies that Windlass works with: one for its user, one for the role of a box that has an instance profile.

`tests/integration/test_policy.py` holds the user's against every call that the commands make, and the box's against what a box asks.
Sources: the Service Authorization Reference of each service, for what can be narrowed to a resource or a tag.
"""

from typing import Any

from remote.control.cloud.identity import PROJECT_TAG
from remote.control.errors import ConfigError, Finding

_ITS_OWN = {"StringLike": {f"aws:ResourceTag/{PROJECT_TAG}": "*"}}
_NEW = {"StringLike": {f"aws:RequestTag/{PROJECT_TAG}": "*"}}
_ROLES = ["arn:aws:iam::*:instance-profile/*", "arn:aws:iam::*:role/*"]
_NO_BUCKET = "YOUR-BUCKET"

LOOK = (
    "DescribeAddresses", "DescribeAvailabilityZones", "DescribeImages", "DescribeInstances", "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes", "DescribeKeyPairs", "DescribeRegions", "DescribeSecurityGroups", "DescribeSnapshots",
    "DescribeSpotInstanceRequests", "DescribeSpotPriceHistory", "DescribeSubnets", "DescribeVolumes", "DescribeVpcs",
)  # fmt: skip
MAKE = ("CopyImage", "CreateImage", "CreateSecurityGroup", "ImportKeyPair", "RunInstances")
OWN = (
    "AuthorizeSecurityGroupIngress", "CancelSpotInstanceRequests", "DeleteKeyPair", "DeleteSecurityGroup", "DeleteSnapshot",
    "DeleteTags", "DeleteVolume", "DeregisterImage", "GetConsoleOutput", "ModifyInstanceAttribute", "RebootInstances", "ReleaseAddress",
    "RevokeSecurityGroupIngress", "StartInstances", "StopInstances", "TerminateInstances",
)  # fmt: skip


def document(whose: str, bucket: str | None) -> dict[str, Any]:
    """The policy of `user` or `box` as IAM reads it. Raises ConfigError for another word."""
    if whose not in _WHOSE:
        raise ConfigError([Finding("--policy", f"there is no policy `{whose}`", "user or box", "`./inv doctor --policy user`")])
    return {"Version": "2012-10-17", "Statement": _WHOSE[whose](bucket or _NO_BUCKET)}


def _user(bucket: str) -> list[dict[str, Any]]:
    return [
        _statement("Look", [*_ec2(LOOK), "pricing:GetProducts", "servicequotas:GetServiceQuota"]),
        _statement("FindTheImage", ["ssm:GetParameter"], "arn:aws:ssm:*::parameter/aws/service/*"),
        _statement("Make", _ec2(MAKE)),
        _statement("TagWhatIsMade", ["ec2:CreateTags"], condition=_NEW),
        _statement("OnlyItsOwn", _ec2(OWN), condition=_ITS_OWN),
        # An adopted instance gets a group of ours beside its owner's, which bear no tag of ours.
        _statement("AdmitToTheAdopted", ["ec2:ModifyInstanceAttribute"], "arn:aws:ec2:*:*:security-group/*"),
        _statement("EnterItsOwn", ["ec2-instance-connect:SendSSHPublicKey", "ssm:StartSession"], condition=_ITS_OWN),
        _statement("GiveTheBoxItsRole", ["iam:GetInstanceProfile", "iam:PassRole"], _ROLES),
        *_bucket(bucket),
    ]


def _box(bucket: str) -> list[dict[str, Any]]:
    return _bucket(bucket)


def _bucket(bucket: str) -> list[dict[str, Any]]:
    objects = f"arn:aws:s3:::{bucket}/windlass/*"
    return [
        _statement("Spill", ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], objects),
        _statement("List", ["s3:ListBucket"], f"arn:aws:s3:::{bucket}"),
    ]


_WHOSE = {"user": _user, "box": _box}


def _ec2(operations: tuple[str, ...]) -> list[str]:
    return [f"ec2:{operation}" for operation in operations]


def _statement(sid: str, actions: list[str], resource: str | list[str] = "*", condition: dict[str, Any] | None = None) -> dict[str, Any]:
    allowed = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": resource}
    return {**allowed, "Condition": condition} if condition else allowed
