"""Everything that costs, found by its tags over all regions."""

from datetime import timedelta

import pytest

from remote.control.cloud.pricing import costs, prices
from remote.control.config.inventory import Inventory
from remote.control.errors import CloudError, PermissionDenied
from remote.control.project import identity


@pytest.fixture
def inventory(cloud, monkeypatch):
    monkeypatch.setattr(
        prices, "_asked", lambda *_: None
    )  # moto has no Price List: the table speaks, without delay
    boxes = {
        "trainer": {
            "provider": "ec2",
            "region": "us-east-1",
            "fallbacks": [{"region": "eu-west-1"}],
        }
    }
    found = Inventory.model_validate({"default_box": "trainer", "boxes": boxes})
    found.boxes["trainer"] = cloud.entry.model_copy(
        update={"fallbacks": found.boxes["trainer"].fallbacks}
    )
    return found


@pytest.fixture
def make(cloud):
    """Makes things as Windlass does, tagged for a box."""
    return Maker(cloud)


class Maker:
    def __init__(self, cloud):
        self.cloud = cloud

    def tags(self, kind, box="trainer"):
        return [
            {
                "ResourceType": kind,
                "Tags": [
                    {"Key": key, "Value": value} for key, value in identity.tags(box, {}).items()
                ],
            }
        ]

    def instance(self, region="us-east-1", box="trainer", kind="g5.2xlarge", spot=False, gb=200):
        asked = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
        disk = [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {"VolumeSize": gb, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ]
        answer = (
            self.cloud.endpoint.in_region(region)
            .client("ec2")
            .run_instances(
                ImageId=self.cloud.entry.ami,
                InstanceType=kind,
                MinCount=1,
                MaxCount=1,
                BlockDeviceMappings=disk,
                TagSpecifications=self.tags("instance", box) + self.tags("volume", box),
                **asked,
            )
        )
        return answer["Instances"][0]

    def volume(self, gb=50, box="trainer"):
        made = self.cloud.ec2.create_volume(
            AvailabilityZone="us-east-1a",
            Size=gb,
            VolumeType="gp3",
            TagSpecifications=self.tags("volume", box),
        )
        return made["VolumeId"]


def of_kind(found, kind):
    return [item for item in found.items if item.kind == kind]


def test_boxes_and_disks_of_all_regions_are_in_the_sum(cloud, inventory, make):
    make.instance()
    make.instance("eu-west-1", box="stray")
    make.volume(100)
    found = costs.survey(inventory)
    assert {(item.box, item.region, item.state) for item in of_kind(found, "instance")} == {
        ("trainer", "us-east-1", "running"),
        ("stray", "eu-west-1", "running"),
    }
    assert sorted(item.what for item in of_kind(found, "volume")) == [
        "100 GB gp3",
        "200 GB gp3",
        "200 GB gp3",
    ]
    disks = (300 * 0.08 + 200 * 0.088) / 730
    compute = 1.212 + prices.tabled("compute g5.2xlarge", "eu-west-1").usd + 2 * 0.005
    assert (
        found.hourly_usd == pytest.approx(compute + disks) and found.is_billed and not found.errors
    )
    told = "\n".join(costs.sentences(found))
    assert (
        f"${found.hourly_usd:.3f} an hour, 2 boxes running" in told and "bills nothing" not in told
    )


def test_what_others_own_is_not_ours(cloud, inventory):
    cloud.ec2.run_instances(
        ImageId=cloud.entry.ami, InstanceType="g5.2xlarge", MinCount=1, MaxCount=1
    )
    cloud.ec2.create_volume(AvailabilityZone="us-east-1a", Size=10)
    found = costs.survey(inventory)
    assert not found.items and costs.sentences(found) == ["nothing of this project costs anything"]


def test_an_adopted_instance_counts_with_its_disk(cloud, inventory):
    made = cloud.ec2.run_instances(
        ImageId=cloud.entry.ami, InstanceType="g4dn.xlarge", MinCount=1, MaxCount=1
    )["Instances"][0]
    inventory.boxes["trainer"] = cloud.entry.model_copy(update={"instance_id": made["InstanceId"]})
    found = costs.survey(inventory)
    assert [item.id for item in of_kind(found, "instance")] == [made["InstanceId"]] and len(
        of_kind(found, "volume")
    ) == 1


def test_a_stopped_box_costs_its_disk_alone(cloud, inventory, make):
    cloud.ec2.stop_instances(InstanceIds=[make.instance()["InstanceId"]])
    found = costs.survey(inventory)
    assert found.hourly_usd == pytest.approx(16 / 730) and found.so_far_usd == 0
    assert of_kind(found, "instance")[0].hourly_usd == 0


def test_what_this_start_has_cost_includes_the_disk(cloud, inventory, make):
    make.instance()
    place, *_ = costs.places(inventory)
    later = costs.Place(
        place.there, now=place.instances[0].facts["LaunchTime"] + timedelta(hours=2)
    )
    instance, _ = costs._items(later)
    assert instance.so_far_usd == pytest.approx(2 * (1.212 + 0.005 + 16 / 730))


def test_images_and_snapshots_cost_their_snapshots(cloud, inventory, make):
    instance = make.instance()
    image = cloud.ec2.create_image(
        InstanceId=instance["InstanceId"], Name="mine", TagSpecifications=make.tags("image")
    )["ImageId"]
    found = costs.survey(inventory)
    assert [item.id for item in of_kind(found, "image")] == [image] and of_kind(found, "image")[
        0
    ].hourly_usd == 0
    snapshots = of_kind(found, "snapshot")
    assert snapshots and all(
        item.hourly_usd > 0 and item.note.startswith("at most") for item in snapshots
    )


def test_only_an_idle_address_costs_by_itself(cloud, inventory, make):
    made = cloud.ec2.allocate_address(Domain="vpc", TagSpecifications=make.tags("elastic-ip"))
    (item,) = costs.survey(inventory).items
    assert (item.id, item.hourly_usd, item.state) == (made["AllocationId"], 0.005, "idle")
    instance = make.instance()
    cloud.ec2.associate_address(
        AllocationId=made["AllocationId"], InstanceId=instance["InstanceId"]
    )
    assert of_kind(costs.survey(inventory), "address")[0].hourly_usd == 0


def test_a_type_without_price_is_named_and_the_sum_says_at_least(cloud, inventory, make):
    instance = make.instance(kind="x1.32xlarge")
    found = costs.survey(inventory)
    assert found.unpriced == [instance["InstanceId"]]
    told = "\n".join(costs.sentences(found))
    assert "at least $" in told and f"no price is known for {instance['InstanceId']}" in told
    assert costs.record(found)["unpriced"] == [instance["InstanceId"]] and len(
        costs.report(found)[0]
    ) == len(costs.COLUMNS)


def test_a_region_that_cannot_be_asked_is_named(cloud, inventory, make, monkeypatch):
    make.instance()
    items = costs._items

    def refuse(place):
        if place.there.region == "eu-west-1":
            raise PermissionDenied("the credentials may not do that", why="UnauthorizedOperation")
        return items(place)

    monkeypatch.setattr(costs, "_items", refuse)
    found = costs.survey(inventory)
    assert (
        found.errors == ["eu-west-1: the credentials may not do that (UnauthorizedOperation)"]
        and found.items
    )
    assert any("not asked: eu-west-1" in sentence for sentence in costs.sentences(found))


def test_when_no_region_can_be_asked_that_is_the_error(cloud, inventory, monkeypatch):
    def refuse(place):
        raise CloudError("the cloud's endpoint does not answer")

    monkeypatch.setattr(costs, "_items", refuse)
    with pytest.raises(CloudError, match="does not answer"):
        costs.survey(inventory)


def test_everywhere_is_every_region_of_the_account(cloud, inventory, make, monkeypatch):
    enabled = costs._enabled
    assert len(enabled(cloud.endpoint)) > 10
    # Of these only one is asked: a region that moto meets for the first time takes a second.
    monkeypatch.setattr(
        costs,
        "_enabled",
        lambda home: [region for region in enabled(home) if region == "ap-south-1"],
    )
    make.instance("ap-south-1")
    assert not costs.survey(inventory).items
    assert {item.region for item in costs.survey(inventory, everywhere=True).items} == {
        "ap-south-1"
    }
