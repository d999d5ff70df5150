"""Where and how a box could be had: the entry itself first, then its fallbacks in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry


@dataclass(frozen=True)
class Offer:
    """One way to get a box. `zone` and `subnet` are None where the cloud chooses; `market` is
    on-demand or spot."""

    region: str
    zone: str | None
    instance_type: str
    market: str
    subnet: str | None = None

    def __str__(self) -> str:
        return f"{self.instance_type} {self.market} in {self.zone or self.region}"


def offers_of(entry: "CloudEntry") -> list[Offer]:
    """Every offer of an entry of the inventory, in the order in which they are tried, each once."""
    return list(dict.fromkeys(_offers(entry)))


def regions_of(entry: "CloudEntry") -> list[str]:
    """Every region where the box may be, its own first."""
    return list(dict.fromkeys(offer.region for offer in offers_of(entry)))


def _offers(entry: "CloudEntry") -> Iterator[Offer]:
    yield Offer(entry.region, entry.zone, entry.instance_type, entry.market, entry.subnet)
    for other in entry.fallbacks:
        region = other.region or (other.zone[:-1] if other.zone else entry.region)
        is_home = region == entry.region
        yield Offer(
            region,
            other.zone or (entry.zone if is_home and not other.subnet else None),
            other.instance_type or entry.instance_type,
            other.market or entry.market,
            other.subnet or (entry.subnet if is_home and not other.zone else None),
        )
