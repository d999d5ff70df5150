"""What a box costs: from AWS's Price List, kept for a day, and from a dated table in the repository
where that cannot be asked.

List prices, on-demand, Linux, shared tenancy, US dollars; no taxes, discounts, credits or transfer.
Enough to know the order of a bill before it is made; never an invoice. Billing is by the second.
`price_table.json` says where its own figures come from.
"""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, untrusted_json
from remote.control import project
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.pricing import spot_prices
from remote.control.errors import CloudError

HOURS_PER_MONTH = 730

_PRICE_LIST_REGION = "us-east-1"
_FRESH = timedelta(days=1)
_LOCK = threading.Lock()
_NOT_AGAIN_SECONDS = 60.0
_FAILED: dict[Endpoint, tuple[float, CloudError]] = {}


@dataclass(frozen=True)
class Price:
    """Dollars an hour. `compute_hourly` is None where nobody knows it; the disk is paid while the
    box is stopped too, the public address only while it runs. `source` says who told (`Price List`,
    `spot price`, `table`), `as_of` when. A spot price moves: it never exceeds `ceiling_hourly`, the
    on-demand price."""

    compute_hourly: float | None
    disk_hourly: float
    address_hourly: float
    source: str
    as_of: str
    ceiling_hourly: float | None = None

    @property
    def running_hourly(self) -> float | None:
        """Everything that an hour costs while the box runs."""
        return (
            None
            if self.compute_hourly is None
            else self.compute_hourly + self.disk_hourly + self.address_hourly
        )

    @property
    def disk_monthly(self) -> float:
        """The disk for a month, whether the box runs or not."""
        return self.disk_hourly * HOURS_PER_MONTH


@dataclass(frozen=True)
class Quote:
    """One list price: dollars by the unit in which it is sold (an hour, or a GB for a month), who
    told it, and when."""

    usd: float | None
    source: str
    as_of: str


def of_offer(offer: Offer, disk_gb: int, there: Endpoint, has_address: bool = True) -> Price:
    """What a box of that offer costs. Never raises: what cannot be asked comes from the table, and
    `source` says so."""
    compute = quote(f"compute {offer.instance_type}", offer.region, there)
    disk = disk_gb * (quote("disk gp3", offer.region, there).usd or 0) / HOURS_PER_MONTH
    address = (quote("address", offer.region, there).usd or 0) if has_address else 0.0
    price = Price(compute.usd, disk, address, compute.source, compute.as_of)
    if offer.market != "spot":
        return price
    spot = spot_prices.history(offer, there)
    if spot is None:
        return replace(price, source=f"{price.source}; on-demand, as no spot price is known")
    return Price(spot.current, disk, address, f"spot price in {spot.zone}", spot.as_of, compute.usd)


def quote(item: str, region: str, there: Endpoint) -> Quote:
    """One list price: of `compute TYPE` and `address` for an hour, of `disk TYPE` and `snapshot`
    for a GB and month. Never raises."""
    with _LOCK:
        kept = _kept()
        key = f"{'aws' if there.is_billed else 'embedded'} {region} {item}"
        known = kept.get(key)
        if known and datetime.now(UTC) - datetime.fromisoformat(known["at"]) < _FRESH:
            return Quote(known["usd"], "Price List", known["at"][:10])
        try:
            usd = _asked(item, region, there.in_region(_PRICE_LIST_REGION))
        except CloudError as error:
            told = (
                Quote(known["usd"], "Price List", known["at"][:10])
                if known
                else tabled(item, region)
            )
            return replace(
                told,
                source=(
                    f"{told.source}, as the Price List cannot be asked ({error.code or error.what})"
                ),
            )
        if usd is None:
            return tabled(item, region)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        atomic.write_json(_cache_file(), {**kept, key: {"usd": usd, "at": at}})
        return Quote(usd, "Price List", at[:10])


def tabled(item: str, region: str) -> Quote:
    """The table's price of an item in a region; None for one that it does not hold."""
    kind, _, name = item.partition(" ")
    held = table()
    if kind == "address":
        return Quote(held["address_hourly_usd"], "table", held["as_of"])
    home = (
        held["hourly_usd"].get(name)
        if kind == "compute"
        else held["per_gb_month_usd"].get(name or kind)
    )
    factor = held["compute_factors" if kind == "compute" else "disk_factors"].get(region)
    if home is None:
        return Quote(None, "not known", held["as_of"])
    if factor is None:
        return Quote(
            home, f"table of {held['home_region']}, {region} may differ by half", held["as_of"]
        )
    return Quote(round(home * factor, 5), "table", held["as_of"])


@cache
def table() -> dict[str, Any]:
    """`price_table.json`."""
    held: dict[str, Any] = json.loads(Path(__file__).with_name("price_table.json").read_text())
    return held


def hourly(instance_type: str, region: str = "us-east-1") -> float | None:
    """Dollars for an hour of a running instance without its disk, on-demand, as far as known
    without asking; None where it is not."""
    known = _kept().get(f"aws {region} compute {instance_type}")
    return float(known["usd"]) if known else tabled(f"compute {instance_type}", region).usd


def disk_monthly(disk_gb: int, region: str = "us-east-1") -> float:
    """Dollars a month for a gp3 disk, whether its instance runs or not, as far as known without
    asking."""
    known = _kept().get(f"aws {region} disk gp3")
    return disk_gb * float(known["usd"] if known else tabled("disk gp3", region).usd or 0)


def describe(instance_type: str, region: str, disk_gb: int) -> str:
    """The price as a person reads it, with its date, as far as known without asking."""
    price = hourly(instance_type, region)
    disk = f"+ ${disk_monthly(disk_gb, region):.2f}/month for the disk, also while stopped"
    told = tabled(f"compute {instance_type}", region)
    if price is None:
        return f"not in the table of {told.as_of}: see aws.amazon.com/ec2/pricing {disk}"
    return f"${price:.3f}/h {disk} (list prices, {told.source}, {told.as_of})"


# ---- The Price List ----


def _asked(item: str, region: str, there: Endpoint) -> float | None:
    """The Price List's word, None when it has none. Raises CloudError, and again at once for a
    while when it could not be asked."""
    if there in _FAILED and time.monotonic() - _FAILED[there][0] < _NOT_AGAIN_SECONDS:
        raise _FAILED[there][1]
    service, wanted, usage = _search(item)
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in {**wanted, "regionCode": region}.items()
    ]
    try:
        with refusals.explained(refusals.Context("", there.region, regions=there.regions)):
            pages = there.client("pricing").get_paginator("get_products")
            answers = [
                page["PriceList"]
                for page in pages.paginate(
                    ServiceCode=service, Filters=filters, FormatVersion="aws_v1"
                )
            ]
    except CloudError as error:
        _FAILED[there] = (time.monotonic(), error)
        raise
    products = [untrusted_json.loads(text) for answer in answers for text in answer]
    found = [
        usd
        for product in products
        if _fits(product, usage)
        for usd in _on_demand(product)
        if usd > 0
    ]
    return min(found, default=None)


def _search(item: str) -> tuple[str, dict[str, str], str]:
    """The service, the attributes and the end of the usage type under which the Price List holds an
    item."""
    kind, _, name = item.partition(" ")
    if kind == "compute":
        plain = {
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        }
        return (
            "AmazonEC2",
            {"productFamily": "Compute Instance", "instanceType": name, **plain},
            f":{name}",
        )
    if kind == "disk":
        return "AmazonEC2", {"productFamily": "Storage", "volumeApiName": name}, ""
    if kind == "snapshot":
        return "AmazonEC2", {"productFamily": "Storage Snapshot"}, "EBS:SnapshotUsage"
    return "AmazonVPC", {"group": "VPCPublicIPv4Address"}, "PublicIPv4:InUseAddress"


def _fits(product: dict[str, Any], usage: str) -> bool:
    told = product["product"]["attributes"]
    # Capacity blocks of the large GPU types stand there as well, under the same attributes.
    return (
        str(told.get("usagetype", "")).endswith(usage)
        and told.get("marketoption", "OnDemand") == "OnDemand"
    )


def _on_demand(product: dict[str, Any]) -> Iterator[float]:
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            yield float(dimension["pricePerUnit"].get("USD", 0))


_DEAREST = 1e6
"""Dollars; no item on the list costs more in its unit."""


def _cache_file() -> Path:
    return project.state_folder() / "prices.json"


def _kept() -> dict[str, Any]:
    try:
        kept = untrusted_json.read_object(_cache_file())
    except (OSError, ValueError):
        return {}
    return {item: known for item, known in kept.items() if _is_price(known)}


def _is_price(known: Any) -> bool:
    """Whether it is what `quote` keeps: what else stands in the cache is asked for again."""
    try:
        at = datetime.fromisoformat(known["at"])
        return (
            at.tzinfo is not None
            and 0 <= float(known["usd"]) < _DEAREST
            and not isinstance(known["usd"], str | bool)
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
