"""Images of the embedded cloud from outside: they carry the disk."""

import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from remote.control.cloud import embedded

TAGS = [{"Key": "made", "Value": "here"}]
DEEP_LEARNING_AMI = "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.8-ubuntu-24.04/latest/ami-id"


@pytest.fixture(scope="module")
def cloud(embedded_project):
    return Cloud(embedded.endpoint())


class Cloud:
    def __init__(self, url):
        self.url = url

    def api(self, service="ec2", region="us-east-1"):
        config = Config(retries={"total_max_attempts": 1})
        return boto3.session.Session("test", "test", region_name=region).client(
            service, endpoint_url=self.url, config=config
        )

    def launch(self, image, region="us-east-1"):
        told = self.api(region=region).run_instances(
            ImageId=image,
            InstanceType="t3.large",
            MinCount=1,
            MaxCount=1,
            BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 31}}],
        )
        instance = told["Instances"][0]["InstanceId"]
        self.wait(instance, "running", region)
        return instance

    def wait(self, instance, state, region="us-east-1"):
        def now():
            return self.api(region=region).describe_instances(InstanceIds=[instance])[
                "Reservations"
            ][0]["Instances"][0]["State"]["Name"]

        eventually(lambda: now() == state)

    def disk(self, instance):
        return Path(embedded.describe(self.url, instance)["disk"])

    def image(self, image, region="us-east-1"):
        found = self.api(region=region).describe_images(ImageIds=[image])["Images"]
        return found[0] if found else None


def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def base(cloud):
    return cloud.api("ssm").get_parameter(Name=DEEP_LEARNING_AMI)["Parameter"]["Value"]


@pytest.fixture(scope="module")
def old(cloud, base):
    """A stopped instance with something on its disk."""
    instance = cloud.launch(base)
    disk = cloud.disk(instance)
    (disk / "models").mkdir()
    (disk / "models" / "weights").write_text("heavy")
    (disk / "absolute").symlink_to(disk / "models")
    (disk / "away").symlink_to("/usr/bin/env")
    cloud.api().stop_instances(InstanceIds=[instance])
    image = cloud.api().create_image(
        InstanceId=instance,
        Name="carried",
        TagSpecifications=[{"ResourceType": kind, "Tags": TAGS} for kind in ("image", "snapshot")],
    )["ImageId"]
    eventually(lambda: cloud.image(image)["State"] == "available")
    return instance, image


def test_an_image_tells_its_disk_and_its_tags(cloud, old):
    told = cloud.image(old[1])
    (disk,) = [mapping["Ebs"] for mapping in told["BlockDeviceMappings"]]
    assert (told["Tags"], told["Architecture"], disk["VolumeSize"]) == (TAGS, "x86_64", 31)
    (snapshot,) = cloud.api().describe_snapshots(SnapshotIds=[disk["SnapshotId"]])["Snapshots"]
    assert snapshot["Tags"] == TAGS


def test_a_box_launched_from_it_has_the_disk_and_keys_of_its_own(cloud, old):
    new = cloud.launch(old[1])
    disk = cloud.disk(new)
    assert (disk / "absolute" / "weights").read_text() == "heavy"
    assert (disk / "absolute").readlink() == disk / "models"
    assert (disk / "away").readlink() == Path("/usr/bin/env")
    keys = [
        (folder / ".host" / "ssh_host_ed25519_key.pub").read_text()
        for folder in (disk, cloud.disk(old[0]))
    ]
    assert keys[0] != keys[1]
    (disk / "models" / "weights").write_text("changed")
    cloud.api().terminate_instances(InstanceIds=[new])
    cloud.wait(new, "terminated")
    assert (cloud.disk(old[0]) / "models" / "weights").read_text() == "heavy"


def test_the_same_name_twice_is_refused(cloud, old):
    with pytest.raises(ClientError, match=r"InvalidAMIName\.Duplicate"):
        cloud.api().create_image(InstanceId=old[0], Name="carried")


def test_a_copy_in_another_region_carries_the_disk_and_a_deregistered_image_is_gone(cloud, old):
    tags = [{"ResourceType": kind, "Tags": TAGS} for kind in ("image", "snapshot")]
    west = cloud.api(region="us-west-2")
    copied = west.copy_image(
        SourceImageId=old[1], SourceRegion="us-east-1", Name="there", TagSpecifications=tags
    )["ImageId"]
    assert cloud.image(copied, "us-west-2")["Tags"] == TAGS
    new = cloud.launch(copied, "us-west-2")
    assert (cloud.disk(new) / "models" / "weights").read_text() == "heavy"
    west.terminate_instances(InstanceIds=[new])
    snapshot = cloud.image(copied, "us-west-2")["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    with pytest.raises(ClientError, match="InUse"):
        west.delete_snapshot(SnapshotId=snapshot)
    west.deregister_image(ImageId=copied)
    west.delete_snapshot(SnapshotId=snapshot)
    assert cloud.image(copied, "us-west-2") is None
    assert list((embedded.folder() / "images").iterdir()) == [embedded.folder() / "images" / old[1]]


def test_images_survive_the_cloud_itself(cloud, old):
    embedded.down()
    cloud.url = embedded.endpoint()
    assert cloud.image(old[1])["State"] == "available"
    new = cloud.launch(old[1])
    assert (cloud.disk(new) / "models" / "weights").read_text() == "heavy"
