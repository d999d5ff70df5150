"""The IAM policies against what is really called: the typed commands on the embedded cloud, and
boxes that spill on their own.

Each request is held against the policy at the moment when it is made, with the tags that its
resources bear then; what other processes and boxes ask is counted by the cloud.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import tasks
from remote.control.cloud import embedded, reap
from remote.control.cloud.account import endpoint, policy
from remote.control.cloud.pricing import costs
from remote.control.config.inventory import load_inventory
from remote.control.project import CODE, identity
from remote.control.runs.engine import begin, drive, prepare_run
from remote.control.transport.connect import connect
from remote.control.transport.pull import bulk
from tests import iam
from tests.hub_server import tiny_model
from tests.integration.boxes import make_key, mark_environment
from tests.integration.typed import ended

NOT_CALLED = {
    "iam:CreateServiceLinkedRole": (
        "EC2 asks for it in the user's name, at the first spot request of an account"
    ),
    "ssm:ResumeSession": "AWS's session-manager-plugin asks, when a connection breaks",
    "ssm:TerminateSession": "AWS's session-manager-plugin asks, when it is told to end",
    "ssmmessages:OpenDataChannel": "AWS's session-manager-plugin asks, for the stream itself",
}
"""What the user's policy allows though nothing here can call it."""

A_FORM = "CreateBucket"
"""Under this name botocore signs the form by which a box writes; what is written so is looked at in
the bucket."""

INVENTORY = """\
default_box: lab
storage: {{bucket: kept}}
boxes:
  lab: {{provider: embedded, zone: us-east-1a, models: ["mistralai/Tiny=s3://models/tiny/"]}}
  near: {{provider: embedded, subnet: {subnet}, ami: /mine/image, reach: private, instance_type: t2.large}}
  spot: {{provider: embedded, market: spot, shared: {shared}}}
  own: {{provider: embedded, market: spot, shared: {shared}, instance_profile: windlass}}
  far: {{provider: embedded, reach: ssm}}
  brief: {{provider: embedded, instance_connect: true}}
  found: {{provider: embedded, instance_id: {theirs}, ssh_key: anna.pem}}
"""
PLAYBOOK = """\
name: small
stages:
  prepare: {uses: prepare, with: {dataset: rows.jsonl, validation_share: 0.3}}
  pull: {uses: pull, with: {train: prepare.train}}
finally: [stop]
"""


@dataclass
class Watch:
    """What the commands ask from this process, the demands that the policy refuses, and the
    statements that alone grant one."""

    policy: dict = field(default_factory=dict)
    called: Counter = field(default_factory=Counter)
    refused: set = field(default_factory=set)
    needed: set = field(default_factory=set)

    def of(self, made):
        """The same client, watched."""

        def look(params, model, **_):
            service, region = model.service_model.service_name, made.meta.region_name
            if model.name == A_FORM:
                return
            for demand in iam.demands(
                service, model.name, params, region, lambda name: tags_of(region, name)
            ):
                self.called[demand.action] += 1
                granting = iam.granting(self.policy, demand)
                if not granting:
                    self.refused.add(f"{model.name}: {demand}")
                self.needed.update(granting if len(granting) == 1 else [])

        made.meta.events.register("before-parameter-build", look, unique_id="the watch")
        return made


def tags_of(region, name):
    """The tags in the cloud now, asked by nobody."""
    others = OTHERS[region]
    if iam._kind(name) == "key-pair":
        found = others.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [name]}])[
            "KeyPairs"
        ]
        return {tag["Key"]: tag["Value"] for pair in found for tag in pair["Tags"]}
    found = others.describe_tags(Filters=[{"Name": "resource-id", "Values": [name]}])["Tags"]
    return {tag["Key"]: tag["Value"] for tag in found}


OTHERS = {}
"""EC2 by region, for those who are not Windlass."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The project's folder; its cloud is down afterwards, whatever went wrong."""
    folder = tmp_path_factory.mktemp("policy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(folder))
        yield folder
        embedded.down()
        OTHERS.clear()


@pytest.fixture(scope="module")
def life(root, tmp_path_factory):
    """One life of a project, by the commands that a person types."""
    watch, strange, make, watched = Watch(), Counter(), endpoint._embedded_client.__wrapped__, {}

    def other(service, region="us-east-1"):
        made = make(embedded.endpoint(), region, service)
        made.meta.events.register(
            "before-call", lambda model, **_: strange.update([iam.action_of(service, model.name)])
        )
        return made

    OTHERS.update({region: other("ec2", region) for region in ("us-east-1", "us-west-2")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            endpoint,
            "_embedded_client",
            lambda *place: watched.get(place) or watched.setdefault(place, watch.of(make(*place))),
        )
        inventory = prepare(root, tmp_path_factory.mktemp("shared"), other)
        watch.policy = policy.document("user", inventory)
        for scene in (a_box, set_up, entered, spilled, baked, moved, adopted, left_over):
            scene(root, other, patch)
    told = embedded.calls(embedded.endpoint())
    written = [
        each["Key"] for each in other("s3").list_objects_v2(Bucket="kept").get("Contents", ())
    ]
    return SimpleNamespace(
        inventory=inventory,
        watch=watch,
        told=Counter(told) - named("user", strange),
        written=written,
    )


def named(who, counts):
    return Counter({f"{who} {name}": count for name, count in counts.items()})


def prepare(root, shared, other):
    """What is there before Windlass: buckets with a model, a profile, an image's parameter, an
    instance of somebody else's."""
    s3, roles, parameters, ec2 = (other(service) for service in ("s3", "iam", "ssm", "ec2"))
    for bucket in ("kept", "models"):
        s3.create_bucket(Bucket=bucket)
    for name, content in tiny_model().items():
        s3.put_object(Bucket="models", Key=f"tiny/{name}", Body=content)
    roles.create_role(RoleName="windlass", AssumeRolePolicyDocument="{}")
    roles.create_instance_profile(InstanceProfileName="windlass")
    roles.add_role_to_instance_profile(InstanceProfileName="windlass", RoleName="windlass")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    parameters.put_parameter(Name="/mine/image", Value=image, Type="String")
    subnet = ec2.describe_subnets(
        Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}]
    )["Subnets"][0]["SubnetId"]
    make_key(root / "anna.pem")
    ec2.import_key_pair(KeyName="anna", PublicKeyMaterial=(root / "anna.pem.pub").read_bytes())
    group = ec2.create_security_group(GroupName="the office", Description="anna's")["GroupId"]
    asked = {
        "ImageId": image,
        "InstanceType": "t3.large",
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": "anna",
        "SecurityGroupIds": [group],
    }
    theirs = ec2.run_instances(**asked)["Instances"][0]["InstanceId"]
    (root / "inventory.yaml").write_text(
        INVENTORY.format(subnet=subnet, shared=shared, theirs=theirs)
    )
    (root / "small.yaml").write_text(PLAYBOOK)
    rows = [
        json.dumps({"instruction": f"Add {number} and 1.", "output": str(number + 1)})
        for number in range(12)
    ]
    (root / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return load_inventory()


def typed(*words, code=0):
    """One command, as typed, in this process."""
    left = ended(tasks.ns, *words)
    assert code is None or left == code, words


def a_box(_root, _other, patch):
    typed("doctor", "own", code=None)
    typed("launch", "lab", "--dry-run")
    typed("launch", "lab", "--yes")
    for words in (
        ("list",),
        ("status",),
        ("cost",),
        ("doctor", "lab"),
        ("box.clocks", "lab"),
        ("stop", "lab"),
    ):
        typed(*words, code=None if words[0] == "doctor" else 0)
    with patch.context() as few:
        few.setattr(
            costs, "_enabled", lambda home, enabled=costs._enabled: enabled(home)[:1]
        )  # clients for all of them take long
        typed("cost", "--everywhere")
    with patch.context() as moved:
        moved.setattr(endpoint.EmbeddedEndpoint, "caller_cidr", lambda self: "198.51.100.7/32")
        typed("start", "lab")
    typed("reboot", "lab")
    fault = embedded.inject(embedded.endpoint(), {"kind": "capacity", "zone": "us-east-1a"})
    typed("launch", "lab", "--fresh", "--yes", code=21)
    embedded.clear(embedded.endpoint(), fault)


def set_up(_root, _other, _patch):
    inventory = load_inventory()
    with connect(box_of("lab")) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
        made = transport.exec("echo $HOME/windlass/shared/environments").text.strip()
        transport.exec(f"cp -r {made} {inventory.box('spot').shared}")
    for python in Path(inventory.box("spot").shared).glob("environments/*/venv/bin/python"):
        python.unlink()  # one that has boto3, as the environment's own has
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    typed("deploy", "lab")
    typed("box.setup", "lab")


def baked(_root, _other, _patch):
    typed("box.bake", "lab", "--yes")
    typed("launch", "near", "--dry-run")
    typed("launch", "near", "--yes")
    typed("terminate", "near", "--yes")
    typed("box.images", "--prune", "--yes")


def adopted(_root, _other, _patch):
    typed("launch", "found", "--dry-run")
    typed("launch", "found", "--yes")
    typed("terminate", "found", "--yes")


def moved(_root, _other, _patch):
    typed("box.move", "lab", "--region", "us-west-2", "--yes")
    typed("terminate", "lab", "--yes")


def entered(_root, _other, _patch):
    typed("launch", "far", "brief", "--dry-run")
    typed("launch", "far", "brief", "--yes")
    for name in ("far", "brief"):
        with connect(box_of(name)) as transport:
            assert transport.exec("echo in").text == "in\n"
    with connect(box_of("far")) as transport:
        assert len(transport.exec("cat", bytes(3 << 20)).stdout) == 3 << 20
    store = bulk.of_box(box_of("far"), transport)._make_store()
    with pytest.raises(ZeroDivisionError):
        store.put("cut-off", Breaking())
    typed("terminate", "far", "brief", "--yes")


def spilled(root, _other, _patch):
    for name in ("spot", "own"):
        text = (root / "inventory.yaml").read_text()
        (root / "inventory.yaml").write_text(
            text.replace(text.splitlines()[0], f"default_box: {name}")
        )
        drive(begin(*prepare_run("small.yaml", load_inventory())), load_inventory())


class Breaking:
    """A file that cannot be read to its end."""

    def __init__(self):
        self.given = 0

    def read(self, size=-1):
        self.given += size
        return bytes(size) if self.given <= 24 << 20 else 1 // 0


def left_over(_root, other, patch):
    ec2, tags = other("ec2"), [{"Key": identity.PROJECT_TAG, "Value": identity.project_mark()}]

    def bearing(kind):
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]}

    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **bearing("volume"))[
        "VolumeId"
    ]
    ec2.create_snapshot(VolumeId=volume, **bearing("snapshot"))
    ec2.allocate_address(Domain="vpc", **bearing("elastic-ip"))
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    ec2.request_spot_instances(
        LaunchSpecification={"ImageId": image, "InstanceType": "t3.large"},
        **bearing("spot-instances-request"),
    )
    patch.setattr(reap, "_MARGIN", timedelta(days=-1))
    typed("reap", "--yes")
    typed("reap", "--everything", "--yes")


def box_of(name):
    from remote.control.cloud import boxes

    return boxes.running(load_inventory().box(name))


def asked_by(who, told):
    """The actions that the cloud was asked for. What is not signed is a box's POST, by a form that
    the laptop signed."""
    operations = [
        name.partition(" ")[2].partition(":")
        for name, count in told.items()
        if name.startswith(f"{who} ") and count > 0
    ]
    return {
        iam.action_of(service or "s3", operation or "PutObject")
        for service, _, operation in operations
    } - {None}


def test_what_the_commands_ask_is_allowed_with_its_resources_and_tags(life):
    assert sum(life.watch.called.values()) > 300
    assert sorted(life.watch.refused) == []


def test_what_other_processes_and_boxes_ask_in_the_users_name_is_allowed(life):
    asked = asked_by("user", life.told)
    assert asked - iam.actions_of(life.watch.policy) == set()
    assert set(life.watch.called) - asked == {
        "iam:PassRole",
        "s3:AbortMultipartUpload",
    }  # EC2 asks the one, the other is a DELETE


def test_nothing_is_allowed_that_nobody_asks(life):
    asked = asked_by("user", life.told) | set(life.watch.called)
    assert iam.actions_of(life.watch.policy) - asked == set(NOT_CALLED)


def test_every_statement_is_needed(life):
    """Without it something that was asked would have been refused."""
    idle = [each for each in life.watch.policy["Statement"] if each["Sid"] not in life.watch.needed]
    assert [each["Sid"] for each in idle if not set(each["Action"]) <= set(NOT_CALLED)] == []


def test_a_box_asks_what_its_policy_allows_and_nothing_else(life):
    of_box = policy.document("box", life.inventory)
    assert asked_by("box", life.told) == iam.actions_of(of_box)
    assert len(life.written) > 10
    for key in life.written:
        demand = iam.Demand("s3:PutObject", f"arn:aws:s3:::kept/{key}")
        assert iam.allows(of_box, demand) and iam.allows(life.watch.policy, demand)


REFUSED = [
    ("ec2", "TerminateInstances", {"InstanceIds": ["i-0"]}, {}),
    ("ec2", "GetConsoleOutput", {"InstanceId": "i-0"}, {"Name": "anna's"}),
    ("ec2", "RunInstances", {"ImageId": "ami-0"}, {}),
    (
        "ec2",
        "CreateTags",
        {"Resources": ["vol-0"], "Tags": [{"Key": identity.PROJECT_TAG, "Value": "x"}]},
        {},
    ),
    ("ec2", "AuthorizeSecurityGroupIngress", {"GroupId": "sg-0"}, {}),
    ("ec2", "ModifyInstanceAttribute", {"InstanceId": "i-0", "Groups": ["sg-0"]}, {}),
    ("ec2", "CreateImage", {"InstanceId": "i-0"}, {identity.PROJECT_TAG: "x"}),
    ("ec2", "DeregisterImage", {"ImageId": "ami-0"}, {}),
    ("ec2-instance-connect", "SendSSHPublicKey", {"InstanceId": "i-0"}, {}),
    ("ssm", "StartSession", {"Target": "i-0", "DocumentName": "AWS-StartSSHSession"}, {}),
    (
        "ssm",
        "StartSession",
        {"Target": "i-0", "DocumentName": "AWS-RunShellScript"},
        {identity.PROJECT_TAG: "x"},
    ),
    ("ssm", "GetParameter", {"Name": "/the/password"}, {}),
    ("iam", "GetInstanceProfile", {"InstanceProfileName": "admin"}, {}),
    ("s3", "GetObject", {"Bucket": "kept", "Key": "payroll"}, {}),
    ("s3", "PutObject", {"Bucket": "models", "Key": "tiny/config.json"}, {}),
    (
        "s3",
        "DeleteObjects",
        {"Bucket": "kept", "Delete": {"Objects": [{"Key": "windlass/x"}, {"Key": "payroll"}]}},
        {},
    ),
]


@pytest.mark.parametrize(("service", "operation", "asked", "tags"), REFUSED)
def test_what_is_not_ours_is_refused(life, service, operation, asked, tags):
    demands = list(iam.demands(service, operation, asked, "us-east-1", lambda name: tags))
    assert not all(iam.allows(life.watch.policy, demand) for demand in demands)


def test_no_role_but_the_inventorys_is_given_to_a_box(life):
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    given = {
        name: iam.Demand("iam:PassRole", f"arn:aws:iam::1:role/{name}", to_ec2)
        for name in ("windlass", "admin")
    }
    assert [name for name, demand in given.items() if iam.allows(life.watch.policy, demand)] == [
        "windlass"
    ]
