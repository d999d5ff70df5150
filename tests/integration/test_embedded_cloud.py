"""The embedded cloud from outside: boto3 against its API, a real SSH client against its boxes."""

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

import boto3
import paramiko
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remote.control import processes
from remote.control.cloud import embedded as client
from remote.control.daemon import start_time_of
from remote.embedded.instances import machine

DEEP_LEARNING_AMI = "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.8-ubuntu-24.04/latest/ami-id"
USER_DATA = """#!/bin/bash
echo "first boot in $PWD"
echo boot >> ~/boots
"""

BOOTHOOK = """#cloud-boothook
#!/bin/bash
echo "the hook speaks"
echo "$WINDLASS_INSTANCE" >> ~/boots
setsid sleep 300 >/dev/null 2>&1 </dev/null &
echo $! > ~/watcher
exit 3
"""

ASK_AS_THE_BOX = b"""
import boto3

session = boto3.Session()
buckets = session.client("s3").list_buckets()["Buckets"]
print(session.get_credentials().method, isinstance(buckets, list))
"""

ASK_METADATA = b"""
import os, urllib.error, urllib.request

def ask(path, method="GET", **headers):
    named = {"X-aws-ec2-metadata-" + name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(os.environ["WINDLASS_IMDS"] + "/latest/" + path, headers=named, method=method)
    return urllib.request.urlopen(request).read().decode()

token = ask("api/token", "PUT", token_ttl_seconds="60")
for path in ("meta-data/instance-id", "meta-data/instance-type", "user-data"):
    print(ask(path, token=token))
try:
    ask("meta-data/instance-id")
except urllib.error.HTTPError as refusal:
    print(refusal.code)
"""


class Cloud:
    """One project's embedded cloud and a key that its boxes accept."""

    def __init__(self):
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()
        )
        self.public = private.public_key().public_bytes(
            form.Encoding.OpenSSH, form.PublicFormat.OpenSSH
        )
        self.key = paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))
        self.aws("ec2").import_key_pair(KeyName="test", PublicKeyMaterial=self.public)

    @property
    def url(self):
        return client.endpoint()

    def aws(self, service, region="us-east-1", tries=1):
        config = Config(
            proxies={}, retries={"total_max_attempts": tries}, s3={"addressing_style": "path"}
        )
        secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(
            service, region_name=region, endpoint_url=self.url, config=config, **secrets
        )

    def image(self):
        return self.aws("ssm").get_parameter(Name=DEEP_LEARNING_AMI)["Parameter"]["Value"]

    def launch(self, **changes):
        request = {
            "ImageId": self.image(),
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceType": "t3.large",
            "KeyName": "test",
            **changes,
        }
        return self.aws("ec2").run_instances(**request)["Instances"][0]["InstanceId"]

    def state(self, instance_id):
        return self.aws("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0][
            "Instances"
        ][0]["State"]["Name"]

    def until(self, instance_id, state):
        until(lambda: self.state(instance_id) == state)
        return instance_id

    def running(self, **changes):
        return self.until(self.launch(**changes), "running")

    def console(self, instance_id):
        return self.aws("ec2").get_console_output(InstanceId=instance_id).get("Output", "")

    @contextlib.contextmanager
    def ssh(self, instance_id):
        host, port, user = client.address_of(self.url, instance_id)
        with (
            socket.create_connection((host, port)) as connection,
            paramiko.Transport(connection) as transport,
        ):
            transport.connect(username=user, pkey=self.key)
            yield transport

    def run(self, instance_id, command, stdin=b""):
        with self.ssh(instance_id) as transport:
            return execute(transport, command, stdin)


def execute(transport, command, stdin=b""):
    """Exit code, standard output, standard error."""
    channel = transport.open_session()
    channel.exec_command(command)
    with (
        contextlib.suppress(OSError),
        channel.makefile_stdin("wb") as feed,
    ):  # the command may end before it has read all
        feed.write(stdin)
    output = channel.makefile("rb").read()
    return channel.recv_exit_status(), output, channel.makefile_stderr("rb").read()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=[pytest.param("openssh", marks=pytest.mark.sshd), "library"])
def cloud(request, tmp_path_factory):
    """A cloud of its own for each SSH server, in a folder with a blank in its name; down
    afterwards, with nothing left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("my project")))
        patch.setenv(machine.SSH_SERVER, request.param)
        yield Cloud()
        client.down()
        assert living(client.folder()) == set()


@pytest.fixture(scope="module")
def box(cloud):
    """A running instance that several tests share; they leave it running."""
    return cloud.running(UserData=USER_DATA)


def living(folder):
    return processes.members(processes.CLOUD, str(folder))


def test_the_right_ssh_server_serves(cloud, box):
    with cloud.ssh(box) as transport:
        served_by_library = "AsyncSSH" in transport.remote_version
    assert served_by_library == (os.environ[machine.SSH_SERVER] == "library")


def test_console_shows_the_host_key_that_ssh_shows(cloud, box):
    block = (
        cloud.console(box)
        .partition("-----BEGIN SSH HOST KEY KEYS-----\n")[2]
        .partition("-----END SSH HOST KEY KEYS-----")[0]
    )
    with cloud.ssh(box) as transport:
        key = transport.get_remote_server_key()
    assert block.split()[:2] == [key.get_name(), key.get_base64()]


def test_a_command_has_its_streams_its_exit_code_and_the_boxs_home(cloud, box):
    assert cloud.run(box, "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    home = client.describe(cloud.url, box)["disk"]
    assert cloud.run(box, 'echo "$PWD|$HOME"') == (0, f"{home}|{home}\n".encode(), b"")
    assert cloud.run(box, "ls ~/.bashrc")[0] != 0, "no rc file of the caller's is read"


def test_megabytes_pass_unchanged_both_ways(cloud, box):
    content = os.urandom(6_000_000)
    assert (
        cloud.run(box, "tee upload | (sleep 0.1; sha256sum)", content)[1].split()[0].decode()
        == hashlib.sha256(content).hexdigest()
    )
    code, output, errors = cloud.run(box, "cat upload; echo done >&2")
    assert (code, errors, len(output)) == (0, b"done\n", len(content))
    assert output == content


def test_what_a_command_does_not_read_does_not_block(cloud, box):
    assert cloud.run(box, "head -c 3; exec <&-; sleep 0.1; exit 4", b"abc" + bytes(4_000_000)) == (
        4,
        b"abc",
        b"",
    )


def test_a_command_ended_by_a_signal_does_not_look_like_success(cloud, box):
    assert cloud.run(box, "kill -KILL $$")[0] != 0


def test_many_commands_at_once(cloud, box):
    with cloud.ssh(box) as transport:
        channels = [transport.open_session() for _ in range(12)]
        for number, channel in enumerate(channels):
            channel.exec_command(f"cat; echo {number}")
        for channel in reversed(channels):
            channel.shutdown_write()
        assert [channel.makefile("rb").read().decode() for channel in channels] == [
            f"{number}\n" for number in range(12)
        ]


def test_sftp(cloud, box):
    content = os.urandom(300_000)
    with cloud.ssh(box) as transport, paramiko.SFTPClient.from_transport(transport) as sftp:
        with sftp.open("upload.bin", "wb") as remote:
            remote.write(content)
        assert sftp.stat("upload.bin").st_size == len(content)
        with sftp.open("upload.bin", "rb") as remote:
            assert remote.read() == content
    assert cloud.run(box, "wc -c < upload.bin")[1].strip() == b"300000"


def test_a_terminal_is_a_terminal_and_its_loss_ends_the_command(cloud, box):
    with cloud.ssh(box) as transport:
        channel = transport.open_session()
        channel.get_pty(term="xterm", width=101, height=33)
        channel.exec_command("stty size; echo $TERM; echo $$ > ~/on-terminal; sleep 300")
        shown = b""
        while b"xterm" not in shown:
            shown += channel.recv(1000)
        assert shown.split()[:2] == [b"33", b"101"]
        until(lambda: cloud.run(box, "cat ~/on-terminal")[1].strip())
    until(lambda: cloud.run(box, "kill -0 $(cat ~/on-terminal)")[0] != 0)


def test_a_login_shell_finds_the_boxs_commands(cloud, box):
    with cloud.ssh(box) as transport:
        channel = transport.open_session()
        channel.get_pty()
        channel.invoke_shell()
        channel.sendall(b"command -v shutdown; exit 5\n")
        shown = channel.makefile("rb").read()
        assert channel.recv_exit_status() == 5
    assert (
        os.fsencode(client.describe(cloud.url, box)["disk"].removesuffix("disk") + "bin/shutdown")
        in shown
    )


def test_a_detached_process_survives_the_connection(cloud, box):
    cloud.run(box, "setsid sh -c 'echo $$ > ~/detached; sleep 300' </dev/null >/dev/null 2>&1 &")
    until(lambda: cloud.run(box, "cat ~/detached")[1].endswith(b"\n"))
    assert cloud.run(box, "kill -0 $(cat ~/detached)")[0] == 0
    cloud.run(box, "kill $(cat ~/detached)")


def test_another_key_is_refused(cloud, box):
    host, port, user = client.address_of(cloud.url, box)
    stranger = paramiko.RSAKey.generate(2048)
    with (
        socket.create_connection((host, port)) as connection,
        paramiko.Transport(connection) as transport,
        pytest.raises(paramiko.AuthenticationException),
    ):
        transport.connect(username=user, pkey=stranger)


def test_user_data_runs_on_the_first_boot_alone_and_the_disk_stays(cloud):
    ec2 = cloud.aws("ec2")
    instance = cloud.running(UserData=USER_DATA)
    until(lambda: "user-data ended with exit code 0" in cloud.console(instance))
    assert "first boot in" in cloud.console(instance)
    with cloud.ssh(instance) as transport:
        host_key = transport.get_remote_server_key()
    cloud.run(instance, "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo kept > ~/kept")
    ec2.stop_instances(InstanceIds=[instance])
    cloud.until(instance, "stopped")
    assert processes.members(processes.INSTANCE, instance) == set()
    ec2.start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    assert cloud.run(instance, "cat ~/kept ~/boots")[1] == b"kept\nboot\n"
    with cloud.ssh(instance) as transport:
        assert transport.get_remote_server_key() == host_key
    disk = client.describe(cloud.url, instance)["disk"]
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.until(instance, "terminated")
    assert not os.path.exists(disk)
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.start_instances(InstanceIds=[instance])


def test_a_boothook_runs_at_every_boot_before_ssh_answers(cloud):
    ec2 = cloud.aws("ec2")
    instance = cloud.running(UserData=BOOTHOOK)
    assert cloud.run(instance, "cat ~/boots")[1].decode() == f"{instance}\n"
    assert "the hook speaks" in cloud.console(instance)
    assert "boothook ended with exit code 3" in cloud.console(instance)
    assert cloud.run(instance, "kill -0 $(cat ~/watcher)")[0] == 0, "what it left behind lives on"
    ec2.stop_instances(InstanceIds=[instance])
    cloud.until(instance, "stopped")
    ec2.start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    assert cloud.run(instance, "cat ~/boots")[1].decode() == f"{instance}\n" * 2
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.until(instance, "terminated")


def test_credentials_come_from_the_instance_profile_alone(cloud):
    iam = cloud.aws("iam")
    iam.create_role(RoleName="box", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="boxes")
    iam.add_role_to_instance_profile(InstanceProfileName="boxes", RoleName="box")
    bare, trusted = cloud.launch(), cloud.launch(IamInstanceProfile={"Name": "boxes"})
    for instance in (bare, trusted):
        cloud.until(instance, "running")
    code, output, errors = cloud.run(trusted, f"'{sys.executable}' -", ASK_AS_THE_BOX)
    assert (code, output) == (0, b"iam-role True\n"), errors
    assert b"NoCredentialsError" in cloud.run(bare, f"'{sys.executable}' -", ASK_AS_THE_BOX)[2]
    assert cloud.run(trusted, "env | grep -c -e AWS_ACCESS_KEY_ID -e AWS_SECRET")[1] == b"0\n"
    with pytest.raises(ClientError) as caught:
        cloud.launch(IamInstanceProfile={"Name": "nobody"})
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
    cloud.aws("ec2").terminate_instances(InstanceIds=[bare, trusted])


def test_a_box_reboots(cloud):
    instance = cloud.running()
    old = (
        cloud.run(instance, "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!")[1]
        .strip()
        .decode()
    )
    cloud.aws("ec2").reboot_instances(InstanceIds=[instance])
    until(lambda: start_time_of(int(old)) is None)
    until(lambda: _logs_in(cloud, instance))
    cloud.aws("ec2").terminate_instances(InstanceIds=[instance])
    cloud.until(instance, "terminated")


def _logs_in(cloud, instance):
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        return cloud.run(instance, "true")[0] == 0
    return False


@pytest.mark.parametrize(("behaviour", "ends"), [("stop", "stopped"), ("terminate", "terminated")])
def test_shutdown_inside_the_box(cloud, behaviour, ends):
    instance = cloud.running(InstanceInitiatedShutdownBehavior=behaviour)
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        cloud.run(instance, "sudo shutdown -h now")
    cloud.until(instance, ends)
    told = cloud.aws("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0][
        "Instances"
    ][0]
    assert told["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_planned_shutdown_can_be_cancelled(cloud, box):
    assert cloud.run(box, "shutdown -h +0.05 && shutdown -c") == (0, b"", b"")
    assert cloud.run(box, "sleep 3.2; echo still here")[1] == b"still here\n"
    assert cloud.state(box) == "running"


def test_metadata_is_told_to_the_box(cloud, box):
    code, output, errors = cloud.run(box, "python3 -", ASK_METADATA)
    assert (code, errors) == (0, b"")
    assert output.decode() == f"{box}\nt3.large\n{USER_DATA}\n401\n"


def test_run_instances_is_idempotent(cloud):
    first = cloud.running(ClientToken="token-1")
    assert cloud.launch(ClientToken="token-1") == first
    with pytest.raises(ClientError) as caught:
        cloud.launch(ClientToken="token-1", InstanceType="t3.small")
    assert caught.value.response["Error"]["Code"] == "IdempotentParameterMismatch"
    assert cloud.launch(ClientToken="token-2") != first


def test_what_does_not_exist_is_refused(cloud):
    for changes, code in (
        ({"ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"InstanceType": "g99.huge"}, "InvalidInstanceType.NotFound"),
    ):
        with pytest.raises(ClientError) as caught:
            cloud.launch(**changes)
        assert caught.value.response["Error"]["Code"] == code


def test_quotas_and_images(cloud):
    quotas = cloud.aws("service-quotas")
    for code in ("L-DB2E81BA", "L-3819A6DF"):
        assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"] > 0
    with pytest.raises(ClientError, match="NoSuchResource"):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-NOTHING")
    name = "/aws/service/deeplearning/ami/arm64/oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04/latest/ami-id"
    asked = cloud.aws("ssm").get_parameters(Names=[name, "/aws/service/deeplearning/nothing"])
    assert asked["InvalidParameters"] == ["/aws/service/deeplearning/nothing"]
    image = cloud.aws("ec2").describe_images(ImageIds=[asked["Parameters"][0]["Value"]])["Images"][
        0
    ]
    assert image["Architecture"] == "arm64"


def test_s3_and_sts_answer(cloud):
    s3 = cloud.aws("s3")
    s3.create_bucket(Bucket="corpus")
    s3.put_object(Bucket="corpus", Key="a b/ü.txt", Body=b"text")
    assert s3.get_object(Bucket="corpus", Key="a b/ü.txt")["Body"].read() == b"text"
    assert cloud.aws("sts").get_caller_identity()["Account"]


def test_a_web_page_may_not_ask(cloud):
    body = b"Action=DescribeInstances&Version=2016-11-15"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for headers in ({"Origin": "https://example.org"}, {"Host": "rebound.example.org"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            direct.open(urllib.request.Request(cloud.url, data=body, headers=headers))
        assert caught.value.code == 403
        caught.value.close()


def test_down_and_up_again_keeps_everything_but_the_power(cloud):
    ec2 = cloud.aws("ec2")
    group = ec2.create_security_group(GroupName="ours", Description="ours")["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="192.0.2.7/32"
    )
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "kept"}]}]
    instance = cloud.running(TagSpecifications=tags, SecurityGroupIds=[group])
    cloud.run(instance, "echo kept > ~/kept; setsid sleep 300 </dev/null >/dev/null 2>&1 &")

    assert client.down() is True
    assert living(client.folder()) == set()
    ec2 = cloud.aws("ec2")
    told = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["kept"]}])[
        "Reservations"
    ][0]["Instances"][0]
    assert (told["InstanceId"], told["State"]["Name"]) == (instance, "stopped")
    rules = ec2.describe_security_groups(GroupIds=[told["SecurityGroups"][0]["GroupId"]])[
        "SecurityGroups"
    ][0]["IpPermissions"]
    assert rules[0]["IpRanges"][0]["CidrIp"] == "192.0.2.7/32"
    assert ec2.describe_key_pairs()["KeyPairs"][0]["KeyName"] == "test"
    ec2.start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    assert cloud.run(instance, "cat ~/kept")[1] == b"kept\n"


def test_a_killed_cloud_leaves_nothing_running_and_loses_nothing(cloud):
    instance = cloud.running()
    cloud.run(instance, "echo kept > ~/kept; setsid sleep 300 </dev/null >/dev/null 2>&1 &")
    record = machine.Record.read(client.folder() / "instances" / instance / "machine.json")
    os.kill(client.running()["pid"], signal.SIGKILL)
    until(lambda: client.running() is None)
    assert record.server_alive(), "the box outlives its cloud until somebody looks"
    assert client.describe(cloud.url, instance)["state"] == "stopped"
    assert not record.server_alive()
    assert processes.members(processes.INSTANCE, instance) == set()
    cloud.aws("ec2").start_instances(InstanceIds=[instance])
    cloud.until(instance, "running")
    assert cloud.run(instance, "cat ~/kept")[1] == b"kept\n"


def test_down_after_a_killed_cloud_ends_its_boxes_too(cloud):
    instance = cloud.running()
    record = machine.Record.read(client.folder() / "instances" / instance / "machine.json")
    os.kill(client.running()["pid"], signal.SIGKILL)
    until(lambda: client.running() is None)
    assert client.down() is False
    assert not record.server_alive()
    assert living(client.folder()) == set()


def test_two_projects_do_not_meet(cloud, tmp_path):
    instance, url = cloud.running(), cloud.url
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(tmp_path))
        other = Cloud()
        second = other.running()
        assert other.url != url
        assert (
            json.dumps(other.aws("ec2").describe_instances()["Reservations"], default=str).count(
                instance
            )
            == 0
        )
        assert other.run(second, "echo theirs")[1] == b"theirs\n"
        assert client.down() is True
        assert living(tmp_path / ".windlass" / "cloud") == set()
    assert cloud.run(instance, "echo ours")[1] == b"ours\n"


def test_a_state_that_cannot_be_read_is_set_aside_and_the_disks_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    folder = client.folder()
    (folder / "instances" / "i-1" / "disk").mkdir(parents=True)
    (folder / "account.pickle").write_bytes(b"of another version")
    try:
        assert client.listing(client.endpoint()) == []
    finally:
        client.down()
    assert (folder / "account.unreadable").read_bytes() == b"of another version"
    assert (folder / "instances" / "i-1" / "disk").is_dir()
    assert "cannot be read" in (folder / "log").read_text()
