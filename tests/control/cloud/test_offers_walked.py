"""The offers of a box, tried in turn against moto's wire: what moves on, what stops, what is told,
what is left."""

import pytest
from botocore.exceptions import ClientError

from remote.control.cloud import boxes
from remote.control.cloud.access import keys
from remote.control.cloud.ec2 import instances
from remote.control.config.inventory import Fallback
from remote.control.errors import (
    CapacityError,
    CloudError,
    CredentialsMissing,
    PermissionDenied,
    QuotaError,
)
from remote.control.project import history

FALLBACKS = [
    Fallback(zone="us-east-1b"),
    Fallback(market="spot"),
    Fallback(region="us-west-2", instance_type="g4dn.xlarge"),
]


@pytest.fixture
def entry(cloud):
    return cloud.entry.model_copy(
        update={"zone": "us-east-1a", "fallbacks": FALLBACKS, "max_spot_usd": 0.5}
    )


@pytest.fixture
def refusals_in(cloud):
    """`refusals_in("us-east-1", "CodeOfFirst", "CodeOfSecond")`: RunInstances there is refused so;
    returns what was asked."""

    def install(region, *codes):
        ec2, asked = cloud.endpoint.in_region(region).client("ec2"), []

        def answer(params, **_):
            asked.append(params["body"])
            if len(asked) <= len(codes):
                raise ClientError(
                    {"Error": {"Code": codes[len(asked) - 1], "Message": "refused"}}, "RunInstances"
                )

        ec2.meta.events.register("before-call.ec2.RunInstances", answer)
        cloud.undo.append(
            lambda: ec2.meta.events.unregister("before-call.ec2.RunInstances", answer)
        )
        return asked

    return install


def left(cloud, region="us-east-1"):
    """What of ours is in a region: live instances, groups, key pairs, disks."""
    there = cloud.endpoint.in_region(region)
    ec2 = there.client("ec2")
    groups = [
        group["GroupId"]
        for group in ec2.describe_security_groups()["SecurityGroups"]
        if group["GroupName"] != "default"
    ]
    pairs = [pair["KeyName"] for pair in ec2.describe_key_pairs()["KeyPairs"]]
    live = [each.id for each in instances.of_project(there) if not each.is_gone]
    return live, groups, pairs, ec2.describe_volumes()["Volumes"]


NOTHING = ([], [], [], [])


def test_capacity_and_price_move_on_each_attempt_told_and_kept(cloud, entry, refusals_in):
    asked = refusals_in(
        "us-east-1",
        "InsufficientInstanceCapacity",
        "InsufficientInstanceCapacity",
        "SpotMaxPriceTooLow",
    )
    box = boxes.ready(entry, cloud.say)
    assert (box.region, box.instance_type, box.market) == ("us-west-2", "g4dn.xlarge", "on-demand")
    assert [each["Placement.AvailabilityZone"] for each in asked] == [
        "us-east-1a",
        "us-east-1b",
        "us-east-1a",
    ]
    assert asked[2]["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.5"
    assert asked[2]["InstanceInitiatedShutdownBehavior"] == "terminate"
    told = [
        line
        for line in cloud.said
        if "capacity" in line or "price" in line or line.endswith("launched")
    ]
    assert told == [
        "trainer: g5.2xlarge on-demand in us-east-1a: capacity (InsufficientInstanceCapacity)",
        "trainer: g5.2xlarge on-demand in us-east-1b: capacity (InsufficientInstanceCapacity)",
        "trainer: g5.2xlarge spot in us-east-1a: price (SpotMaxPriceTooLow)",
        "trainer: g4dn.xlarge on-demand in us-west-2: launched",
    ]
    kept = [entry["category"] for entry in history.read("trainer") if entry["kind"] == "attempt"]
    assert kept == ["capacity", "capacity", "price", "ok"]
    assert left(cloud) == NOTHING
    boxes.terminate(entry)
    assert left(cloud, "us-west-2") == NOTHING


@pytest.mark.parametrize(
    ("code", "error", "category"),
    [
        ("VcpuLimitExceeded", QuotaError, "quota"),
        ("MaxSpotInstanceCountExceeded", QuotaError, "quota"),
        ("UnauthorizedOperation", PermissionDenied, "permission"),
        ("ExpiredToken", CredentialsMissing, "permission"),
        ("InvalidAMIID.NotFound", CloudError, "configuration"),
        ("Unsupported", CloudError, "configuration"),
        ("InternalError", CloudError, "cloud"),
    ],
)
def test_anything_else_stops_at_once_and_names_what_was_tried_before(
    cloud, entry, refusals_in, code, error, category
):
    refusals_in("us-east-1", "InsufficientInstanceCapacity", *[code] * 5)
    with pytest.raises(error) as caught:
        boxes.ready(entry, cloud.say)
    tried = [entry["category"] for entry in history.read("trainer") if entry["kind"] == "attempt"]
    assert tried == ["capacity", category]
    assert "us-east-1a: capacity" in caught.value.why
    assert code in caught.value.why
    assert caught.value.remedy
    assert left(cloud) == left(cloud, "us-west-2") == NOTHING


def test_no_capacity_anywhere_lists_every_attempt(cloud, entry, refusals_in):
    refusals_in("us-east-1", *["InsufficientInstanceCapacity"] * 3)
    refusals_in("us-west-2", "InsufficientInstanceCapacity")
    with pytest.raises(CapacityError, match="none of the 4 offers") as caught:
        boxes.ready(entry, cloud.say)
    assert all(
        place in caught.value.why for place in ("us-east-1a", "us-east-1b", "spot", "us-west-2")
    )
    assert "./inv launch trainer --wait 30m" in caught.value.remedy
    assert left(cloud) == left(cloud, "us-west-2") == NOTHING


def test_a_type_that_its_zone_does_not_offer_is_had_elsewhere(cloud, entry):
    ec2 = cloud.ec2
    message = (
        "Your requested instance type (g5.2xlarge) is not supported in your requested Availability"
        " Zone (us-east-1a)."
    )
    first = []

    def answer(**_):
        if not first:
            first.append(True)
            raise ClientError(
                {"Error": {"Code": "Unsupported", "Message": message}}, "RunInstances"
            )

    ec2.meta.events.register("before-call.ec2.RunInstances", answer)
    cloud.undo.append(lambda: ec2.meta.events.unregister("before-call.ec2.RunInstances", answer))
    assert boxes.ready(entry, cloud.say).zone == "us-east-1b"


def test_waiting_tries_every_offer_again(cloud, entry, refusals_in):
    asked = refusals_in("us-east-1", *["InsufficientInstanceCapacity"] * 3)
    refusals_in("us-west-2", "InsufficientInstanceCapacity")
    assert boxes.ready(entry, cloud.say, wait_seconds=30).zone == "us-east-1a"
    assert len(asked) == 4
    assert any("next try in" in line for line in cloud.said)


def test_a_cut_off_launch_is_taken_up_at_the_offer_it_was_asking_for(cloud, entry, refusals_in):
    asked = refusals_in("us-east-1")
    history.append(
        "trainer", "asking", offer="g5.2xlarge on-demand in us-east-1b", region="us-east-1"
    )
    assert boxes.ready(entry, cloud.say).zone == "us-east-1b"
    assert len(asked) == 1


def test_a_key_pair_that_another_box_took_away_meanwhile_is_imported_again(
    cloud, entry, refusals_in
):
    refusals_in("us-east-1", "InvalidKeyPair.NotFound")
    box = boxes.ready(entry, cloud.say)
    assert box.zone == "us-east-1a"
    assert [each["category"] for each in history.read("trainer") if each["kind"] == "attempt"] == [
        "ok"
    ]


def test_the_key_pair_stays_while_another_box_uses_it_and_a_users_own_stays_for_good(cloud, entry):
    other = entry.model_copy(update={"name": "other"})
    boxes.ready(entry, cloud.say)
    boxes.ready(other, cloud.say)
    cloud.ec2.create_key_pair(KeyName="the users own")
    boxes.terminate(entry)
    assert left(cloud)[2] == [keys.identity_of(entry).name, "the users own"]
    boxes.terminate(other)
    assert left(cloud)[2] == ["the users own"]


def test_a_spot_box_is_never_stopped_and_its_request_ends_with_it(cloud, entry):
    spot = entry.model_copy(update={"market": "spot", "fallbacks": []})
    box = boxes.ready(spot, cloud.say)
    assert box.market == "spot"
    with pytest.raises(CloudError, match="spot") as caught:
        boxes.stop(spot)
    assert caught.value.remedy == "`./inv terminate trainer`"
    boxes.terminate(spot)
    assert left(cloud) == NOTHING


def test_a_box_in_another_region_is_found_though_the_inventory_names_it_no_more(
    cloud, entry, refusals_in
):
    refusals_in("us-east-1", *["InsufficientInstanceCapacity"] * 3)
    box = boxes.ready(entry, cloud.say)
    assert boxes.find(cloud.entry).id == box.id
    assert boxes.find(cloud.entry).region == "us-west-2"
    assert boxes.terminate(cloud.entry).id == box.id
    assert left(cloud, "us-west-2") == NOTHING


@pytest.mark.parametrize(
    "code", ["InsufficientFreeAddressesInSubnet", "VPCIdNotSpecified", "DefaultVpcDoesNotExist"]
)
def test_a_network_without_room_moves_on(cloud, entry, refusals_in, code):
    refusals_in("us-east-1", code, code, code)
    assert boxes.ready(entry, cloud.say).region == "us-west-2"
    assert [each["category"] for each in history.read("trainer") if each["kind"] == "attempt"] == [
        "network"
    ] * 3 + ["ok"]


def test_networks_without_room_everywhere_say_what_mends_each(cloud, entry, refusals_in):
    refusals_in("us-east-1", *["InsufficientFreeAddressesInSubnet"] * 3)
    refusals_in("us-west-2", "DefaultVpcDoesNotExist")
    with pytest.raises(CloudError) as caught:
        boxes.ready(entry, cloud.say)
    assert type(caught.value) is CloudError and "--wait" not in caught.value.remedy
    assert "aws ec2 describe-subnets --region us-east-1" in caught.value.remedy
    assert "aws ec2 create-default-vpc --region us-west-2" in caught.value.remedy
    assert left(cloud) == NOTHING
