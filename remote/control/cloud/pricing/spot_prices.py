"""What spot capacity costs now, and what it cost over the last days, as EC2 tells."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from remote.control.cloud.account import coalesce, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2.offers import Offer
from remote.control.errors import CloudError

DAYS = 7


@dataclass(frozen=True)
class Spot:
    """Dollars an hour of one type in one zone: now, and the extremes over the last `DAYS` days."""

    zone: str
    current: float
    low: float
    high: float
    as_of: str


def history(offer: Offer, there: Endpoint) -> Spot | None:
    """Of the offer's zone; where the cloud chooses, of the zone that is cheapest now. None when it
    is not told."""
    return min(zones(offer, there), key=lambda spot: (spot.current, spot.zone), default=None)


def zones(offer: Offer, there: Endpoint) -> list[Spot]:
    """Every zone that the offer allows and that has a price. Never raises: an empty list when EC2
    cannot be asked."""
    try:
        found = _points(offer.instance_type, offer.zone, there.in_region(offer.region))
    except CloudError:
        return []
    return [
        _spot(zone, [point for point in found if point["AvailabilityZone"] == zone])
        for zone in sorted(_zones(found))
    ]


@coalesce.for_seconds(2)
def _points(instance_type: str, zone: str | None, there: Endpoint) -> list[dict[str, Any]]:
    asked: dict[str, Any] = {"AvailabilityZone": zone} if zone else {}
    since = datetime.now(UTC) - timedelta(days=DAYS)
    with refusals.explained(refusals.Context("", there.region, instance_type, there.regions)):
        pages = there.client("ec2").get_paginator("describe_spot_price_history")
        told = pages.paginate(
            InstanceTypes=[instance_type],
            ProductDescriptions=["Linux/UNIX"],
            StartTime=since,
            **asked,
        )
        return [point for page in told for point in page["SpotPriceHistory"]]


def _zones(points: list[dict[str, Any]]) -> set[str]:
    return {point["AvailabilityZone"] for point in points}


def _spot(zone: str, points: list[dict[str, Any]]) -> Spot:
    newest = max(points, key=lambda point: point["Timestamp"])
    prices = [float(point["SpotPrice"]) for point in points]
    return Spot(
        zone,
        float(newest["SpotPrice"]),
        min(prices),
        max(prices),
        f"{newest['Timestamp']:%Y-%m-%d %H:%M} UTC",
    )
