"""Where a price comes from: the table, the Price List, or what the Price List said before."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.pricing import prices, spot_prices
from remote.control.cloud.pricing.prices import Price, quote, tabled

LAB = Offer("us-east-1", None, "g5.2xlarge", "on-demand")


@pytest.fixture(autouse=True)
def nothing_failed_yet(monkeypatch):
    monkeypatch.setattr(prices, "_FAILED", {})


@pytest.fixture
def asked(cloud):
    """The operations that the Price List was asked for; moto has none, so none of them is
    answered."""
    client, calls = cloud.endpoint.client("pricing"), []

    def note(model, **_):
        calls.append(model.name)

    client.meta.events.register("before-call", note)
    cloud.undo.append(lambda: client.meta.events.unregister("before-call", note))
    return calls


def kept(project, **entries):
    (project / ".windlass").mkdir(exist_ok=True)
    (project / ".windlass/prices.json").write_text(json.dumps(entries))


def ago(**span):
    return (datetime.now(UTC) - timedelta(**span)).isoformat(timespec="seconds")


@pytest.mark.parametrize(
    ("item", "region", "usd"),
    [
        ("compute g5.2xlarge", "us-east-1", 1.212),
        ("compute g5.2xlarge", "eu-central-1", 1.515),
        ("disk gp3", "us-east-1", 0.08),
        ("disk gp3", "sa-east-1", 0.152),
        ("snapshot", "us-east-1", 0.05),
        ("address", "sa-east-1", 0.005),
    ],
)
def test_the_table_knows_types_disks_and_regions(item, region, usd):
    told = tabled(item, region)
    assert (
        told.usd == pytest.approx(usd)
        and told.source == "table"
        and told.as_of == prices.table()["as_of"]
    )


def test_the_table_says_where_it_guesses_and_what_it_lacks():
    assert (
        tabled("compute g5.2xlarge", "xx-moon-1").source
        == "table of us-east-1, xx-moon-1 may differ by half"
    )
    assert tabled("compute nono.large", "us-east-1").usd is None
    assert "from memory" in prices.table()["about"] and prices.table()["as_of"]


def test_without_a_price_list_the_table_speaks_and_says_why(cloud, asked):
    price = prices.of_offer(LAB, 200, cloud.endpoint)
    assert (
        price.compute_hourly == 1.212
        and price.disk_monthly == pytest.approx(16)
        and price.address_hourly == 0.005
    )
    assert price.source.startswith("table, as the Price List cannot be asked")
    assert price.running_hourly == pytest.approx(1.212 + 16 / 730 + 0.005)
    assert asked == [
        "GetProducts"
    ]  # not once more for each price: it would be waited for each time


def test_what_the_price_list_said_today_is_not_asked_again(cloud, asked, project):
    kept(project, **{"aws us-east-1 compute g5.2xlarge": {"usd": 1.5, "at": ago(hours=23)}})
    told = quote("compute g5.2xlarge", "us-east-1", cloud.endpoint)
    assert told == prices.Quote(1.5, "Price List", ago(hours=23)[:10]) and not asked
    assert prices.hourly("g5.2xlarge") == 1.5
    assert prices.describe("g5.2xlarge", "us-east-1", 100).startswith("$1.500/h + $8.00/month")


def test_what_it_said_earlier_is_better_than_the_table(cloud, asked, project):
    kept(project, **{"aws us-east-1 compute g5.2xlarge": {"usd": 1.5, "at": ago(days=3)}})
    told = quote("compute g5.2xlarge", "us-east-1", cloud.endpoint)
    assert asked and told.usd == 1.5 and told.as_of == ago(days=3)[:10]


def test_what_the_embedded_cloud_said_never_prices_aws(cloud, asked, project):
    kept(project, **{"embedded us-east-1 compute g5.2xlarge": {"usd": 9.0, "at": ago(hours=1)}})
    assert quote("compute g5.2xlarge", "us-east-1", cloud.endpoint).usd == 1.212


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_broken_cache_is_no_cache(cloud, project, content):
    (project / ".windlass").mkdir()
    (project / ".windlass/prices.json").write_text(content)
    assert (
        prices.hourly("g5.2xlarge") == 1.212
        and quote("disk gp3", "us-east-1", cloud.endpoint).usd == 0.08
    )


def test_a_box_that_nobody_priced_has_no_price(cloud):
    price = prices.of_offer(Offer("us-east-1", None, "nono.large", "on-demand"), 40, cloud.endpoint)
    assert price.compute_hourly is None and price.running_hourly is None and price.disk_hourly > 0
    assert prices.describe("nono.large", "us-east-1", 40).startswith("not in the table of")


def test_spot_prices_are_the_newest_of_the_cheapest_zone(monkeypatch, cloud):
    def point(zone, usd, hours):
        return {
            "AvailabilityZone": zone,
            "SpotPrice": str(usd),
            "Timestamp": datetime.now(UTC) - timedelta(hours=hours),
        }

    told = [
        point("us-east-1a", 0.5, 1),
        point("us-east-1a", 0.3, 30),
        point("us-east-1b", 0.4, 2),
        point("us-east-1b", 0.9, 50),
    ]
    monkeypatch.setattr(spot_prices, "_points", lambda *_: told)
    spot = spot_prices.history(LAB, cloud.endpoint)
    assert (spot.zone, spot.current, spot.low, spot.high) == ("us-east-1b", 0.4, 0.4, 0.9)
    price = prices.of_offer(
        Offer("us-east-1", None, "g5.2xlarge", "spot"), 0, cloud.endpoint, has_address=False
    )
    assert price == Price(0.4, 0, 0, "spot price in us-east-1b", spot.as_of, 1.212)
