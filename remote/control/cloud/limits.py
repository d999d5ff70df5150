"""The limits of a box's clocks, out of its entry in the inventory and what it costs."""

from typing import TYPE_CHECKING

from remote.contract.job.clocks import Limits
from remote.control.cloud.box import Box
from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.pricing import prices

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

TICK_SECONDS = 30.0
AHEAD_SECONDS = 900.0
"""How long a box outlives its watchdog. More than systemd's five minutes without logins before a
planned shutdown."""


def at_launch(entry: "CloudEntry", offer: Offer) -> Limits:
    """The limits with which a box begins its life, before anything can be asked of it. Prices as
    far as known without asking."""
    compute = (
        prices.hourly(offer.instance_type, offer.region) if entry.provider != "embedded" else None
    )
    return _limits(entry, _running(compute, entry, offer.region), "")


def of_start(entry: "CloudEntry", box: Box) -> Limits:
    """The limits of an entry of the inventory for this start of its box."""
    return _limits(
        entry,
        _running(box.hourly_usd, entry, box.region),
        str(int(box.launched_at)) if box.launched_at else "",
    )


def _limits(entry: "CloudEntry", hourly_usd: float, session: str) -> Limits:
    clocks = entry.clocks
    shortest = min(clocks.idle, clocks.lifetime, clocks.stuck)
    return Limits(
        clocks.idle,
        clocks.lifetime,
        clocks.dollars,
        clocks.stopped,
        clocks.stuck,
        clocks.stuck_grace,
        clocks.grace,
        hourly_usd,
        session,
        tick=min(TICK_SECONDS, max(0.2, shortest / 20)),
        ahead=AHEAD_SECONDS,
    )


def _running(compute: float | None, entry: "CloudEntry", region: str) -> float:
    """All that a running hour costs; nothing where nothing is billed or the price is not known."""
    if not compute:
        return 0.0
    disk = prices.disk_monthly(entry.disk_gb, region) / prices.HOURS_PER_MONTH
    return compute + disk + (prices.tabled("address", region).usd or 0.0)
