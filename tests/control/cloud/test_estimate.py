"""The worst case in dollars, the moment of the stop, and what a person is told before saying
yes."""

from datetime import UTC, datetime, timedelta

import pytest

from remote.control.cloud.account.quotas import Room
from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.pricing import estimate
from remote.control.cloud.pricing.estimate import Line, sentences, table, worst_case
from remote.control.cloud.pricing.prices import Price
from remote.control.config.inventory import Ec2Entry

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LAB = Offer("us-east-1", "us-east-1a", "g5.2xlarge", "on-demand")
SPOT = Offer("us-east-1", "us-east-1a", "g5.2xlarge", "spot")
ONE_DOLLAR = Price(0.975, 0.02, 0.005, "Price List", "2026-11-21")


def entry(**clocks):
    return Ec2Entry.model_validate(
        {"name": "lab", "region": "us-east-1", "disk_gb": 200, "clocks": {"grace": "30m", **clocks}}
    )


def test_the_clock_that_ends_first_counts_and_a_whole_grace_besides():
    worst = worst_case(entry(lifetime="10h", dollars=25), ONE_DOLLAR, NOW)
    assert (worst.usd, worst.stops_at, worst.by) == (
        pytest.approx(10.5),
        NOW + timedelta(hours=10),
        "lifetime",
    )
    worst = worst_case(entry(lifetime="10h", dollars=4), ONE_DOLLAR, NOW)
    assert (worst.usd, worst.stops_at, worst.by) == (
        pytest.approx(4.5),
        NOW + timedelta(hours=4),
        "dollars",
    )


def test_spot_may_rise_to_what_was_allowed_and_never_above_on_demand():
    price = Price(0.475, 0.02, 0.005, "spot price", "now", ceiling_hourly=1.2)
    assert worst_case(entry(lifetime="10h", grace="0s"), price, NOW).usd == pytest.approx(
        10 * 1.225
    )
    bound = entry(lifetime="10h", grace="0s").model_copy(update={"max_spot_usd": 0.6})
    assert worst_case(bound, price, NOW).usd == pytest.approx(10 * 0.625)
    unbound = entry(lifetime="10h", grace="0s").model_copy(update={"max_spot_usd": 7.0})
    assert worst_case(unbound, price, NOW).usd == pytest.approx(10 * 1.225)


def test_without_a_price_only_the_lifetime_is_known():
    worst = worst_case(entry(dollars=1), Price(None, 0.02, 0.005, "not known", ""), NOW)
    assert worst.usd is None and worst.by == "lifetime"


def test_what_is_said_before_a_launch():
    room = Room("L-DB2E81BA", "name", 8, 8, 8, "on-demand", "us-east-1")
    line = Line(LAB, ONE_DOLLAR, 0.4, 0.6, room, "quota L-DB2E81BA lacks 8 vCPUs")
    told = "\n".join(
        sentences(entry(lifetime="10h"), line, worst_case(entry(lifetime="10h"), ONE_DOLLAR, NOW))
    )
    assert "stops at 2026-11-21 22:00 UTC, by its clock `lifetime`; worst case $10.50" in told
    assert "costing $14.60 a month; after 14 days stopped `./inv reap` terminates it" in told
    assert (
        "lacks 8 vCPUs" in told
        and "request-service-quota-increase --region us-east-1" in told
        and "bills nothing" not in told
    )
    columns, (row,) = table([line])
    assert len(columns) == len(row)
    assert row == [
        "g5.2xlarge on-demand in us-east-1a",
        "0.975",
        "0.020",
        "0.005",
        "1.000",
        "0.400 - 0.600",
        "8 vCPUs of 8 (8 in use)",
        "quota L-DB2E81BA lacks 8 vCPUs",
    ]


def test_what_is_not_known_is_said():
    line = Line(SPOT, Price(None, 0.02, 0.005, "not known", ""), None, None, None)
    told = "\n".join(
        sentences(entry(), line, worst_case(entry(), line.price, NOW), is_billed=False)
    )
    assert (
        "the worst case is not known" in told
        and "its disk goes with it" in told
        and "bills nothing" in told
    )
    assert table([line])[1][0][1:] == ["?", "0.020", "0.005", "?", "", "?", ""]
    assert estimate.record(line)["compute_usd_per_hour"] is None


def test_offers_are_compared_also_where_next_to_nothing_can_be_asked(cloud):
    box = cloud.entry.model_copy(update={"instance_type": "g5.2xlarge", "zone": "us-east-1z"})
    (line,) = estimate.compare(box, cloud.endpoint)
    assert line.price.compute_hourly == 1.212 and line.room is None
    assert (
        "the quota cannot be told" in line.note
        and "not offered in us-east-1z, but in zones a b" in line.note
    )
    nowhere = box.model_copy(update={"instance_type": "nono.large"})
    assert (
        "nono.large is not offered in us-east-1"
        in estimate.compare(nowhere, cloud.endpoint)[0].note
    )


def test_a_private_box_pays_no_public_address(cloud):
    private = cloud.entry.model_copy(update={"reach": "ssm"})
    assert estimate.compare(private, cloud.endpoint)[0].price.address_hourly == 0


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, "5 s"), (600, "10 min"), (43200, "12.0 h"), (14 * 86400, "14 days")]
)
def test_a_length_of_time_is_told_as_people_do(seconds, told):
    assert estimate.span(timedelta(seconds=seconds)) == told
