"""Prices, quotas and what is left over, in the embedded cloud: over the wire, and by the commands
that a person types."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from invoke import Collection

from remote.control import project
from remote.control.cloud import boxes, bucket
from remote.control.cloud import embedded as client
from remote.control.cloud.account import endpoint, quotas
from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.pricing import costs, estimate, prices, spot_prices
from remote.control.commands.boxes import money
from remote.control.config.inventory import load_inventory
from remote.control.errors import QuotaError
from remote.embedded.cloud import catalog
from tests.integration.typed import ended

INVENTORY = """\
default_box: lab
storage: {bucket: lab-kept}
boxes:
  lab:
    provider: embedded
    instance_type: g5.2xlarge
    disk_gb: 200
    clocks: {stopped: 2s}
  there:
    provider: embedded
    region: us-west-2
    instance_type: g6e.2xlarge
    market: spot
    clocks: {stopped: 2s}
    fallbacks: [{market: on-demand}, {zone: us-west-2d, instance_type: p5.48xlarge, market: spot}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    root = tmp_path_factory.mktemp("money")
    (root / "inventory.yaml").write_text(INVENTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(root))
        yield load_inventory()
        client.down()


@pytest.fixture(scope="module")
def there(lab):
    return endpoint.of_entry(lab.box())


def typed(*words):
    return ended(Collection(money.cost, money.reap), *words)


# ---- The catalog ----


@pytest.mark.parametrize(
    ("item", "region"),
    [
        ("compute g5.2xlarge", "us-east-1"),
        ("compute g5.2xlarge", "eu-west-1"),
        ("disk gp3", "sa-east-1"),
        ("snapshot", "us-east-1"),
        ("address", "eu-west-1"),
    ],
)
def test_the_price_list_is_asked_and_the_right_one_of_many_like_prices_is_taken(
    there, item, region
):
    assert prices.quote(item, region, there) == prices.Quote(
        pytest.approx(prices.tabled(item, region).usd),
        "Price List",
        f"{datetime.now(UTC):%Y-%m-%d}",
    )


def test_its_answers_are_kept_for_a_day(there):
    prices.quote("compute g4dn.xlarge", "us-east-1", there)
    before = client.calls(there.url)
    for _ in range(3):
        assert prices.quote("compute g4dn.xlarge", "us-east-1", there).source == "Price List"
    assert client.calls(there.url) == before
    assert "embedded us-east-1 compute g4dn.xlarge" in json.loads(
        (project.state_folder() / "prices.json").read_text()
    )


def test_it_has_what_the_filters_must_leave_out(there):
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in (("instanceType", "g5.2xlarge"), ("regionCode", "us-east-1"))
    ]
    answer = there.client("pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)
    told = [json.loads(text)["product"]["attributes"] for text in answer["PriceList"]]
    assert {each["operatingSystem"] for each in told} == {"Linux", "Windows"} and len(
        {each["capacitystatus"] for each in told}
    ) == 3
    assert not there.client("pricing").get_products(ServiceCode="AmazonS3")["PriceList"]


def test_it_is_served_where_aws_serves_it(there):
    with pytest.raises(ClientError, match="not served in us-west-2"):
        there.in_region("us-west-2").client("pricing").get_products(ServiceCode="AmazonEC2")


def test_spot_prices_have_a_history_below_on_demand_and_stay_what_they_were(there):
    offer = Offer("us-east-1", "us-east-1a", "g5.2xlarge", "spot")
    spot = spot_prices.history(offer, there)
    assert (
        spot
        and spot.zone == "us-east-1a"
        and 0.2 < spot.low <= spot.current <= spot.high < 1.212
        and spot.low < spot.high
    )
    assert len(spot_prices.zones(Offer("us-east-1", None, "g5.2xlarge", "spot"), there)) > 1
    now = datetime.now(UTC)
    assert catalog.spot_price("g5.2xlarge", "us-east-1a", now) == catalog.spot_price(
        "g5.2xlarge", "us-east-1a", now
    )
    since = now - timedelta(days=1)
    told = there.client("ec2").describe_spot_price_history(
        InstanceTypes=["g5.2xlarge"], AvailabilityZone="us-east-1a", StartTime=since
    )
    stamps = [point["Timestamp"] for point in told["SpotPriceHistory"]]
    assert (
        stamps == sorted(stamps, reverse=True) and stamps[-1] <= since < stamps[-2]
    )  # the one in force then is told too
    assert spot_prices.zones(Offer("us-east-1", None, "nono.large", "spot"), there) == []


def test_quotas_are_told_listed_and_raised(there):
    sq = there.in_region("ap-south-1").client("service-quotas")
    told = {
        quota["QuotaCode"]: quota["Value"]
        for quota in sq.list_service_quotas(ServiceCode="ec2")["Quotas"]
    }
    assert told["L-DB2E81BA"] == told["L-3819A6DF"] == 64 and told["L-417A185B"] == 0
    room = quotas.room(Offer("ap-south-1", None, "p4d.24xlarge", "on-demand"), there)
    assert room and (room.code, room.lacks) == ("L-417A185B", 96)
    sq.request_service_quota_increase(ServiceCode="ec2", QuotaCode="L-417A185B", DesiredValue=96)
    assert sq.get_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")["Quota"]["Value"] == 96
    assert (
        sq.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")["Quota"][
            "Value"
        ]
        == 0
    )
    assert (
        there.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")[
            "Quota"
        ]["Value"]
        == 0
    )
    with pytest.raises(ClientError, match="NoSuchResource"):
        sq.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")


def test_offers_are_compared_with_price_history_and_room(lab, there):
    spot, on_demand, large = estimate.compare(lab.box("there"), there.in_region("us-west-2"))
    assert (
        spot.price.source.startswith("spot price in us-west-2")
        and spot.price.ceiling_hourly == on_demand.price.compute_hourly
    )
    assert spot.spot_low <= spot.price.compute_hourly <= spot.spot_high
    assert spot.room.code == "L-3819A6DF" and on_demand.room.code == "L-DB2E81BA" and not spot.note
    assert large.room.lacks == 192 and "lacks 192 vCPUs" in large.note


def test_a_launch_beyond_the_quota_names_the_command_that_asks_for_enough(lab, there):
    entry = lab.box().model_copy(update={"name": "p4", "instance_type": "p4d.24xlarge"})
    with pytest.raises(QuotaError) as raised:
        boxes.ready(entry, lambda line: None)
    command = (
        "aws service-quotas request-service-quota-increase --region us-east-1 --service-code ec2"
    )
    assert f"`{command} --quota-code L-417A185B --desired-value 96`" in raised.value.remedy


def test_launching_is_permitted_or_the_refusal_is_told(lab, there):
    assert (
        estimate.permitted(lab.box(), there) is None
        and estimate.permitted(lab.box("there"), there.in_region("us-west-2")) is None
    )
    fault = client.inject(there.url, {"kind": "permission", "operation": "RunInstances"})
    try:
        assert "UnauthorizedOperation" in estimate.permitted(lab.box(), there)
    finally:
        client.clear(there.url, fault)
    assert not boxes.find(lab.box())


# ---- The commands ----


def told_cost(capfd):
    capfd.readouterr()
    typed("cost", "--json")
    return json.loads(capfd.readouterr().out)


def test_a_box_from_its_first_dollar_to_its_end(lab, there, capfd):
    assert told_cost(capfd)["items"] == []
    boxes.ready(lab.box(), lambda line: None)
    used = quotas._room.__wrapped__("g5.2xlarge", "on-demand", there)
    assert (used.used, used.left) == (8, 56)
    now = told_cost(capfd)
    assert {item["kind"] for item in now["items"]} == {"instance", "volume"} and now[
        "is_billed"
    ] is False
    assert (
        now["hourly_usd"] == pytest.approx(1.212 + 0.005 + 16 / 730, abs=1e-4)
        and now["so_far_usd"] > 0
    )
    typed("reap", "--yes")
    assert boxes.find(lab.box()).state == "running"

    boxes.stop(lab.box())
    assert told_cost(capfd)["hourly_usd"] == pytest.approx(16 / 730, abs=1e-4)
    deadline = time.monotonic() + 30
    while "terminate" not in (rehearsed := rehearsal(capfd)):
        assert time.monotonic() < deadline, rehearsed
        time.sleep(0.3)
    typed("reap", "--json")  # without a terminal and without --yes nothing happens
    assert boxes.find(lab.box()).state == "stopped"
    capfd.readouterr()
    typed("reap", "--yes", "--json")
    (done,) = json.loads(capfd.readouterr().out)
    assert (done["box"], done["action"], done["error"]) == ("lab", "terminate", None)
    assert boxes.find(lab.box()) is None and told_cost(capfd)["items"] == []
    assert not any(client.leaks(there.url).values()), client.leaks(there.url)


def rehearsal(capfd):
    capfd.readouterr()
    typed("reap", "--dry-run", "--json")
    return capfd.readouterr().out


def test_what_boxes_spilled_is_counted_and_goes_when_its_time_is_over(lab, there, capfd):
    s3, kept = there.client("s3"), bucket.of_entry("lab-kept", lab.box())
    for name in ("manifest.json", "checkpoint/0"):
        s3.put_object(Bucket="lab-kept", Key=f"{kept.prefix}run-1-train/{name}", Body=bytes(500))
    s3.put_object(Bucket="lab-kept", Key="of-others", Body=b"x")
    (item,) = told_cost(capfd)["items"]
    assert (item["kind"], item["id"], item["what"]) == ("bucket", "lab-kept", "0.0 GB of 1 job")
    (job,) = kept.spilled()
    assert (job.job_id, job.size) == ("run-1-train", 1000)
    deadline = time.monotonic() + 30
    while '"action": "delete"' not in (rehearsed := rehearsal(capfd)):
        assert time.monotonic() < deadline, rehearsed
        time.sleep(0.3)
    typed("reap", "--yes")
    assert kept.spilled() == [] and told_cost(capfd)["items"] == []
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="lab-kept")["Contents"]] == [
        "of-others"
    ]


def test_a_cloud_that_is_down_costs_nothing_and_is_not_started(lab, capfd):
    client.down()
    assert told_cost(capfd)["items"] == [] and client.running() is None
    assert costs.places(lab) == []
