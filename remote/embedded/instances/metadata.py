"""The instance metadata service of a box, version 2 alone: a session token first, then the
facts."""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from remote.embedded.cloud.faults import Fault

BOX_KEY = "ASIA"
"""How the access keys of boxes begin: those of roles do, on AWS too."""


def answer(
    method: str, path: str, headers: Mapping[str, str], facts: Mapping[str, str], tokens: set[str]
) -> tuple[int, str]:
    """HTTP status and text for one request. `path` begins with `latest/`; `facts` maps paths below
    it to values.

    `headers` have names in lower case; `tokens` are those handed out so far, and are added to.
    """
    if path == "latest/api/token":
        return _token(method, headers, tokens)
    if headers.get("x-aws-ec2-metadata-token") not in tokens:
        return 401, ""
    wanted = path.removeprefix("latest/")
    if wanted in facts:
        return 200, facts[wanted]
    below = sorted(
        {
            _entry(name, wanted.rstrip("/") + "/")
            for name in facts
            if name.startswith(wanted.rstrip("/") + "/")
        }
    )
    return (200, "\n".join(below)) if below else (404, "")


def credentials_of(profile: object, seconds: float = 6 * 3600) -> dict[str, str]:
    """What the service tells about an instance profile (moto's): its role, and credentials of that
    role which expire."""
    now = datetime.now(UTC)
    name = profile.roles[0].name if profile.roles else profile.name  # type: ignore[attr-defined]
    mark = hashlib.sha256(profile.arn.encode()).hexdigest().upper()  # type: ignore[attr-defined]
    document = {
        **{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}"},
        **{
            "AccessKeyId": f"{BOX_KEY}{mark[:16]}",
            "SecretAccessKey": mark[16:56],
            "Token": secrets.token_urlsafe(200),
        },
        "Expiration": f"{now + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}",
    }
    told = {
        "Code": "Success",
        "LastUpdated": document["LastUpdated"],
        "InstanceProfileArn": profile.arn,  # type: ignore[attr-defined]
    }
    return {
        "meta-data/iam/info": json.dumps(told),
        f"meta-data/iam/security-credentials/{name}": json.dumps(document, indent=1),
    }


def notices_of(faults: Iterable[Fault]) -> dict[str, str]:
    """What the service tells of the spot market's plans for an instance."""
    told = {}
    for fault in faults:
        if fault.kind == "rebalance":
            told["meta-data/events/recommendations/rebalance"] = json.dumps(
                {"noticeTime": _moment(fault.at)}
            )
        else:
            told["meta-data/spot/termination-time"] = _moment(fault.at + fault.seconds)
            told["meta-data/spot/instance-action"] = json.dumps(
                {"action": "terminate", "time": _moment(fault.at + fault.seconds)}
            )
    return told


def facts_of(
    instance: object, user_data: str, public_key: str, key_name: str | None
) -> dict[str, str]:
    """What the service tells about one EC2 instance, by path."""
    of = vars(instance)
    zone = instance.placement.zone  # type: ignore[attr-defined]
    private_ip = instance.private_ip  # type: ignore[attr-defined]
    document = {
        **{
            "instanceId": of["id"],
            "instanceType": of["instance_type"],
            "imageId": of["image_id"],
            "region": of["region_name"],
        },
        **{
            "availabilityZone": zone,
            "accountId": of["owner_id"],
            "privateIp": private_ip,
            "architecture": of["architecture"],
        },
        "pendingTime": f"{of['launch_time']:%Y-%m-%dT%H:%M:%SZ}",
    }
    keys = (
        {
            "meta-data/public-keys/0/openssh-key": public_key,
            "meta-data/public-keys/": f"0={key_name}",
        }
        if key_name
        else {}
    )
    return {
        "meta-data/instance-id": of["id"],
        "meta-data/instance-type": of["instance_type"],
        "meta-data/ami-id": of["image_id"],
        "meta-data/instance-life-cycle": of["lifecycle"] or "on-demand",
        "meta-data/local-ipv4": private_ip,
        "meta-data/placement/availability-zone": zone,
        "meta-data/placement/region": of["region_name"],
        "meta-data/security-groups": "\n".join(group.name for group in of["security_groups"]),
        "dynamic/instance-identity/document": json.dumps(document, indent=1),
        **({"user-data": user_data} if user_data else {}),
        **keys,
    }


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _token(method: str, headers: Mapping[str, str], tokens: set[str]) -> tuple[int, str]:
    seconds = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
    if method != "PUT" or not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
        return 400, ""
    token = secrets.token_urlsafe(40)
    tokens.add(token)
    return 200, token


def _entry(name: str, folder: str) -> str:
    head, slash, _ = name.removeprefix(folder).partition("/")
    return head + slash
