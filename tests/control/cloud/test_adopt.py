"""`instance_id:` an instance that somebody else made, of any type, as a box."""

import dataclasses

import pytest

from remote.control.cloud import boxes
from remote.control.cloud.ec2 import instances
from remote.control.errors import CloudError, LoginRefused
from remote.control.project import history, identity
from remote.control.ssh import known_hosts

from .conftest import HOST_KEY


@pytest.fixture
def theirs(cloud):
    """A stopped g4dn.xlarge in us-west-2 with a name and a group of its owner's."""
    ec2 = cloud.endpoint.in_region("us-west-2").client("ec2")
    group = ec2.create_security_group(GroupName="the office", Description="theirs")["GroupId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "anna's"}]}]
    made = ec2.run_instances(
        ImageId="ami-12c6146b",
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        KeyName="anna",
        SecurityGroupIds=[group],
        TagSpecifications=tags,
    )
    instance_id = made["Instances"][0]["InstanceId"]
    ec2.stop_instances(InstanceIds=[instance_id])
    return instance_id


@pytest.fixture
def entry(cloud, theirs, tmp_path):
    from remote.control.cloud.access import keys

    key = tmp_path / "anna.pem"
    key.write_bytes(keys._new_key())
    key.chmod(0o600)
    return cloud.entry.model_copy(
        update={"instance_id": theirs, "region": "us-west-2", "ssh_key": key}
    )


def there(cloud):
    return cloud.endpoint.in_region("us-west-2")


def test_a_stopped_instance_is_planned_started_and_tagged_as_ours_to_use(cloud, entry, theirs):
    plan = boxes.plan(entry)
    assert (plan.action, plan.existing.id) == ("start it", theirs)
    assert "`instance_id:` names it" in plan.why
    armed = []
    box = boxes.ready(entry, cloud.say, set_deadlines=lambda _, box: armed.append(box))
    assert (box.id, box.state, box.instance_type, box.region) == (
        theirs,
        "running",
        "g4dn.xlarge",
        "us-west-2",
    )
    assert armed == [box]
    tags = {tag["Key"]: tag["Value"] for tag in instances.by_id(there(cloud), theirs).facts["Tags"]}
    assert tags.pop(identity.ADOPTED_TAG)
    assert tags == {
        "Name": "anna's",
        identity.BOX_TAG: "trainer",
        identity.PROJECT_TAG: identity.project_mark(),
    }
    assert [each["kind"] for each in history.read("trainer")] == ["adopted", "started", "phases"]
    assert boxes.ready(entry, cloud.say).id == theirs
    assert "adopted" in boxes.find(entry).note


def test_the_caller_is_let_in_by_a_group_beside_theirs(cloud, entry, theirs):
    boxes.ready(entry, cloud.say)
    groups = {
        group["GroupName"]
        for group in instances.by_id(there(cloud), theirs).facts["SecurityGroups"]
    }
    assert groups == {"the office", identity.group_name("trainer")}


def test_a_group_of_theirs_that_lets_the_caller_in_is_enough(cloud, entry, theirs):
    ec2 = there(cloud).client("ec2")
    (group,) = instances.by_id(there(cloud), theirs).facts["SecurityGroups"]
    rule = {
        "IpProtocol": "tcp",
        "FromPort": 0,
        "ToPort": 1024,
        "IpRanges": [{"CidrIp": "192.0.0.0/16"}],
    }
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[rule])
    boxes.ready(entry, cloud.say)
    assert [
        each["GroupName"] for each in instances.by_id(there(cloud), theirs).facts["SecurityGroups"]
    ] == ["the office"]


def test_it_is_ended_only_when_that_was_agreed_to(cloud, entry, theirs):
    boxes.ready(entry, cloud.say)
    with pytest.raises(CloudError, match="adopted") as caught:
        boxes.terminate(entry)
    assert "./inv stop trainer" in caught.value.remedy
    assert boxes.find(entry).state == "running"
    assert boxes.stop(entry).state == "stopped"
    assert boxes.terminate(entry, is_agreed=True).id == theirs
    ec2 = there(cloud).client("ec2")
    assert {group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]} == {
        "default",
        "the office",
    }


def test_another_projects_box_is_not_touched(cloud, entry, theirs):
    tags = [{"Key": identity.PROJECT_TAG, "Value": "somebody-12345678"}]
    there(cloud).client("ec2").create_tags(Resources=[theirs], Tags=tags)
    for refuse in (
        boxes.find,
        lambda entry: boxes.ready(entry, cloud.say),
        lambda entry: boxes.terminate(entry, is_agreed=True),
    ):
        with pytest.raises(CloudError, match="another project"):
            refuse(entry)
    assert instances.by_id(there(cloud), theirs).state == "stopped"


def test_an_id_that_is_nowhere_and_a_fresh_one_are_refused(cloud, entry):
    lost = entry.model_copy(update={"instance_id": "i-0123456789abcdef0"})
    for mode in ("auto", "reuse", "fresh"):
        with pytest.raises(CloudError, match="there is no instance i-0123456789abcdef0"):
            boxes.ready(lost, cloud.say, mode=mode)
    with pytest.raises(CloudError, match="never a fresh one"):
        boxes.plan(entry, "fresh")


def test_the_key_of_its_owner_is_asked_for_before_ssh_refuses(cloud, entry):
    with pytest.raises(LoginRefused) as caught:
        boxes.ready(entry.model_copy(update={"ssh_key": None}), cloud.say)
    assert "`ssh_key:` of trainer" in caught.value.remedy


def test_a_host_key_that_no_console_shows_may_stand_in_the_inventory(cloud, entry, theirs):
    cloud.console.says("booted long ago")
    cloud.endpoint = dataclasses.replace(cloud.endpoint)
    told = entry.model_copy(update={"host_key": HOST_KEY})
    assert boxes.ready(told, cloud.say).id == theirs
    assert known_hosts.pinned(theirs) == [HOST_KEY]


def test_the_listing_shows_it_before_and_after_it_is_adopted(cloud, entry, theirs):
    from types import SimpleNamespace

    inventory = SimpleNamespace(boxes={"trainer": entry})
    assert [(box.id, box.state) for box in boxes.listing(inventory)] == [(theirs, "stopped")]
    boxes.ready(entry, cloud.say)
    assert [(box.id, box.state) for box in boxes.listing(inventory)] == [(theirs, "running")]
