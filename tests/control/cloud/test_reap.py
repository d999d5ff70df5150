"""What is beyond its clocks or left over is found and removed; what is within them is never
touched."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from remote.contract.job.clocks import Limits, Reading
from remote.control.cloud import reap as reaper
from remote.control.cloud.ec2 import images
from remote.control.cloud.pricing import costs, prices
from remote.control.config.inventory import Clocks, Inventory
from remote.control.project import history, identity

LIMITS = Limits(
    idle=1800, lifetime=43200, dollars=25, stopped=1209600, stuck=1800, stuck_grace=3600, grace=600
)
WATCHED, SILENT = Reading(0, "busy", LIMITS), Reading(0, "silent", LIMITS)


@pytest.fixture
def lab(cloud, monkeypatch):
    """A box `trainer` in the inventory; `lab.later` moves the clock of `reap`. Prices are those of
    the table."""
    monkeypatch.setattr(prices, "_asked", lambda *_: None)
    inventory = Inventory.model_validate(
        {"default_box": "trainer", "boxes": {"trainer": {"provider": "ec2", "region": "us-east-1"}}}
    )
    inventory.boxes["trainer"] = cloud.entry
    made = SimpleNamespace(
        cloud=cloud, inventory=inventory, later=timedelta(), reading=None, said=[]
    )
    places = costs.places
    monkeypatch.setattr(
        costs,
        "places",
        lambda *args: [replace(place, now=place.now + made.later) for place in places(*args)],
    )
    made.tags = lambda kind, box="trainer": [
        {
            "ResourceType": kind,
            "Tags": [{"Key": key, "Value": value} for key, value in identity.tags(box, {}).items()],
        }
    ]
    made.finds = lambda everything=False: reaper.Judge(
        inventory, lambda entry: made.reading, everything
    ).finds()[0]
    made.reap = lambda everything=False: reaper.all_taken(
        made.finds(everything), inventory, made.said.append
    )
    made.clocks = lambda **clocks: inventory.boxes.update(
        trainer=cloud.entry.model_copy(update={"clocks": Clocks.model_validate(clocks)})
    )
    return made


def launch(lab, box="trainer", **asked):
    answer = lab.cloud.ec2.run_instances(
        ImageId=lab.cloud.entry.ami,
        InstanceType="g5.2xlarge",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=lab.tags("instance", box) + lab.tags("volume", box),
        **asked,
    )
    return answer["Instances"][0]["InstanceId"]


def stop(lab, instance_id, is_told=True):
    lab.cloud.ec2.stop_instances(InstanceIds=[instance_id])
    if not is_told:  # as EC2 does where an instance shuts itself down
        from moto.ec2.models import ec2_backends

        ec2_backends["123456789012"]["us-east-1"].get_instance(instance_id)._reason = ""


def state(lab, instance_id):
    return lab.cloud.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0][
        "Instances"
    ][0]["State"]["Name"]


def one(lab, everything=False):
    (find,) = lab.finds(everything)
    return find


def test_a_box_within_its_clocks_is_not_even_shown(lab):
    launch(lab)
    lab.later = timedelta(hours=12)
    assert lab.finds() == []


def test_a_box_beyond_its_lifetime_whose_watchdog_is_silent_is_stopped(lab):
    box = launch(lab)
    lab.later, lab.reading = timedelta(hours=13), SILENT
    find = one(lab)
    assert find.action == "stop" and "beyond its lifetime of 12.0 h" in find.why
    assert lab.reap() == {} and state(lab, box) == "stopped"
    assert history.last("trainer", "stopped")["by"] == "reap"


def test_a_box_whose_clock_was_moved_is_left_alone(lab):
    box = launch(lab)
    lab.later, lab.reading = timedelta(hours=40), WATCHED
    assert lab.finds(everything=True) == [] and lab.reap() == {} and state(lab, box) == "running"


def test_a_box_that_was_started_again_after_the_look_is_left_alone(lab):
    box = launch(lab)
    lab.later = timedelta(hours=13)
    find = one(lab)
    lab.cloud.ec2.stop_instances(InstanceIds=[box])
    stale = replace(find.place)
    (seen,) = find.place.instances
    stale.__dict__["instances"] = [
        replace(seen, facts={**seen.facts, "LaunchTime": datetime(2020, 1, 1, tzinfo=UTC)})
    ]
    lab.cloud.ec2.start_instances(InstanceIds=[box])
    reaper.take(replace(find, place=stale), lab.inventory, lab.said.append)
    assert state(lab, box) == "running" and "no longer as it was" in lab.said[-1]


def test_a_running_spot_box_is_only_told_as_it_cannot_be_stopped(lab):
    box = launch(lab, InstanceMarketOptions={"MarketType": "spot"})
    lab.later = timedelta(hours=13)
    find = one(lab)
    assert find.action == "" and "--everything" in find.why
    assert one(lab, everything=True).action == "terminate"
    assert lab.reap() == {} and state(lab, box) == "running"


def test_a_box_stopped_for_too_long_goes_with_all_that_is_its(lab):
    lab.clocks(stopped="7d")
    box = launch(lab)
    stop(lab, box)
    lab.later = timedelta(days=6)
    find = one(lab)
    assert find.action == "" and find.until and lab.reap() == {} and state(lab, box) == "stopped"
    lab.later = timedelta(days=8)
    assert (
        one(lab).action == "terminate" and "stopped for 8 days, longer than 7 days" in one(lab).why
    )
    assert lab.reap() == {} and state(lab, box) == "terminated" and lab.finds() == []


def test_where_ec2_does_not_say_since_when_the_first_look_counts(lab):
    lab.clocks(stopped="7d")
    stop(lab, box := launch(lab), is_told=False)
    assert one(lab).mark and "counted from now" in one(lab).why
    lab.reap()
    find = one(lab)
    assert not find.mark and find.action == ""
    assert find.until == pytest.approx(
        datetime.now(UTC) + timedelta(days=7), abs=timedelta(minutes=1)
    )
    lab.later = timedelta(days=8)
    assert lab.reap() == {} and state(lab, box) == "terminated"


def test_a_mark_of_an_earlier_stop_means_nothing(lab):
    stop(lab, box := launch(lab), is_told=False)
    old = (datetime.now(UTC) - timedelta(days=90)).isoformat()
    lab.cloud.ec2.create_tags(Resources=[box], Tags=[{"Key": identity.UNUSED_TAG, "Value": old}])
    assert one(lab).mark and one(lab).action == ""


def test_what_the_inventory_does_not_name_is_told_and_taken_only_when_asked_for(lab):
    stop(lab, box := launch(lab, "forgotten"))
    lab.later = timedelta(days=20)
    assert one(lab).action == "" and "not in inventory.yaml" in one(lab).why
    assert lab.reap() == {} and state(lab, box) == "stopped"
    assert lab.reap(everything=True) == {} and state(lab, box) == "terminated"


def test_what_a_fresh_box_replaced_goes_once_that_is_there(lab):
    old = launch(lab)
    lab.cloud.ec2.create_tags(
        Resources=[old], Tags=[{"Key": identity.REPLACED_TAG, "Value": "2026-11-21T12:00:00+00:00"}]
    )
    assert lab.finds() == []
    new = launch(lab)
    assert one(lab).id == old and lab.reap() == {}
    assert (state(lab, old), state(lab, new)) == ("terminated", "running")


def test_an_adopted_instance_is_never_taken(lab):
    stop(lab, box := launch(lab))
    lab.cloud.ec2.create_tags(
        Resources=[box], Tags=[{"Key": identity.ADOPTED_TAG, "Value": "2026-01-01"}]
    )
    lab.later = timedelta(days=90)
    find = one(lab, everything=True)
    assert (
        find.action == ""
        and "./inv terminate trainer" in find.why
        and lab.reap(everything=True) == {}
    )
    assert state(lab, box) == "stopped"


def test_a_disk_attached_to_nothing_goes_after_the_clock_or_when_asked_for(lab):
    def make():
        return lab.cloud.ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=50, TagSpecifications=lab.tags("volume")
        )["VolumeId"]

    make()
    assert one(lab).mark and one(lab).monthly_usd > 0
    assert lab.reap() == {} and one(lab).action == ""
    lab.later = timedelta(days=15)
    assert one(lab).action == "delete" and lab.reap() == {} and lab.finds() == []
    make()
    assert lab.reap(everything=True) == {} and lab.finds() == []


def test_an_unused_group_goes_but_not_while_its_box_is_being_made(lab):
    vpc = lab.cloud.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    asked = {"Description": "d", "VpcId": vpc, "TagSpecifications": lab.tags("security-group")}
    group = lab.cloud.ec2.create_security_group(GroupName="windlass-left", **asked)["GroupId"]
    history.append("trainer", "asking", region="us-east-1")
    assert lab.finds() == []
    lab.later = timedelta(hours=1)
    assert one(lab).id == group and lab.reap() == {} and lab.finds() == []
    used = lab.cloud.ec2.create_security_group(GroupName="windlass-used", **asked)["GroupId"]
    launch(lab, SecurityGroupIds=[used])
    assert lab.finds() == []


def test_an_unused_key_pair_goes(lab):
    for name in ("windlass-unused", "windlass-used"):
        lab.cloud.ec2.create_key_pair(KeyName=name, TagSpecifications=lab.tags("key-pair"))
    launch(lab, KeyName="windlass-used")
    assert lab.finds() == []  # it may be of a launch that has only begun
    lab.later = timedelta(hours=1)
    assert one(lab).id == "windlass-unused" and lab.reap() == {}
    assert [pair["KeyName"] for pair in lab.cloud.ec2.describe_key_pairs()["KeyPairs"]] == [
        "windlass-used"
    ]


def test_what_a_move_left_goes_and_baked_images_stay(lab):
    box = launch(lab)
    for kind in (images.BAKED, images.MOVE):
        tags = lab.tags("image")
        tags[0]["Tags"].append({"Key": images.KIND_TAG, "Value": kind})
        lab.cloud.ec2.create_image(InstanceId=box, Name=kind, TagSpecifications=tags)
    volume = lab.cloud.ec2.create_volume(AvailabilityZone="us-east-1a", Size=5)["VolumeId"]
    snapshot = lab.cloud.ec2.create_snapshot(
        VolumeId=volume, TagSpecifications=lab.tags("snapshot")
    )["SnapshotId"]
    assert {(find.kind, find.action) for find in lab.finds()} == {("image", ""), ("snapshot", "")}
    assert lab.reap(everything=True) == {} and lab.finds() == []
    left = lab.cloud.ec2.describe_images(
        Owners=["self"], Filters=[{"Name": "name", "Values": ["baked", "move"]}]
    )["Images"]
    assert [image["Name"] for image in left] == ["baked"]
    assert not lab.cloud.ec2.describe_snapshots(
        Filters=[{"Name": "snapshot-id", "Values": [snapshot]}]
    )["Snapshots"]


def test_an_idle_address_is_released(lab):
    lab.cloud.ec2.allocate_address(Domain="vpc", TagSpecifications=lab.tags("elastic-ip"))
    assert one(lab).monthly_usd == pytest.approx(3.65) and lab.reap() == {} and lab.finds() == []


def test_what_others_own_is_never_found(lab):
    lab.cloud.ec2.create_volume(AvailabilityZone="us-east-1a", Size=5)
    lab.cloud.ec2.allocate_address(Domain="vpc")
    lab.cloud.ec2.create_key_pair(KeyName="theirs")
    theirs = lab.cloud.ec2.run_instances(ImageId=lab.cloud.entry.ami, MinCount=1, MaxCount=1)[
        "Instances"
    ][0]["InstanceId"]
    stop(lab, theirs)
    lab.later = timedelta(days=900)
    assert lab.finds(everything=True) == []


def test_what_fails_is_told_and_the_others_go_on(lab):
    for _ in range(2):
        lab.cloud.ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=5, TagSpecifications=lab.tags("volume")
        )
    finds = lab.finds(everything=True)
    lab.cloud.ec2.delete_volume(VolumeId=finds[0].id)
    errors = reaper.all_taken(finds, lab.inventory, lab.said.append)
    assert list(errors) == [finds[0].name] and lab.finds() == []


def test_rows_and_records_tell_all(lab):
    stop(lab, launch(lab))
    lab.later = timedelta(days=20)
    (row,) = reaper.report(lab.finds())
    assert len(row) == len(reaper.COLUMNS) and row[-1] == "terminate"
    assert reaper.record(one(lab))["action"] == "terminate" and reaper.record(one(lab))["due"]
