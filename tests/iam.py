"""IAM as far as the tests need it: what a request demands of a policy, resource by resource, and
whether a policy allows that.

Source: the Service Authorization Reference of EC2, S3, Systems Manager, EC2 Instance Connect and
IAM. Identifiers of what is yet to be made are a star, as nobody knows them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

ACCOUNT = "123456789012"
_KINDS = {
    "i": "instance",
    "vol": "volume",
    "sg": "security-group",
    "snap": "snapshot",
    "ami": "image",
    "eipalloc": "elastic-ip",
    "sir": "spot-instances-request",
    "subnet": "subnet",
    "vpc": "vpc",
    "key": "key-pair",
}
_OF_NO_ACCOUNT = ("image", "snapshot")
_IDS = (
    "InstanceId",
    "InstanceIds",
    "GroupId",
    "SnapshotId",
    "VolumeId",
    "ImageId",
    "AllocationId",
    "SpotInstanceRequestIds",
)
_S3 = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
}
_SERVICES = {"service-quotas": "servicequotas"}

Tags = dict[str, str]
TagsOf = Callable[[str], Tags]
"""The tags that the resource with an id bears, or the key pair with a name."""


@dataclass(frozen=True)
class Demand:
    """One question to a policy: may this be done to that, in this context?"""

    action: str
    resource: str = "*"
    context: Tags = field(default_factory=dict)


def action_of(service: str, operation: str) -> str | None:
    """IAM's name of an operation of the API; None for one that needs no permission."""
    if service == "sts":
        return None
    return f"{_SERVICES.get(service, service)}:{_S3.get(operation, operation) if service == 's3' else operation}"


def allows(policy: dict, demand: Demand) -> bool:
    """Whether any statement of a policy (they all allow) grants what is demanded."""
    return bool(granting(policy, demand))


def granting(policy: dict, demand: Demand) -> list[str]:
    """The statements, by their ids, each of which grants what is demanded."""
    return [statement["Sid"] for statement in policy["Statement"] if _grants(statement, demand)]


def actions_of(policy: dict) -> set[str]:
    """Every action that a policy names."""
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def demands(
    service: str, operation: str, asked: dict, region: str, tags_of: TagsOf
) -> Iterator[Demand]:
    """All that one request is asked about."""
    action = action_of(service, operation)
    if action is None:
        return
    if service == "ec2":
        yield from _of_ec2(operation, asked, region, tags_of)
    elif service == "s3":
        for key in _keys(asked):
            yield Demand(action, f"arn:aws:s3:::{asked['Bucket']}{key}")
    elif service == "ssm":
        yield from _of_ssm(action, asked, region, tags_of)
    elif service == "ec2-instance-connect":
        yield Demand(
            action,
            _arn("instance", asked["InstanceId"], region),
            _borne(tags_of(asked["InstanceId"])),
        )
    elif service == "iam":
        yield Demand(
            action, f"arn:aws:iam::{ACCOUNT}:instance-profile/{asked['InstanceProfileName']}"
        )
    else:
        yield Demand(action)


def _grants(statement: dict, demand: Demand) -> bool:
    resources = (
        statement["Resource"]
        if isinstance(statement["Resource"], list)
        else [statement["Resource"]]
    )
    return (
        demand.action in statement["Action"]
        and any(_is_like(demand.resource, pattern) for pattern in resources)
        and all(
            demand.context.get(key) is not None and _fits(operator, demand.context[key], wanted)
            for operator, conditions in statement.get("Condition", {}).items()
            for key, wanted in conditions.items()
        )
    )


def _is_like(text: str, pattern: str) -> bool:
    """A star of the text stands for any id, and only fits a star."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _fits(operator: str, value: str, wanted: str | list[str]) -> bool:
    choices = wanted if isinstance(wanted, list) else [wanted]
    return {
        "StringEquals": value in choices,
        "StringLike": any(_is_like(value, each) for each in choices),
    }[operator]


def _of_ec2(operation: str, asked: dict, region: str, tags_of: TagsOf) -> Iterator[Demand]:
    action = f"ec2:{operation}"
    if operation.startswith("Describe"):
        yield Demand(action)
        return
    new = {
        each["ResourceType"]: _requested(each["Tags"])
        for each in asked.get("TagSpecifications", ())
    }
    for kind, context in new.items():
        yield Demand(
            "ec2:CreateTags", _arn(kind, "*", region), {**context, "ec2:CreateAction": operation}
        )
    spot = ("spot-instances-request",) if "InstanceMarketOptions" in asked else ()
    made = {
        "RunInstances": ("instance", "network-interface", "volume", *spot),
        "CreateImage": ("image", "snapshot"),
        "CopyImage": ("image", "snapshot"),
        "CreateSecurityGroup": ("security-group",),
        "ImportKeyPair": ("key-pair",),
    }.get(operation, ())
    for kind in made:
        yield Demand(action, _arn(kind, "*", region), new.get(kind, {}))
    requested = _requested(asked["Tags"]) if operation == "CreateTags" else {}
    for name in _touched(operation, asked):
        yield Demand(
            action, _arn(_kind(name), name, region), {**_borne(tags_of(name)), **requested}
        )
    if profile := asked.get("IamInstanceProfile"):
        role = f"arn:aws:iam::{ACCOUNT}:role/{profile['Name']}"
        yield Demand("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})


def _touched(operation: str, asked: dict) -> Iterator[str]:
    """The ids of what a request names and that is there already. What a launch does not name it
    takes from the default VPC."""
    if operation == "RunInstances":
        yield from (
            asked["ImageId"],
            asked.get("SubnetId", "subnet-default"),
            *asked.get("SecurityGroupIds", ["sg-default"]),
        )
        yield from ("snap-of-the-image", *([asked["KeyName"]] if "KeyName" in asked else []))
        return
    given = [asked.get(name) for name in (*_IDS, "VpcId", "SourceImageId", "Groups", "Resources")]
    yield from (each for one in given if one for each in ([one] if isinstance(one, str) else one))
    if operation == "DeleteKeyPair":
        yield asked["KeyName"]


def _of_ssm(action: str, asked: dict, region: str, tags_of: TagsOf) -> Iterator[Demand]:
    if "Target" in asked:
        tags = {f"ssm:resourceTag/{key}": value for key, value in tags_of(asked["Target"]).items()}
        yield Demand(action, _arn("instance", asked["Target"], region), tags)
        yield Demand(action, f"arn:aws:ssm:{region}::document/{asked['DocumentName']}")
    else:
        owner = "" if asked["Name"].startswith("/aws/") else ACCOUNT
        yield Demand(action, f"arn:aws:ssm:{region}:{owner}:parameter{asked['Name']}")


def _keys(asked: dict) -> list[str]:
    if "Delete" in asked:
        return [f"/{each['Key']}" for each in asked["Delete"]["Objects"]]
    return [f"/{asked['Key']}" if "Key" in asked else ""]


def _kind(name: str) -> str:
    return _KINDS.get(name.partition("-")[0], "key-pair")


def _arn(kind: str, name: str, region: str) -> str:
    return f"arn:aws:ec2:{region}:{'' if kind in _OF_NO_ACCOUNT else ACCOUNT}:{kind}/{name}"


def _borne(tags: Tags) -> Tags:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


def _requested(tags: list[Tags]) -> Tags:
    return {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
