"""How many vCPUs the account may have, how many it uses, and whether a box fits in between:
on-demand and spot apart.

AWS counts vCPUs by family of instance types, in each region for itself. Spot counts requests that
are open or running.
"""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from remote.control.cloud.account import coalesce, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2.offers import Offer
from remote.control.config import machines
from remote.control.errors import CloudError


@dataclass(frozen=True)
class Quota:
    """One quota: its code in the service `ec2`, and its name there."""

    code: str
    name: str


_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"

ON_DEMAND = {
    "standard": Quota("L-1216C47A", f"Running On-Demand {_STANDARD} instances"),
    "g": Quota("L-DB2E81BA", "Running On-Demand G and VT instances"),
    "p": Quota("L-417A185B", "Running On-Demand P instances"),
    "p5": Quota("L-417A185B", "Running On-Demand P instances"),
    "x": Quota("L-7295265B", "Running On-Demand X instances"),
    "f": Quota("L-74FC7D96", "Running On-Demand F instances"),
    "inf": Quota("L-1945791B", "Running On-Demand Inf instances"),
    "trn": Quota("L-2C3B7624", "Running On-Demand Trn instances"),
    "dl": Quota("L-6E869C2A", "Running On-Demand DL instances"),
    "hpc": Quota("L-F7808C92", "Running On-Demand HPC instances"),
    "u": Quota("L-43DA4232", "Running On-Demand High Memory instances"),
}
SPOT = {
    "standard": Quota("L-34B43A08", f"All {_STANDARD} Spot Instance Requests"),
    "g": Quota("L-3819A6DF", "All G and VT Spot Instance Requests"),
    "p": Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
    "p5": Quota("L-C4BD4855", "All P5 Spot Instance Requests"),
    "x": Quota("L-E3A00192", "All X Spot Instance Requests"),
    "f": Quota("L-88CF9481", "All F Spot Instance Requests"),
    "inf": Quota("L-B5D1601B", "All Inf Spot Instance Requests"),
    "trn": Quota("L-6B0D517C", "All Trn Spot Instance Requests"),
    "dl": Quota("L-85EED4F7", "All DL Spot Instance Requests"),
}

_NO_VCPUS = ("VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "InstanceLimitExceeded")


@dataclass(frozen=True)
class Room:
    """One quota against one more box. All in vCPUs; `market` is on-demand or spot."""

    code: str
    name: str
    applied: int
    used: int
    needed: int
    market: str
    region: str = ""

    @property
    def left(self) -> int:
        """What the account may still start."""
        return max(0, self.applied - self.used)

    @property
    def lacks(self) -> int:
        """How many vCPUs are missing for the box; 0 when it fits."""
        return max(0, self.needed - self.left)

    @property
    def request_command(self) -> str:
        """The command that asks AWS for enough."""
        return (
            f"aws service-quotas request-service-quota-increase --region {self.region}"
            f" --service-code ec2 --quota-code {self.code} --desired-value"
            f" {self.used + self.needed}"
        )

    def __str__(self) -> str:
        return f"{self.needed} vCPUs of {self.applied} ({self.used} in use)"


def family(instance_type: str) -> str:
    """The family of an instance type, as the quotas count it: a key of `ON_DEMAND`."""
    letters, generation = re.match(r"([a-z]*)-?(\d*)", instance_type).groups()  # type: ignore[union-attr]
    if letters == "p":
        return "p5" if int(generation or 0) >= 5 else "p"
    return {"vt": "g", "gr": "g"}.get(letters, letters if letters in ON_DEMAND else "standard")


def quota_of(instance_type: str, market: str) -> Quota | None:
    """The quota that counts a type in a market; None where there is none (spot of some types)."""
    return (SPOT if market == "spot" else ON_DEMAND).get(family(instance_type))


def room(offer: Offer, there: Endpoint) -> Room | None:
    """The quota behind an offer, what is used of it, what a box needs; None when it cannot be told
    (no permission, unknown type)."""
    try:
        return _room(offer.instance_type, offer.market, there.in_region(offer.region))
    except CloudError:
        return None


def spell(
    error: CloudError, box_name: str, instance_type: str, market: str, there: Endpoint
) -> None:
    """Put the command that asks for enough into a refusal for want of vCPUs, where it can be told
    what is in use."""
    if error.code not in _NO_VCPUS:
        return
    with contextlib.suppress(CloudError):
        found = _room(instance_type, market, there)
        if found and found.lacks:
            error.remedy = (
                f"ask for more: `{found.request_command}` ({found}), then `./inv launch"
                f" {box_name}`; see docs/aws.md"
            )


@coalesce.for_seconds(2)
def _room(instance_type: str, market: str, there: Endpoint) -> Room | None:
    quota = quota_of(instance_type, market)
    if quota is None:
        return None
    with refusals.explained(refusals.Context("", there.region, instance_type, there.regions)):
        ec2 = there.client("ec2")
        applied = _applied(there.client("service-quotas"), quota.code)
        counted = [kind for kind in _types_in_use(ec2, market) if quota_of(kind, market) == quota]
        sizes = vcpus({instance_type, *counted}, ec2)
    used = sum(sizes.get(kind, 0) for kind in counted)
    return (
        Room(quota.code, quota.name, applied, used, sizes[instance_type], market, there.region)
        if instance_type in sizes
        else None
    )


def vcpus(types: set[str], ec2: Any) -> dict[str, int]:
    """How many vCPUs each type has: by our own table, and by the cloud's for those that it does not
    hold."""
    known = {kind: machine.vcpus for kind in types if (machine := machines.machine(kind))}
    if unknown := sorted(types - set(known)):
        pages = ec2.get_paginator("describe_instance_types").paginate(InstanceTypes=unknown)
        known |= {
            told["InstanceType"]: told["VCpuInfo"]["DefaultVCpus"]
            for page in pages
            for told in page["InstanceTypes"]
        }
    return known


def _applied(client: Any, code: str) -> int:
    return int(client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])


def _types_in_use(ec2: Any, market: str) -> list[str]:
    """The type of each instance of the account that counts, whoever made it."""
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    instances = [
        instance
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]
    return [
        each["InstanceType"]
        for each in instances
        if (each.get("InstanceLifecycle") == "spot") == (market == "spot")
    ]
