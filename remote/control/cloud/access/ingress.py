"""The security group of a box: port 22 for the caller's address alone, healed when that address
changes."""

import ipaddress
from typing import Any

from remote.control.cloud.provider import Progress

_RULE = "windlass: the caller"


def ensure_group(ec2: Any, name: str, vpc_id: str, tags: dict[str, str]) -> str:
    """The id of the group of that name in the VPC, made where it is missing."""
    from botocore.exceptions import ClientError

    if found := find_group(ec2, name, vpc_id):
        return found
    specification = [
        {
            "ResourceType": "security-group",
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
    ]
    about = "Windlass: SSH from its caller"
    try:
        made = ec2.create_security_group(
            GroupName=name, Description=about, VpcId=vpc_id, TagSpecifications=specification
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidGroup.Duplicate" and (
            found := find_group(ec2, name, vpc_id)
        ):
            return found
        raise
    return str(made["GroupId"])


def find_group(ec2: Any, name: str, vpc_id: str) -> str | None:
    """The id of the group of that name in the VPC."""
    return next(
        (str(group["GroupId"]) for group in _named(ec2, name) if group["VpcId"] == vpc_id), None
    )


def remove_groups(ec2: Any, name: str) -> bool:
    """Delete the groups of that name in all VPCs; returns False while an instance still holds
    one."""
    from botocore.exceptions import ClientError

    for group in _named(ec2, name):
        try:
            ec2.delete_security_group(GroupId=group["GroupId"])
        except ClientError as error:
            if error.response["Error"]["Code"] != "DependencyViolation":
                raise
            return False
    return True


def admit(ec2: Any, group_id: str, cidr: str | None, on_progress: Progress) -> None:
    """Let `cidr` (or nobody) reach port 22, and take back what an earlier address was given. Rules
    made by others stay."""
    ours = _callers(ec2, group_id)
    if cidr is not None and cidr not in ours:
        _authorize(ec2, group_id, cidr)
        on_progress(
            f"port 22 opened for {cidr}" + (f", closed for {', '.join(ours)}" if ours else "")
        )
    if stale := [other for other in ours if other != cidr]:
        ec2.revoke_security_group_ingress(
            GroupId=group_id, IpPermissions=[_permission(other) for other in stale]
        )


def lets_in(ec2: Any, group_ids: list[str], cidr: str) -> bool:
    """Whether any of the groups lets that address reach port 22."""
    if not group_ids:
        return False
    caller = ipaddress.ip_network(cidr)
    rules = [
        rule
        for group in ec2.describe_security_groups(GroupIds=group_ids)["SecurityGroups"]
        for rule in group["IpPermissions"]
    ]
    open_to = [
        each["CidrIp"] for rule in rules if _covers_ssh(rule) for each in rule.get("IpRanges", ())
    ]
    return any(caller.subnet_of(ipaddress.ip_network(each, strict=False)) for each in open_to)  # type: ignore[arg-type]


def _covers_ssh(rule: dict[str, Any]) -> bool:
    is_all = rule["IpProtocol"] == "-1"
    return bool(
        is_all
        or (
            rule["IpProtocol"] == "tcp"
            and rule.get("FromPort", 0) <= 22 <= rule.get("ToPort", 65535)
        )
    )


def _named(ec2: Any, name: str) -> list[dict[str, Any]]:
    answer = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])
    return list(answer["SecurityGroups"])


def _callers(ec2: Any, group_id: str) -> list[str]:
    group = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
    ssh = [permission for permission in group["IpPermissions"] if permission.get("FromPort") == 22]
    return [
        each["CidrIp"]
        for permission in ssh
        for each in permission.get("IpRanges", ())
        if each.get("Description") == _RULE
    ]


def _authorize(ec2: Any, group_id: str, cidr: str) -> None:
    from botocore.exceptions import ClientError

    try:
        ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[_permission(cidr)])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidPermission.Duplicate":
            raise


def _permission(cidr: str) -> dict[str, Any]:
    return {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": cidr, "Description": _RULE}],
    }
