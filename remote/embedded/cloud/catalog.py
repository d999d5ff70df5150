"""What the embedded cloud's account may have and what it would cost: Price List, Service Quotas and
spot prices, beside moto.

Answers bear the wire format of the services themselves. Prices are those of `price_table.json`;
spot prices are drawn from type, zone and hour, the same whenever they are asked for. Quotas are few
enough to be met: P types none, G and VT 64 vCPUs in each market and region;
RequestServiceQuotaIncrease is granted at once, and kept.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.responses.spot_instances import SpotInstances
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.models import ServiceQuotasBackend
from moto.servicequotas.responses import ServiceQuotasResponse

from remote.contract.files import atomic, typed, untrusted_json
from remote.control.cloud.account import quotas
from remote.control.cloud.pricing import prices
from remote.embedded.cloud.moto_changes import parameter, replace

if TYPE_CHECKING:
    from remote.embedded.cloud.account import Account

_DEFAULT_VCPUS = {"standard": 1024.0, "g": 64.0}
_SERVICE = {"ServiceCode": "ec2", "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)"}
_LIVE = ("pending", "running")
_PRICE_LIST_REGIONS = ("us-east-1", "eu-central-1", "ap-south-1")
_SPOT_STEP = timedelta(hours=6)
_WINDOWS = 1.35


def install(account: "Account") -> None:
    """Add what is here to moto, inside this process. Once."""
    folder = account.folder

    def get(original: Callable[..., Any], backend: Any, service_code: str, quota_code: str) -> Any:
        return (
            original(backend, service_code, quota_code)
            if service_code != "ec2"
            else _described(folder, backend, quota_code)
        )

    def default(_original: None, response: Any) -> str:
        asked = untrusted_json.loads_object(response.body)
        return json.dumps({"Quota": _described(None, response.backend, asked["QuotaCode"])})

    def listed(_original: None, response: Any) -> str:
        asked = untrusted_json.loads_object(response.body)
        codes = sorted(_names()) if asked["ServiceCode"] == "ec2" else []
        return json.dumps(
            {"Quotas": [_described(folder, response.backend, code) for code in codes]}
        )

    def increase(_original: None, response: Any) -> str:
        asked = untrusted_json.loads_object(response.body)
        told = _described(folder, response.backend, asked["QuotaCode"])
        set_quota(folder, response.region, asked["QuotaCode"], float(asked["DesiredValue"]))
        granted = {
            "Id": _hash(told["QuotaArn"])[:32],
            "DesiredValue": asked["DesiredValue"],
            "Status": "APPROVED",
        }
        return json.dumps(
            {
                "RequestedQuota": {
                    **_SERVICE,
                    **granted,
                    "QuotaCode": told["QuotaCode"],
                    "QuotaName": told["QuotaName"],
                }
            }
        )

    replace(SpotInstances, "describe_spot_price_history", _spot_price_history)
    replace(ServiceQuotasBackend, "get_service_quota", get)
    replace(ServiceQuotasResponse, "get_aws_default_service_quota", default)
    replace(ServiceQuotasResponse, "list_service_quotas", listed)
    replace(ServiceQuotasResponse, "request_service_quota_increase", increase)


# ---- Quotas ----


def room(account: "Account", region: str, instance_type: str, market: str) -> int:
    """How many vCPUs the account may still start of that type's family in a market (on-demand,
    spot). Stopped ones count nothing."""
    quota = quotas.quota_of(instance_type, market)
    if quota is None:
        return 0
    live = [
        each for each in account.instances() if each.region_name == region and each.state in _LIVE
    ]
    counted = [
        each.instance_type
        for each in live
        if quotas.quota_of(each.instance_type, _market(each)) == quota
    ]
    return int(_value(account.folder, region, quota.code)) - sum(map(vcpus, counted))


def vcpus(instance_type: str) -> int:
    """The vCPUs of a type, as DescribeInstanceTypes tells them."""
    return int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])


def set_quota(folder: Path, region: str, code: str, value: float) -> None:
    """From now on the quota has that value in that region, also after a restart of the cloud."""
    set_now = _set_quotas(folder)
    atomic.write_json(folder / "quotas.json", {**set_now, f"{region} {code}": value})


def _market(instance: Any) -> str:
    return "spot" if instance.lifecycle == "spot" else "on-demand"


def _value(folder: Path | None, region: str, code: str) -> float:
    family = next(
        name
        for table in (quotas.ON_DEMAND, quotas.SPOT)
        for name, quota in table.items()
        if quota.code == code
    )
    default = _DEFAULT_VCPUS.get(family, 0.0)
    return float(_set_quotas(folder).get(f"{region} {code}", default)) if folder else default


def _set_quotas(folder: Path) -> dict[str, float]:
    try:
        told = untrusted_json.read_object(folder / "quotas.json")
        return typed.value(dict[str, float], told, "quotas.json")  # type: ignore[no-any-return]
    except (OSError, ValueError, TypeError):
        return {}


def _described(folder: Path | None, backend: Any, code: str) -> dict[str, Any]:
    if code not in _names():
        raise NoSuchResource
    arn = f"arn:aws:servicequotas:{backend.region_name}:{backend.account_id}:ec2/{code}"
    value = _value(folder, backend.region_name, code)
    told = {"QuotaArn": arn, "QuotaCode": code, "QuotaName": _names()[code], "Value": value}
    return {**_SERVICE, **told, "Unit": "None", "Adjustable": True, "GlobalQuota": False}


@cache
def _names() -> dict[str, str]:
    return {
        quota.code: quota.name
        for table in (quotas.ON_DEMAND, quotas.SPOT)
        for quota in table.values()
    }


# ---- Spot prices ----


def spot_price(instance_type: str, zone: str, at: datetime) -> float | None:
    """Dollars an hour at a moment; None for a type whose on-demand price is not known."""
    on_demand = prices.tabled(f"compute {instance_type}", zone[:-1]).usd
    if on_demand is None:
        return None
    usual = 0.35 + 0.25 * _share(instance_type, zone)
    wobble = 0.9 + 0.2 * _share(instance_type, zone, str(_step(at)))
    return round(on_demand * usual * wobble, 4)


def _spot_price_history(_original: Callable[..., Any], response: Any) -> ActionResult:
    response.error_on_dryrun()
    now = datetime.now(UTC)
    since = _moment(parameter(response, "StartTime")) or now - timedelta(days=90)
    filters = {
        each["Name"]: set(each.get("Values", [])) for each in parameter(response, "Filters", [])
    }
    types = set(parameter(response, "InstanceTypes", [])) or filters.get("instance-type", set())
    zone = parameter(response, "AvailabilityZone")
    zones = {zone} if zone else filters.get("availability-zone", set())
    offered = [
        (each["InstanceType"], each["Location"])
        for each in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(response.region, [])
        if (not types or each["InstanceType"] in types) and (not zones or each["Location"] in zones)
    ]
    points = [
        point
        for kind, place in offered
        for point in _points(kind, place, max(since, now - timedelta(days=90)), now)
    ]
    return ActionResult({"SpotPriceHistory": points})


def _points(
    instance_type: str, zone: str, since: datetime, now: datetime
) -> Iterator[dict[str, Any]]:
    """The newest first; the last one is older than `since`, as EC2 tells the price that was in
    force then."""
    at = datetime.fromtimestamp(_step(now) * _SPOT_STEP.total_seconds(), UTC)
    while True:
        price = spot_price(instance_type, zone, at)
        if price is None:
            return
        place = {
            "AvailabilityZone": zone,
            "InstanceType": instance_type,
            "ProductDescription": "Linux/UNIX",
        }
        yield {**place, "SpotPrice": f"{price:.6f}", "Timestamp": at}
        if at <= since:
            return
        at -= _SPOT_STEP


def _step(at: datetime) -> int:
    return int(at.timestamp() // _SPOT_STEP.total_seconds())


def _moment(given: Any) -> datetime | None:
    """moto hands over a moment as a text or as a datetime without its zone; the wire has UTC."""
    if given is None:
        return None
    told = (
        given
        if isinstance(given, datetime)
        else datetime.fromisoformat(str(given).replace("Z", "+00:00"))
    )
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _share(*words: str) -> float:
    return int(_hash(*words)[:8], 16) / 0xFFFFFFFF


def _hash(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


# ---- Price List ----


def price_list(region: str, operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer of the Price List service, asked in a region."""
    if region not in _PRICE_LIST_REGIONS:
        return 400, {
            "__type": "InvalidParameterException",
            "Message": f"the Price List is not served in {region}",
        }
    if operation != "GetProducts":
        return 400, {
            "__type": "UnknownOperationException",
            "Message": f"{operation} is not served by the embedded cloud",
        }
    found = [
        _product_text(product)
        for product in _products(asked["ServiceCode"])
        if _matches(product, asked.get("Filters", []))
    ]
    return 200, {"FormatVersion": "aws_v1", "PriceList": found}


def _matches(product: dict[str, Any], filters: list[dict[str, str]]) -> bool:
    told = {**product["attributes"], "productFamily": product.get("productFamily")}
    return all(told.get(each["Field"]) == each["Value"] for each in filters)


@cache
def _products(service: str) -> list[dict[str, Any]]:
    make: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
        "AmazonEC2": _ec2_products,
        "AmazonVPC": _vpc_products,
    }
    regions = prices.table()["compute_factors"]
    return (
        [product for region in regions for product in make[service](region)]
        if service in make
        else []
    )


def _ec2_products(region: str) -> Iterator[dict[str, Any]]:
    """Each type thrice, as the Price List has it: what is used, what a reservation leaves unused,
    and Windows."""
    for kind in prices.table()["hourly_usd"]:
        usd = prices.tabled(f"compute {kind}", region).usd or 0
        plain = {
            "instanceType": kind,
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "marketoption": "OnDemand",
            "regionCode": region,
        }
        for system, status, usage, price in (
            ("Linux", "Used", "BoxUsage", usd),
            ("Linux", "UnusedCapacityReservation", "UnusedBox", usd),
            ("Linux", "AllocatedCapacityReservation", "Reservation", 0.0),
            ("Windows", "Used", "BoxUsage", usd * _WINDOWS),
        ):
            told = {
                **plain,
                "operatingSystem": system,
                "capacitystatus": status,
                "usagetype": f"{_prefix(region)}{usage}:{kind}",
            }
            yield _product("Compute Instance", told, "Hrs", price)
    for kind in prices.table()["per_gb_month_usd"]:
        usd = prices.tabled(f"disk {kind}", region).usd or 0
        if kind == "snapshot":
            told = {"regionCode": region, "usagetype": f"{_prefix(region)}EBS:SnapshotUsage"}
            yield _product("Storage Snapshot", told, "GB-Mo", usd)
        else:
            told = {
                "regionCode": region,
                "usagetype": f"{_prefix(region)}EBS:VolumeUsage.{kind}",
                "volumeApiName": kind,
            }
            yield _product("Storage", told, "GB-Mo", usd)


def _vpc_products(region: str) -> Iterator[dict[str, Any]]:
    for usage in ("PublicIPv4:InUseAddress", "PublicIPv4:IdleAddress"):
        told = {
            "regionCode": region,
            "group": "VPCPublicIPv4Address",
            "usagetype": f"{_prefix(region)}{usage}",
        }
        yield _product(None, told, "Hrs", prices.table()["address_hourly_usd"])


def _prefix(region: str) -> str:
    """AWS writes a short name of the region before a usage type, and none for us-east-1."""
    return "" if region == "us-east-1" else f"{region.upper()}-"


def _product(
    family: str | None, attributes: dict[str, str], unit: str, usd: float
) -> dict[str, Any]:
    named = {"productFamily": family} if family else {}
    return {
        **named,
        "attributes": attributes,
        "sku": _hash(*sorted(attributes.values()))[:16].upper(),
        "unit": unit,
        "usd": usd,
    }


def _product_text(product: dict[str, Any]) -> str:
    """A product as the Price List words it: JSON inside JSON."""
    told = {key: product[key] for key in ("productFamily", "attributes", "sku") if key in product}
    term = f"{product['sku']}.JRTCKXETXF"
    dimension = {
        "unit": product["unit"],
        "beginRange": "0",
        "endRange": "Inf",
        "pricePerUnit": {"USD": f"{product['usd']:.10f}"},
    }
    on_demand = {
        term: {
            "sku": product["sku"],
            "offerTermCode": "JRTCKXETXF",
            "priceDimensions": {f"{term}.6YS6EN2CT7": dimension},
        }
    }
    return json.dumps(
        {
            "product": told,
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": on_demand},
            "version": "1",
        }
    )
