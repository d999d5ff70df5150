"""What a launch would cost, before it does: the offers side by side, the moment it stops, the worst
case in dollars."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from remote.control.cloud.account import coalesce, quotas, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2 import instances, request
from remote.control.cloud.ec2.offers import Offer, offers_of
from remote.control.cloud.pricing import prices, spot_prices
from remote.control.cloud.pricing.prices import Price
from remote.control.errors import CloudError
from remote.control.output.sanitize import counted
from remote.control.project import identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

COLUMNS = (
    "offer",
    "$/h compute",
    "$/h disk",
    "$/h address",
    "$/h in all",
    "spot, 7 days",
    "vCPUs",
    "note",
)


@dataclass(frozen=True)
class Line:
    """One offer with its price. `spot_low` and `spot_high` are the extremes of a week; `room` is
    None where it cannot be told."""

    offer: Offer
    price: Price
    spot_low: float | None
    spot_high: float | None
    room: quotas.Room | None
    note: str = ""


@dataclass(frozen=True)
class Worst:
    """The most that one start can cost: dollars (None where the price is not known), the moment at
    which the clock `by` (`lifetime` or `dollars`) stops the box, UTC, and whether it then is gone,
    disk and all."""

    usd: float | None
    stops_at: datetime
    by: str


def compare(entry: "CloudEntry", there: Endpoint) -> list[Line]:
    """Every offer of an entry, in the order in which they are tried. Only reads; what cannot be
    asked is left out, and noted."""
    return instances.map_concurrently(lambda offer: _line(offer, entry, there), offers_of(entry))


def worst_case(entry: "CloudEntry", price: Price, now: datetime) -> Worst:
    """The most that a start at `now` can cost: until its clock and a whole grace have run out, spot
    at its highest."""
    clocks = entry.clocks
    seconds, by, hourly = clocks.lifetime, "lifetime", price.running_hourly
    if hourly and clocks.dollars / hourly * 3600 < seconds:
        seconds, by = clocks.dollars / hourly * 3600, "dollars"
    usd = (
        None if hourly is None else (hourly + _rise(entry, price)) * (seconds + clocks.grace) / 3600
    )
    return Worst(usd, now + timedelta(seconds=seconds), by)


def table(lines: Sequence[Line]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Heads and rows; the first row is what would be tried first."""
    return COLUMNS, [_row(line) for line in lines]


def record(line: Line) -> dict[str, Any]:
    """A line as JSON. Dollars an hour."""
    price, room = line.price, line.room
    return {
        "region": line.offer.region,
        "zone": line.offer.zone,
        "instance_type": line.offer.instance_type,
        "market": line.offer.market,
        "compute_usd_per_hour": price.compute_hourly,
        "disk_usd_per_hour": price.disk_hourly,
        "address_usd_per_hour": price.address_hourly,
        "source": price.source,
        "as_of": price.as_of,
        "spot_low": line.spot_low,
        "spot_high": line.spot_high,
        "note": line.note,
        "quota": {**vars(room), "lacks": room.lacks} if room else None,
    }


def sentences(entry: "CloudEntry", line: Line, worst: Worst, is_billed: bool = True) -> list[str]:
    """What a person should know before saying yes."""
    price = line.price
    most = "the worst case is not known, as the price is not"
    if worst.usd is not None:
        most = f"worst case ${worst.usd:.2f}"
    told = [
        f"at the latest it stops at {worst.stops_at:%Y-%m-%d %H:%M} UTC, by its clock"
        f" `{worst.by}`; {most}",
        _afterwards(entry, line, price),
        f"prices: {price.source}, {price.as_of}; list prices without tax, discounts and transfer",
    ]
    if line.room and line.room.lacks:
        told.append(
            f"quota {line.room.code} lacks {counted(line.room.lacks, 'vCPU')} ({line.room}):"
            f" {line.room.request_command}"
        )
    return (
        told
        if is_billed
        else [*told, "the embedded cloud bills nothing: these are the prices that AWS would ask"]
    )


def span(length: timedelta) -> str:
    """A length of time as a person reads it."""
    seconds = length.total_seconds()
    if seconds < 5400:
        return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"


def permitted(entry: "CloudEntry", there: Endpoint) -> str | None:
    """None when EC2 would let these credentials launch the box; else its refusal in words. Starts
    nothing (EC2's DryRun)."""
    from botocore.exceptions import ClientError

    offer = offers_of(entry)[0]
    with refusals.explained(
        refusals.Context(entry.name, there.region, entry.instance_type, there.regions)
    ):
        image = request.image(
            entry,
            there,
            refusals.Context(entry.name, there.region, entry.instance_type, there.regions),
        )
        try:
            there.client("ec2").run_instances(
                **_rehearsed(entry, offer, image["ImageId"]), DryRun=True
            )
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            return None if code == "DryRunOperation" else f"{code}: {message}"
    return None


def _rehearsed(entry: "CloudEntry", offer: Offer, image_id: str) -> dict[str, Any]:
    """What of a launch needs a permission of its own: the tags, the spot request, the role."""
    tags = [
        {"Key": key, "Value": value} for key, value in identity.tags(entry.name, entry.tags).items()
    ]
    return {
        "ImageId": image_id,
        "InstanceType": offer.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")
        ],
        **({"InstanceMarketOptions": {"MarketType": "spot"}} if offer.market == "spot" else {}),
        **(
            {"IamInstanceProfile": {"Name": entry.instance_profile}}
            if entry.instance_profile
            else {}
        ),
    }


def _line(offer: Offer, entry: "CloudEntry", there: Endpoint) -> Line:
    price = prices.of_offer(offer, entry.disk_gb, there, entry.reach == "public")
    room, spot = quotas.room(offer, there), spot_prices.history(offer, there)
    notes = [
        f"quota {room.code} lacks {counted(room.lacks, 'vCPU')}" if room and room.lacks else "",
        "" if room else "the quota cannot be told",
        "" if price.compute_hourly is not None else "the price is not known",
        _refused(offer, entry, price),
        _not_offered(offer, there.in_region(offer.region)),
    ]
    return Line(
        offer,
        price,
        spot.low if spot else None,
        spot.high if spot else None,
        room,
        "; ".join(filter(None, notes)),
    )


def _refused(offer: Offer, entry: "CloudEntry", price: Price) -> str:
    most = entry.max_spot_usd
    is_above = (
        offer.market == "spot"
        and most
        and price.compute_hourly is not None
        and price.compute_hourly > most
    )
    return f"above `max_spot_usd`, ${most:g}: it would be refused" if is_above else ""


def _not_offered(offer: Offer, there: Endpoint) -> str:
    try:
        zones = _zones(offer.instance_type, there)
    except CloudError:
        return ""
    if not zones:
        return f"{offer.instance_type} is not offered in {offer.region}"
    if not offer.zone or offer.zone in zones:
        return ""
    letters = " ".join(zone.removeprefix(offer.region) for zone in sorted(zones))
    return f"not offered in {offer.zone}, but in zones {letters}"


@coalesce.for_seconds(60)
def _zones(instance_type: str, there: Endpoint) -> frozenset[str]:
    asked = [{"Name": "instance-type", "Values": [instance_type]}]
    with refusals.explained(refusals.Context("", there.region, instance_type, there.regions)):
        pages = there.client("ec2").get_paginator("describe_instance_type_offerings")
        told = pages.paginate(LocationType="availability-zone", Filters=asked)
        return frozenset(
            each["Location"] for page in told for each in page["InstanceTypeOfferings"]
        )


def _rise(entry: "CloudEntry", price: Price) -> float:
    """By how much an hour of spot may still become dearer."""
    ceiling = min((usd for usd in (price.ceiling_hourly, entry.max_spot_usd) if usd), default=0.0)
    return max(0.0, ceiling - (price.compute_hourly or 0.0)) if price.ceiling_hourly else 0.0


def _row(line: Line) -> list[str]:
    price = line.price
    spot = "" if line.spot_low is None else f"{line.spot_low:.3f} - {line.spot_high:.3f}"
    dollars = (price.compute_hourly, price.disk_hourly, price.address_hourly, price.running_hourly)
    return [
        str(line.offer),
        *("?" if usd is None else f"{usd:.3f}" for usd in dollars),
        spot,
        str(line.room or "?"),
        line.note,
    ]


def _afterwards(entry: "CloudEntry", line: Line, price: Price) -> str:
    if line.offer.market == "spot":
        return (
            "a spot box is terminated when it stops: its disk goes with it, after what is finished"
            " was spilled to the bucket"
        )
    after = span(timedelta(seconds=entry.clocks.stopped))
    return (
        f"stopped, its disk goes on costing ${price.disk_monthly:.2f} a month; after {after}"
        " stopped `./inv reap` terminates it"
    )
