"""Every fault of the embedded cloud, over the wire: what an AWS client, a box, or an SSH client
then sees."""

import contextlib
import email.utils
import json
import os
import sys
import time

import paramiko
import pytest
from botocore.exceptions import ClientError

from remote.control import processes
from remote.control.cloud import embedded as client
from remote.control.errors import CloudError
from remote.embedded.instances import disk, machine
from tests.integration.test_embedded_cloud import BOOTHOOK, USER_DATA, Cloud, living, until

SPOT = {"MarketType": "spot"}
ASK = """python3 - <<'END'
import os, urllib.error, urllib.request
def ask(path, method="GET", **headers):
    named = {"X-aws-ec2-metadata-" + name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(os.environ["WINDLASS_IMDS"] + "/latest/" + path, headers=named, method=method)
    return urllib.request.urlopen(request).read().decode()
try:
    print(ask("meta-data/PATH", token=ask("api/token", "PUT", token_ttl_seconds="60")))
except urllib.error.HTTPError as refusal:
    print(refusal.code)
END
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("my project")))
        yield Cloud()
        client.down()
        assert living(client.folder()) == set()


@pytest.fixture(autouse=True)
def no_fault_stays(cloud):
    yield
    client.clear(cloud.url)


@pytest.fixture(scope="module")
def box(cloud):
    return cloud.running(TagSpecifications=named("shared"))


def named(name):
    tags = [{"Key": "Name", "Value": f"windlass-{name}"}, {"Key": "windlass:box", "Value": name}]
    return [{"ResourceType": "instance", "Tags": tags}]


def inject(cloud, kind, **facts):
    return client.inject(cloud.url, {"kind": kind, **facts})


def code_of(call, *args, **kwargs):
    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    return caught.value.response["Error"]["Code"]


def terminate(cloud, *instances):
    cloud.aws("ec2").terminate_instances(InstanceIds=list(instances))
    for instance in instances:
        cloud.until(instance, "terminated")


def describe(cloud, instance):
    return cloud.aws("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0][
        "Instances"
    ][0]


def metadata(cloud, instance, path):
    return cloud.run(instance, ASK.replace("PATH", path))[1].decode().strip()


# ---- Refusals of a launch ----


def test_capacity_by_zone_type_and_market(cloud):
    before = client.leaks(cloud.url)
    zone = {"Placement": {"AvailabilityZone": "us-east-1b"}}
    inject(cloud, "capacity", zone="us-east-1b", type="t3.large", market="on-demand")
    assert code_of(cloud.launch, **zone) == "InsufficientInstanceCapacity"
    assert client.leaks(cloud.url) == before, "a refused launch leaves nothing"
    launched = [
        cloud.launch(),
        cloud.launch(InstanceType="t3.small", **zone),
        cloud.launch(InstanceMarketOptions=SPOT, **zone),
    ]
    assert [describe(cloud, each)["Placement"]["AvailabilityZone"] for each in launched] == [
        "us-east-1a",
        "us-east-1b",
        "us-east-1b",
    ]
    terminate(cloud, *launched)


def test_without_capacity_in_one_zone_the_cloud_chooses_another(cloud):
    inject(cloud, "capacity", zone="us-east-1a")
    instance = cloud.launch()
    assert describe(cloud, instance)["Placement"]["AvailabilityZone"] == "us-east-1b"
    inject(cloud, "capacity", region="us-east-1")
    assert code_of(cloud.launch) == "InsufficientInstanceCapacity"
    terminate(cloud, instance)


def test_a_fault_strikes_as_often_as_it_should_and_only_its_box(cloud):
    inject(cloud, "capacity", box="other", count=1)
    inject(cloud, "capacity", box="mine", count=2)
    mine = {"TagSpecifications": named("mine")}
    assert [code_of(cloud.launch, **mine) for _ in range(2)] == ["InsufficientInstanceCapacity"] * 2
    terminate(cloud, cloud.launch(**mine))
    assert [fault["box"] for fault in client.faults(cloud.url)] == ["other"]


def test_a_stopped_box_without_capacity_stays_stopped(cloud):
    ec2, instance = cloud.aws("ec2"), cloud.running()
    ec2.stop_instances(InstanceIds=[instance])
    cloud.until(instance, "stopped")
    inject(cloud, "capacity", zone=describe(cloud, instance)["Placement"]["AvailabilityZone"])
    assert code_of(ec2.start_instances, InstanceIds=[instance]) == "InsufficientInstanceCapacity"
    assert cloud.state(instance) == "stopped"
    client.clear(cloud.url)
    ec2.start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    terminate(cloud, instance)


def test_quota_and_spot_price_by_fault(cloud):
    inject(cloud, "quota")
    assert code_of(cloud.launch) == "VcpuLimitExceeded"
    assert code_of(cloud.launch, InstanceMarketOptions=SPOT) == "MaxSpotInstanceCountExceeded"
    client.clear(cloud.url)
    inject(cloud, "spot-price", market="spot")
    assert code_of(cloud.launch, InstanceMarketOptions=SPOT) == "SpotMaxPriceTooLow"


def test_the_quota_counts_what_runs_in_each_market(cloud):
    quotas = cloud.aws("service-quotas")
    for quota, vcpus in (("L-DB2E81BA", 8), ("L-3819A6DF", 4)):
        quotas.request_service_quota_increase(
            ServiceCode="ec2", QuotaCode=quota, DesiredValue=vcpus
        )
    first = cloud.launch(InstanceType="g5.xlarge")
    assert code_of(cloud.launch, InstanceType="g5.2xlarge") == "VcpuLimitExceeded"
    second = cloud.launch(InstanceType="g4dn.xlarge")
    assert code_of(cloud.launch, InstanceType="g5.xlarge") == "VcpuLimitExceeded"
    spot = cloud.launch(InstanceType="g5.xlarge", InstanceMarketOptions=SPOT)
    assert (
        code_of(cloud.launch, InstanceType="g5.xlarge", InstanceMarketOptions=SPOT)
        == "MaxSpotInstanceCountExceeded"
    )
    terminate(cloud, first, second, spot)
    terminate(cloud, cloud.launch(InstanceType="g5.2xlarge"))


def test_a_price_below_the_spot_markets_is_refused(cloud):
    options = {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.0001"}}
    assert (
        code_of(cloud.launch, InstanceType="g5.xlarge", InstanceMarketOptions=options)
        == "SpotMaxPriceTooLow"
    )


def test_user_data_may_be_16_kib(cloud):
    assert code_of(cloud.launch, UserData="#" * 16385) == "InvalidParameterValue"
    terminate(cloud, cloud.launch(UserData="#" * 16384))


# ---- Answers to any request ----

ASKED = {
    "ec2": lambda aws: aws.describe_instances(),
    "s3": lambda aws: aws.list_objects_v2(Bucket="corpus"),
    "sts": lambda aws: aws.get_caller_identity(),
    "iam": lambda aws: aws.list_roles(),
    "ssm": lambda aws: aws.describe_parameters(),
    "service-quotas": lambda aws: aws.list_service_quotas(ServiceCode="ec2"),
}


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (
            "permission",
            (
                "UnauthorizedOperation AccessDenied AccessDenied AccessDenied AccessDeniedException"
                " AccessDeniedException"
            ),
        ),
        (
            "throttle",
            (
                "RequestLimitExceeded SlowDown Throttling Throttling ThrottlingException"
                " ThrottlingException"
            ),
        ),
        (
            "credentials",
            (
                "ExpiredToken ExpiredToken ExpiredToken ExpiredToken ExpiredTokenException"
                " ExpiredTokenException"
            ),
        ),
        (
            "clock-skew",
            (
                "RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch SignatureDoesNotMatch"
                " InvalidSignatureException InvalidSignatureException"
            ),
        ),
    ],
)
def test_each_service_refuses_in_its_own_words(cloud, kind, codes):
    inject(cloud, kind)
    assert [code_of(ask, cloud.aws(service)) for service, ask in ASKED.items()] == codes.split()


def test_a_permission_lacks_for_one_operation(cloud):
    s3 = cloud.aws("s3")
    s3.create_bucket(Bucket="spills")
    inject(cloud, "permission", operation="s3:PutObject")
    inject(cloud, "permission", operation="RunInstances")
    assert code_of(s3.put_object, Bucket="spills", Key="a", Body=b"") == "AccessDenied"
    assert s3.list_objects_v2(Bucket="spills")["KeyCount"] == 0
    assert code_of(cloud.launch) == "UnauthorizedOperation"
    cloud.aws("ec2").describe_instances()


def test_a_dry_run_tells_whether_one_may(cloud):
    before = client.leaks(cloud.url)
    assert code_of(cloud.launch, DryRun=True) == "DryRunOperation"
    assert (
        code_of(cloud.aws("ec2").create_security_group, GroupName="g", Description="g", DryRun=True)
        == "DryRunOperation"
    )
    inject(cloud, "permission", operation="ec2:Run*")
    assert code_of(cloud.launch, DryRun=True) == "UnauthorizedOperation"
    assert client.leaks(cloud.url) == before


def test_a_skewed_clock_shows_in_the_date(cloud):
    inject(cloud, "clock-skew", seconds=-7200, operation="none")
    headers = cloud.aws("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]
    told = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    assert abs(told - (time.time() - 7200)) < 60


def test_a_throttled_client_gets_through_when_it_tries_again(cloud):
    inject(cloud, "throttle", operation="DescribeInstances", count=2)
    patient = cloud.aws("ec2", tries=3)
    assert "Reservations" in patient.describe_instances()


# ---- The spot market ----


def test_a_spot_box_is_told_as_one_and_cannot_be_stopped(cloud):
    ec2 = cloud.aws("ec2")
    tags = [
        *named("spot"),
        {
            "ResourceType": "spot-instances-request",
            "Tags": [{"Key": "windlass:box", "Value": "spot"}],
        },
    ]
    instance = cloud.running(InstanceMarketOptions=SPOT, TagSpecifications=tags)
    told = describe(cloud, instance)
    assert told["InstanceLifecycle"] == "spot"
    (request,) = ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=[told["SpotInstanceRequestId"]]
    )["SpotInstanceRequests"]
    assert (request["InstanceId"], request["State"], request["Status"]["Code"]) == (
        instance,
        "active",
        "fulfilled",
    )
    assert request["Tags"] == [{"Key": "windlass:box", "Value": "spot"}]
    assert request["SpotInstanceRequestId"] in client.leaks(cloud.url)["spot_requests"]
    assert metadata(cloud, instance, "instance-life-cycle") == "spot"
    assert code_of(ec2.stop_instances, InstanceIds=[instance]) == "UnsupportedOperation"
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        cloud.run(instance, "sudo shutdown now")
    cloud.until(instance, "terminated")
    assert client.leaks(cloud.url)["spot_requests"] == []
    assert "InstanceLifecycle" not in describe(cloud, terminated_on_demand(cloud))


def terminated_on_demand(cloud):
    instance = cloud.launch()
    terminate(cloud, instance)
    return instance


def test_a_spot_notice_is_told_and_then_comes_true(cloud):
    instance = cloud.running(InstanceMarketOptions=SPOT, TagSpecifications=named("taken"))
    assert metadata(cloud, instance, "spot/instance-action") == "404"
    inject(cloud, "spot-notice", box="taken", seconds=3)
    told = json.loads(metadata(cloud, instance, "spot/instance-action"))
    assert told["action"] == "terminate"
    cloud.until(instance, "terminated")
    assert describe(cloud, instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    (request,) = cloud.aws("ec2").describe_spot_instance_requests()["SpotInstanceRequests"][-1:]
    assert (request["State"], request["Status"]["Code"]) == (
        "closed",
        "instance-terminated-no-capacity",
    )
    assert client.faults(cloud.url) == [], "the notice went with its instance"


def test_a_notice_that_is_taken_back_does_not_come_true(cloud):
    instance = cloud.running(InstanceMarketOptions=SPOT)
    fault = inject(cloud, "spot-notice", box=instance, seconds=0.5)
    assert len(client.clear(cloud.url, fault)) == 1
    assert metadata(cloud, instance, "spot/instance-action") == "404"
    cloud.run(instance, "sleep 0.8")
    assert cloud.state(instance) == "running"
    terminate(cloud, instance)


def test_rebalance_recommendation(cloud, box):
    inject(cloud, "rebalance", box="shared")
    assert "noticeTime" in json.loads(metadata(cloud, box, "events/recommendations/rebalance"))


def test_only_a_running_spot_box_can_be_given_notice(cloud, box):
    with pytest.raises(CloudError, match="no running spot instance is meant"):
        inject(cloud, "spot-notice", box=box)
    with pytest.raises(CloudError, match="no running instance is meant"):
        inject(cloud, "reboot", box="nobody")
    spot = cloud.running(InstanceMarketOptions=SPOT)
    with pytest.raises(CloudError, match="no running on-demand instance is meant"):
        inject(cloud, "stop", box=spot)
    terminate(cloud, spot)


# ---- Events from outside ----


def test_reboot_stop_and_terminate_from_outside(cloud):
    instance = cloud.running(TagSpecifications=named("moved"))
    started = (
        cloud.run(instance, "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!")[1]
        .decode()
        .strip()
    )
    inject(cloud, "reboot", box="moved")
    until(lambda: not os.path.exists(f"/proc/{started}"))
    until(lambda: _speaks(cloud, instance))
    inject(cloud, "stop", box="moved")
    cloud.until(instance, "stopped")
    cloud.aws("ec2").start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    inject(cloud, "terminate", box="moved")
    cloud.until(instance, "terminated")


def _speaks(cloud, instance):
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        return cloud.run(instance, "true")[0] == 0
    return False


# ---- States of a box ----


def test_the_console_is_late(cloud):
    inject(cloud, "console-late", box="slow", seconds=600)
    instance = cloud.running(TagSpecifications=named("slow"))
    assert cloud.console(instance) == ""
    client.clear(cloud.url)
    assert "HOST KEY KEYS" in cloud.console(instance)
    terminate(cloud, instance)


def test_another_host_key_is_shown_and_jobs_go_on(cloud, box):
    job = (
        cloud.run(box, "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!")[1].decode().strip()
    )
    right = host_key(cloud, box)
    inject(cloud, "host-key", box="shared")
    until(lambda: host_key(cloud, box) not in (right, None))
    assert right in cloud.console(box)
    assert cloud.run(box, f"kill -0 {job}")[0] == 0
    client.clear(cloud.url)
    until(lambda: host_key(cloud, box) == right)
    cloud.run(box, f"kill {job}")


def host_key(cloud, instance):
    with (
        contextlib.suppress(OSError, EOFError, paramiko.SSHException),
        cloud.ssh(instance) as transport,
    ):
        return transport.get_remote_server_key().get_base64()


def test_the_metadata_service_is_absent_but_shutdown_works(cloud):
    instance = cloud.running(TagSpecifications=named("blind"))
    inject(cloud, "imds", box="blind")
    assert metadata(cloud, instance, "instance-id") == "404"
    assert cloud.run(instance, "shutdown -h +60 && shutdown -c")[0] == 0
    client.clear(cloud.url)
    assert metadata(cloud, instance, "instance-id") == instance
    terminate(cloud, instance)


def test_a_boothook_that_hangs_keeps_ssh_from_answering(cloud):
    inject(cloud, "hang-user-data", count=1)
    instance = cloud.running(UserData=BOOTHOOK)
    assert not _speaks(cloud, instance)
    assert "user-data hangs" in cloud.console(instance)
    ec2 = cloud.aws("ec2")
    ec2.stop_instances(InstanceIds=[instance])
    cloud.until(instance, "stopped")
    ec2.start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    assert cloud.run(instance, "wc -l < ~/boots")[1].strip() == b"2"
    terminate(cloud, instance)


def test_a_script_that_hangs_does_not(cloud):
    inject(cloud, "hang-user-data", count=1)
    instance = cloud.running(UserData=USER_DATA)
    assert "user-data hangs" in cloud.console(instance)
    assert cloud.run(instance, "true")[0] == 0
    terminate(cloud, instance)


def test_a_full_disk_takes_nothing_and_keeps_everything(cloud, box):
    cloud.run(box, "echo kept > ~/kept")
    inject(cloud, "disk-full", box="shared")
    until(lambda: "the disk is full" in client.console(cloud.url, box))
    assert cloud.run(box, "cat ~/kept")[1] == b"kept\n"
    code, _, errors = cloud.run(
        box, f"'{sys.executable}' -c \"open('new', 'w').write('x' * 100000)\""
    )
    assert code != 0
    assert b"No space left on device" in errors or b"File too large" in errors
    assert cloud.run(box, "echo more >> ~/kept")[0] != 0
    client.clear(cloud.url)
    until(lambda: cloud.run(box, "echo more >> ~/kept")[0] == 0)
    assert cloud.run(box, "cat ~/kept")[1] == b"kept\nmore\n"


def test_a_full_disk_stays_full_at_the_next_boot_until_it_is_cleared(cloud):
    ec2, instance = cloud.aws("ec2"), cloud.running(TagSpecifications=named("full"))
    inject(cloud, "disk-full", box="full")
    for expected in (1, 0):
        ec2.stop_instances(InstanceIds=[instance])
        cloud.until(instance, "stopped")
        if expected == 0:
            client.clear(cloud.url)
        ec2.start_instances(InstanceIds=[instance])
        cloud.until(instance, "running")
        assert cloud.run(instance, "echo x > ~/new")[0] == expected
    terminate(cloud, instance)


def test_a_full_disk_where_nothing_may_be_mounted(cloud, box, monkeypatch):
    monkeypatch.setattr(disk, "_cover", lambda disk: False)
    folder = client.folder() / "instances" / box / "disk"
    process = cloud.run(
        box,
        "setsid sh -c 'while :; do echo x >> ~/grows || echo no > /dev/null; sleep 0.05; done'"
        " >/dev/null 2>&1 & echo $!",
    )
    members = processes.members(processes.INSTANCE, box) - {
        machine.Record.read(folder.parent / "machine.json").server_pid
    }
    assert int(process[1]) in members
    until(lambda: (folder / "grows").exists())
    disk.fill(folder, members)
    size = (folder / "grows").stat().st_size
    code, _, errors = cloud.run(box, "echo x > ~/new")
    assert (code != 0, b"File too large" in errors) == (True, True)
    assert (folder / "grows").stat().st_size <= size + 2, "what runs is limited too"
    disk.free(folder, processes.members(processes.INSTANCE, box))
    assert cloud.run(box, "echo x > ~/new")[0] == 0
    cloud.run(box, f"kill {process[1].decode()}")


# ---- The cloud itself ----


def test_faults_outlive_the_clouds_process(cloud):
    fault = inject(cloud, "capacity", zone="us-east-1c", count=3)
    client.down()
    assert [each["id"] for each in client.faults(cloud.url)] == [fault]
    assert (
        code_of(cloud.launch, Placement={"AvailabilityZone": "us-east-1c"})
        == "InsufficientInstanceCapacity"
    )
    assert client.faults(cloud.url)[0]["count"] == 2


def test_a_spot_box_does_not_outlive_its_power(cloud):
    instance = cloud.running(InstanceMarketOptions=SPOT)
    client.down()
    assert instance not in client.leaks(cloud.url)["instances"]
    assert not (client.folder() / "instances" / instance).exists()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"kind": "gremlins"}, "no fault `gremlins`"),
        ({"kind": "permission", "zone": "us-east-1a"}, "not narrowed down by zone"),
        ({"kind": "capacity", "market": "black"}, "no market `black`"),
        ({"kind": "capacity", "count": "many"}, "many"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused(cloud, fault, why):
    with pytest.raises(CloudError, match=why):
        client.inject(cloud.url, fault)
    assert client.faults(cloud.url) == []


def test_leaks_counts_everything_that_is_left(cloud):
    ec2 = cloud.aws("ec2")
    before = client.leaks(cloud.url)
    group = ec2.create_security_group(GroupName="left", Description="left")["GroupId"]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    address = ec2.allocate_address()["AllocationId"]
    elsewhere = cloud.aws("ec2", region="us-west-2").create_key_pair(KeyName="left")["KeyName"]
    now = client.leaks(cloud.url)
    found = {kind: [each for each in now[kind] if each not in before[kind]] for kind in now}
    assert {kind: ids for kind, ids in found.items() if ids} == {
        "security_groups": [group],
        "volumes": [volume],
        "snapshots": [snapshot],
        "addresses": [address],
        "key_pairs": [elsewhere],
    }


def test_an_instance_leaves_nothing(cloud):
    before = client.leaks(cloud.url)
    disk = {
        "DeviceName": "/dev/sda1",
        "Ebs": {
            "VolumeSize": 9,
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        },
    }
    instance = cloud.launch(InstanceMarketOptions=SPOT, BlockDeviceMappings=[disk])
    grown = {kind for kind, ids in client.leaks(cloud.url).items() if len(ids) > len(before[kind])}
    assert grown == {"instances", "volumes", "network_interfaces", "spot_requests"}
    terminate(cloud, instance)
    assert client.leaks(cloud.url) == before


def test_regions_lie_side_by_side(cloud):
    west = cloud.aws("ec2", region="us-west-2")
    request = {
        "ImageId": cloud.image(),
        "MinCount": 1,
        "MaxCount": 1,
        "InstanceType": "t3.large",
        "KeyName": "west",
    }
    west.import_key_pair(KeyName="west", PublicKeyMaterial=cloud.public)
    instance = west.run_instances(**request, Placement={"AvailabilityZone": "us-west-2b"})[
        "Instances"
    ][0]["InstanceId"]
    until(lambda: client.describe(cloud.url, instance)["state"] == "running")
    assert metadata(cloud, instance, "placement/availability-zone") == "us-west-2b"
    assert cloud.run(instance, "echo $AWS_DEFAULT_REGION")[1] == b"us-west-2\n"
    assert code_of(describe, cloud, instance) == "InvalidInstanceID.NotFound"
    west.terminate_instances(InstanceIds=[instance])


def test_calls_are_counted_by_whom(cloud):
    cloud.aws("sts").get_caller_identity()
    assert client.calls(cloud.url)["user sts:GetCallerIdentity"] >= 1
