"""What came of asking for a box: each attempt with its category, and what would fix it."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from remote.control.cloud.ec2.offers import Offer
from remote.control.errors import (
    CapacityError,
    CloudError,
    CredentialsMissing,
    PermissionDenied,
    QuotaError,
    RegionError,
)
from remote.control.output.sanitize import counted

Category = Literal[
    "capacity", "quota", "price", "network", "permission", "configuration", "cloud", "ok"
]
"""`cloud`: it did not answer, or asks for fewer requests: nothing is wrong with what was asked
for."""

MOVES_ON = ("capacity", "price", "network")
"""With these the next offer is tried. The others would meet every offer, or need a person: they end
the walk."""

_NETWORK_CODES = (
    "InsufficientFreeAddressesInSubnet",
    "VPCIdNotSpecified",
    "DefaultVpcDoesNotExist",
    "MissingInput",
)
"""A zone or a region has no room in its network, or none at all: another one may."""

_CLOUD_CODES = (
    "RequestLimitExceeded",
    "EC2ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "InternalError",
    "InternalFailure",
    "ServiceUnavailable",
    "Unavailable",
    "",
)


@dataclass(frozen=True)
class Attempt:
    """One request for an offer. `at` is seconds since the epoch, UTC; `code` is the cloud's own
    word; `remedy` is for people."""

    offer: Offer
    category: Category
    code: str = ""
    why: str = ""
    remedy: str = ""
    at: float = field(default_factory=time.time)

    def __str__(self) -> str:
        if self.category == "ok":
            return f"{self.offer}: launched"
        return f"{self.offer}: {self.category} ({self.code or 'no answer'})"

    def facts(self) -> dict[str, Any]:
        """The attempt for the history."""
        return {**asdict(self), "offer": str(self.offer), "region": self.offer.region}


def of_error(offer: Offer, error: CloudError) -> Attempt:
    """The attempt that ended with that error."""
    return Attempt(offer, category_of(error), error.code, error.why or error.what, error.remedy)


def category_of(error: CloudError) -> Category:
    """What kind of refusal an error is."""
    if error.code == "SpotMaxPriceTooLow":
        return "price"
    if error.code in _NETWORK_CODES:
        return "network"
    kinds: tuple[tuple[type[CloudError], Category], ...] = (
        (CapacityError, "capacity"),
        (QuotaError, "quota"),
        (PermissionDenied, "permission"),
        (CredentialsMissing, "permission"),
        (RegionError, "configuration"),
    )
    found = next((category for kind, category in kinds if isinstance(error, kind)), None)
    return found or ("cloud" if error.code in _CLOUD_CODES else "configuration")


def exhausted(name: str, tried: list[Attempt], last: CloudError) -> CloudError:
    """The error after a walk: the last refusal's own, which names the others too."""
    if len(tried) == 1:
        return last
    is_out = tried[-1].category in MOVES_ON
    lacks_room = any(attempt.category in ("capacity", "price") for attempt in tried)
    what = (
        f"none of the {counted(len(tried), 'offer')} for box {name} can be had just now"
        if is_out
        else last.what
    )
    fixes = [
        f"`./inv launch {name} --wait 30m` tries again and again for so long; or add to"
        f" `fallbacks:` of {name} in inventory.yaml"
    ] * lacks_room
    fixes += dict.fromkeys(attempt.remedy for attempt in tried if attempt.category == "network")
    error = (CapacityError if is_out and lacks_room else type(last))(
        what,
        where=f"box {name}" if is_out else last.where,
        why="\n       ".join([*(f"{attempt}: {attempt.why}" for attempt in tried)]),
        remedy="\n       or ".join(fixes) if is_out else last.remedy,
        kept="nothing was made",
    )
    error.code = last.code
    return error
