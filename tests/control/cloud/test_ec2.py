"""The life of a box over the EC2 API, against moto's wire."""

import dataclasses
import stat

import pytest
from botocore.exceptions import ClientError

from remote.control.cloud import boxes
from remote.control.cloud.access import keys
from remote.control.cloud.ec2 import instances as instances_module
from remote.control.errors import (
    BoxStopped,
    BoxUnreachable,
    CapacityError,
    CloudError,
    ConfigError,
    HostKeyMismatch,
    LoginRefused,
)
from remote.control.project import identity
from remote.control.ssh import known_hosts

from .conftest import HOST_KEY, OTHER_KEY


def instances(cloud):
    return [each.facts for each in instances_module.of_project(cloud.endpoint)]


def test_launch_makes_one_guarded_instance(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    (instance,) = instances(cloud)
    assert (box.id, box.state, box.user, box.hourly_usd) == (
        instance["InstanceId"],
        "running",
        "ubuntu",
        1.212,
    )
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    attribute = cloud.ec2.describe_instance_attribute(
        InstanceId=box.id, Attribute="instanceInitiatedShutdownBehavior"
    )
    assert attribute["InstanceInitiatedShutdownBehavior"]["Value"] == "stop"
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags == {
        "Name": "windlass-trainer",
        "windlass:box": "trainer",
        "windlass:project": identity.project_mark(),
        "team": "research",
    }


def test_the_disk_is_encrypted_tagged_and_goes_with_the_box(cloud):
    boxes.ready(cloud.entry, cloud.say)
    (volume,) = cloud.ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["Encrypted"], volume["VolumeType"]) == (40, True, "gp3")
    assert {tag["Key"] for tag in volume["Tags"]} >= {"windlass:box", "windlass:project", "Name"}
    boxes.terminate(cloud.entry)
    assert cloud.ec2.describe_volumes()["Volumes"] == []


def test_port_22_is_open_for_the_caller_alone_and_follows_it(cloud):
    boxes.ready(cloud.entry, cloud.say)
    group = instances(cloud)[0]["SecurityGroups"][0]["GroupId"]
    theirs = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": "203.0.113.0/24", "Description": "the office"}],
    }
    assert open_to(cloud, group) == {"192.0.2.7/32"}
    cloud.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[theirs])
    cloud.endpoint = dataclasses.replace(cloud.endpoint, cidr="198.51.100.9/32")
    boxes.start(cloud.entry, cloud.say)
    assert open_to(cloud, group) == {"198.51.100.9/32", "203.0.113.0/24"}


def open_to(cloud, group):
    (described,) = cloud.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert all(
        (rule["FromPort"], rule["ToPort"]) == (22, 22) for rule in described["IpPermissions"]
    )
    return {each["CidrIp"] for rule in described["IpPermissions"] for each in rule["IpRanges"]}


def test_a_second_launch_finds_the_first(cloud):
    assert boxes.ready(cloud.entry, cloud.say) == boxes.ready(cloud.entry, cloud.say)
    assert len(instances(cloud)) == 1


def test_a_stopped_box_is_started_not_doubled_and_keeps_its_pin(cloud):
    first = boxes.ready(cloud.entry, cloud.say)
    assert boxes.stop(cloud.entry).state == "stopped"
    with pytest.raises(BoxStopped, match="stopped") as caught:
        boxes.running(cloud.entry)
    assert caught.value.remedy == "`./inv start trainer`"
    cloud.console.says("a restarted box shows no key block")
    again = boxes.ready(cloud.entry, cloud.say)
    assert (again.id, again.state) == (first.id, "running")
    assert len(instances(cloud)) == 1
    assert known_hosts.pinned(first.id) == [HOST_KEY]
    assert boxes.running(cloud.entry).id == first.id


def test_stop_and_terminate_are_idempotent(cloud):
    assert boxes.stop(cloud.entry) is None
    assert boxes.terminate(cloud.entry) is None
    box = boxes.ready(cloud.entry, cloud.say)
    assert boxes.stop(cloud.entry).id == boxes.stop(cloud.entry).id == box.id
    assert boxes.terminate(cloud.entry).state == "terminated"
    assert boxes.terminate(cloud.entry) is None


def test_terminate_leaves_nothing_behind_and_the_next_launch_is_new(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    boxes.terminate(cloud.entry)
    assert known_hosts.pinned(box.id) == []
    assert cloud.ec2.describe_volumes()["Volumes"] == []
    groups = cloud.ec2.describe_security_groups()["SecurityGroups"]
    assert not [group for group in groups if group["GroupName"] == identity.group_name("trainer")]
    assert boxes.find(cloud.entry) is None
    assert boxes.ready(cloud.entry, cloud.say).id != box.id


def test_two_instances_of_one_name_are_an_error_that_names_both(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    tags = [{"Key": key, "Value": value} for key, value in identity.tags("trainer", {}).items()]
    answer = cloud.ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    second = answer["Instances"][0]["InstanceId"]
    with pytest.raises(CloudError) as caught:
        boxes.ready(cloud.entry, cloud.say)
    assert box.id in caught.value.why
    assert second in caught.value.why
    assert "./inv terminate trainer --id" in caught.value.remedy
    boxes.terminate(cloud.entry, instance_id=second)
    assert boxes.find(cloud.entry).id == box.id
    assert known_hosts.pinned(box.id) == [HOST_KEY]


def test_an_instance_that_is_none_of_the_boxs_is_never_terminated(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    with pytest.raises(CloudError, match="no instance of box"):
        boxes.terminate(cloud.entry, instance_id="i-0123456789abcdef0")
    assert boxes.find(cloud.entry).id == box.id


def test_a_lost_key_file_keeps_nobody_from_stopping_the_box(cloud, tmp_path):
    boxes.ready(cloud.entry, cloud.say)
    lost = cloud.entry.model_copy(update={"ssh_key": tmp_path / "lost"})
    for refuse in (boxes.running, lambda entry: boxes.ready(entry, cloud.say)):
        with pytest.raises(ConfigError):
            refuse(lost)
    assert boxes.stop(lost).state == "stopped"
    assert boxes.terminate(lost).state == "terminated"


def test_boxes_of_another_project_are_not_ours(cloud, monkeypatch, tmp_path):
    mine = boxes.ready(cloud.entry, cloud.say)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "other"))
    assert boxes.find(cloud.entry) is None
    assert boxes.ready(cloud.entry, cloud.say).id != mine.id


def test_no_host_key_in_the_console_means_no_box(cloud):
    cloud.console.says("no key here")
    with pytest.raises(BoxUnreachable, match="host key") as caught:
        boxes.ready(cloud.entry, cloud.say)
    assert "./inv start trainer" in caught.value.remedy
    with pytest.raises(BoxUnreachable, match="not known here"):
        boxes.running(cloud.entry)
    cloud.console.shows(HOST_KEY)
    assert known_hosts.pinned(boxes.start(cloud.entry, cloud.say).id) == [HOST_KEY]


def test_another_key_in_the_console_is_a_mismatch(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    cloud.console.shows(OTHER_KEY)
    with pytest.raises(HostKeyMismatch) as caught:
        boxes.start(cloud.entry, cloud.say)
    assert "./inv box.forget trainer" in caught.value.remedy
    assert known_hosts.pinned(box.id) == [HOST_KEY]
    assert boxes.forget_host_key(cloud.entry)
    boxes.start(cloud.entry, cloud.say)
    assert known_hosts.pinned(box.id) == [OTHER_KEY]


def test_silent_ssh_says_what_the_console_says(cloud):
    cloud.endpoint = dataclasses.replace(cloud.endpoint, ssh_port=1)
    cloud.console.says("kernel panic\n")
    with pytest.raises(BoxUnreachable) as caught:
        boxes.ready(cloud.entry, cloud.say)
    assert "kernel panic" in caught.value.why
    assert "./inv stop trainer" in caught.value.kept
    assert any("waiting for SSH" in line for line in cloud.said)


def test_a_box_with_another_key_is_named_before_ssh_refuses(cloud):
    boxes.ready(cloud.entry, cloud.say)
    keys.own_key_path().unlink()
    with pytest.raises(LoginRefused, match="does not fit"):
        boxes.ready(cloud.entry, cloud.say)


def test_the_own_key_is_private_imported_and_reused(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    assert box.key == keys.own_key_path()
    assert stat.S_IMODE(box.key.stat().st_mode) == 0o600
    (pair,) = cloud.ec2.describe_key_pairs()["KeyPairs"]
    assert pair["KeyName"] == instances(cloud)[0]["KeyName"] == keys.identity_of(cloud.entry).name
    assert boxes.ready(cloud.entry, cloud.say).key == box.key


def test_a_plan_costs_and_changes_nothing(cloud):
    before = cloud.ec2.describe_security_groups()["SecurityGroups"]
    plan = boxes.plan(cloud.entry)
    facts = dict(plan.facts)
    assert (plan.action, plan.is_billed, plan.hourly_usd) == ("launch it", True, 1.212)
    assert facts["image"].startswith("ami-12c6146b")
    assert "$1.212/h" in facts["price"]
    assert "June 2026" in facts["price"]
    assert instances(cloud) == []
    assert cloud.ec2.describe_key_pairs()["KeyPairs"] == []
    assert cloud.ec2.describe_security_groups()["SecurityGroups"] == before
    assert not keys.own_key_path().exists()


def test_the_image_may_be_a_parameter(cloud):
    cloud.endpoint.client("ssm").put_parameter(
        Name="/mine/image", Value="ami-12c6146b", Type="String"
    )
    named = cloud.entry.model_copy(update={"ami": "/mine/image"})
    assert dict(boxes.plan(named).facts)["image"].startswith("ami-12c6146b")
    with pytest.raises(CloudError, match="image is not to be had"):
        boxes.plan(cloud.entry.model_copy(update={"ami": "/not/there"}))


def test_an_unknown_subnet_is_explained(cloud):
    with pytest.raises(CloudError, match="subnet") as caught:
        boxes.ready(cloud.entry.model_copy(update={"subnet": "subnet-00000000"}), cloud.say)
    assert "`subnet:` of trainer" in caught.value.remedy


OFFER = "g5.2xlarge on-demand in us-east-1"


def test_a_used_up_token_leads_to_the_next_generation(cloud):
    tokens = refuse(cloud, "IdempotentInstanceTerminated", times=2)
    box = boxes.ready(cloud.entry, cloud.say)
    assert tokens == [
        identity.client_token("trainer", generation, OFFER) for generation in range(3)
    ]
    assert len(set(tokens)) == 3
    assert [instance["InstanceId"] for instance in instances(cloud)] == [box.id]


def test_a_repeated_launch_sends_the_same_token_until_the_box_is_terminated(cloud):
    tokens = refuse(cloud, "InsufficientInstanceCapacity", times=2)
    for _ in range(2):
        with pytest.raises(CapacityError, match="has no g5"):
            boxes.ready(cloud.entry, cloud.say)
    boxes.ready(cloud.entry, cloud.say)
    boxes.terminate(cloud.entry)
    boxes.ready(cloud.entry, cloud.say)
    assert tokens == [
        identity.client_token("trainer", generation, OFFER) for generation in (0, 0, 0, 1)
    ]


def test_a_changed_inventory_after_a_cut_off_launch_finds_its_instance(cloud, monkeypatch):
    first = boxes.ready(cloud.entry, cloud.say)
    refuse(cloud, "IdempotentParameterMismatch", times=1)
    shows = iter([[], instances_module.of_box("trainer", [cloud.endpoint])])
    monkeypatch.setattr(
        instances_module,
        "of_box",
        lambda name, places: next(shows, instances_module.of_project(cloud.endpoint)),
    )
    assert boxes.ready(cloud.entry, cloud.say).id == first.id
    assert len(instances(cloud)) == 1


def refuse(cloud, code, times):
    """Refuse the next RunInstances with that code; returns the list that gathers the token of
    each."""
    tokens = []

    def answer(params, **_):
        tokens.append(params["body"].get("ClientToken"))
        if len(tokens) <= times:
            raise ClientError({"Error": {"Code": code, "Message": "refused"}}, "RunInstances")

    name = "before-call.ec2.RunInstances"
    cloud.ec2.meta.events.register(name, answer)
    cloud.undo.append(lambda: cloud.ec2.meta.events.unregister(name, answer))
    return tokens
