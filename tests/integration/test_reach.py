"""Boxes that are not simply there: behind a real bastion, through Session Manager, entered by EC2
Instance Connect or an agent's key."""

import os
import subprocess

import pytest

from remote.contract.files import digest
from remote.contract.job.jobs import Artifact
from remote.control.cloud import boxes as cloud
from remote.control.cloud import embedded as client
from remote.control.cloud.access import openssh, reach
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxUnreachable, HostKeyMismatch, LoginRefused
from remote.control.project import CODE
from remote.control.transport.connect import connect
from remote.control.transport.pull.pull import pull
from remote.control.transport.push.release import build_release, deploy
from remote.control.transport.ssh import known_hosts
from remote.embedded.instances import instance_connect
from remote.embedded.instances.machine import Record
from tests.integration import boxes
from tests.integration.boxes import await_true, make_key
from tests.integration.typed import command_of, environment

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]


@pytest.fixture(scope="module")
def bastion(tmp_path_factory):
    with boxes.running_sshd(tmp_path_factory.mktemp("bastion"), "LogLevel VERBOSE") as server:
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("reach")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(root))
        yield root
        client.down()


@pytest.fixture
def entry(project):
    """Makes a box of the embedded cloud with the given keys; gone afterwards."""
    made = []

    def make(name="far", **keys):
        lines = "".join(f"    {key}: {value}\n" for key, value in keys.items())
        (project / "inventory.yaml").write_text(
            f"default_box: {name}\nboxes:\n  {name}:\n    provider: embedded\n{lines}"
        )
        made.append(load_inventory().box())
        return made[-1]

    yield make
    for each in made:
        cloud.terminate(each)


def of(bastion, **changes):
    """The `bastion:` of an inventory, for that sshd."""
    key = " ".join(bastion.host_key_line.split()[:2])
    facts = {
        "host": "127.0.0.1",
        "port": bastion.port,
        "user": boxes._me(),
        "ssh_key": bastion.key,
        "host_key": f'"{key}"',
    } | changes
    return "{" + ", ".join(f"{name}: {value}" for name, value in facts.items()) + "}"


def says(box, command="echo $WINDLASS_INSTANCE"):
    with connect(box) as transport:
        return transport.exec(command).text.strip()


def ssh_says(box, command="echo $WINDLASS_INSTANCE"):
    done = subprocess.run(
        [*openssh.command(box), command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def block_says(box, tmp_path, command="echo $WINDLASS_INSTANCE"):
    (tmp_path / "config").write_text(openssh.config_block(box))
    words = ["ssh", "-F", str(tmp_path / "config"), f"windlass-{box.name}", command]
    done = subprocess.run(
        words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_behind_a_bastion(entry, bastion, tmp_path):
    box = cloud.ready(entry(reach="bastion", bastion=of(bastion)), lambda line: None)
    before = (bastion.folder / "sshd.log").read_text().count("Accepted publickey")
    assert says(box) == box.id
    with connect(box) as one, connect(box) as other:
        assert (
            one.exec("echo $SSH_CONNECTION").text.split()[1]
            != other.exec("echo $SSH_CONNECTION").text.split()[1]
        )
    assert (bastion.folder / "sshd.log").read_text().count("Accepted publickey") == before + 2, (
        "two boxes' links share one login"
    )
    assert ssh_says(box) == block_says(box, tmp_path) == box.id
    await_true(lambda: not boxes.children(bastion.process.pid))


def test_a_bastion_with_another_host_key_is_no_bastion(entry, bastion, tmp_path):
    make_key(tmp_path / "other")
    box = cloud.ready(entry(reach="bastion", bastion=of(bastion)), lambda line: None)
    key = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    changed = (
        load_inventory()
        .box()
        .model_copy(update={"bastion": box.bastion.model_copy(update={"host_key": key})})
    )
    impostor = cloud.running(changed)
    with pytest.raises(HostKeyMismatch) as caught:
        says(impostor)
    assert "bastion of box far" in caught.value.where and "`bastion:` of far" in caught.value.remedy
    with pytest.raises(HostKeyMismatch):
        reach.answers(impostor)
    refused = subprocess.run(
        [*openssh.command(impostor), "true"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert refused.returncode == 255 and "Host key verification failed" in refused.stderr


def test_a_bastion_that_refuses_or_is_down_is_told_apart_from_the_box(entry, bastion, tmp_path):
    make_key(tmp_path / "stranger")
    box = cloud.ready(entry(reach="bastion", bastion=of(bastion)), lambda line: None)
    update = box.bastion.model_copy
    with pytest.raises(LoginRefused, match="bastion of box far") as caught:
        says(
            cloud.running(
                load_inventory()
                .box()
                .model_copy(update={"bastion": update(update={"ssh_key": tmp_path / "stranger"})})
            )
        )
    assert (
        "under `bastion:` of far" in caught.value.remedy
        and str(tmp_path / "stranger") in caught.value.why
    )
    with pytest.raises(BoxUnreachable, match="bastion of box far") as caught:
        says(
            cloud.running(
                load_inventory().box().model_copy(update={"bastion": update(update={"port": 9})})
            )
        )
    assert "`bastion:` of far" in caught.value.remedy


def test_the_boxs_own_host_key_is_checked_behind_the_bastion(entry, bastion, tmp_path):
    make_key(tmp_path / "other")
    box = cloud.ready(entry(reach="bastion", bastion=of(bastion)), lambda line: None)
    known_hosts.forget(box.id)
    known_hosts.pin(box.id, (tmp_path / "other.pub").read_text())
    with pytest.raises(HostKeyMismatch) as caught:
        says(box)
    assert "bastion" not in caught.value.where
    known_hosts.forget(box.id)


def test_through_session_manager(entry, tmp_path):
    box = cloud.ready(entry(reach="ssm"), lambda line: None)
    assert box.address == f"{box.id}:22", "nobody here knows an address of it"
    assert says(box) == box.id
    assert ssh_says(box) == block_says(box, tmp_path) == box.id
    content = os.urandom(3 << 20)
    with connect(box) as transport:
        assert transport.exec("cat", content).stdout == content
        client_ends = transport.exec("echo $SSH_CONNECTION").text.split()
    assert client_ends[0].startswith("127.")
    await_true(lambda: not plugins(box.id))
    groups = (
        endpoint.of_entry(load_inventory().box())
        .client("ec2")
        .describe_security_groups()["SecurityGroups"]
    )
    assert not [
        group for group in groups if group["GroupName"] != "default" and group["IpPermissions"]
    ], "nobody is let in at port 22"


def test_bulk_goes_by_the_bucket(entry, project, tmp_path):
    entry(reach="ssm")
    with (project / "inventory.yaml").open("a") as file:
        file.write("storage: {bucket: shared}\n")
    (tmp_path / "large.bin").write_bytes(content := os.urandom(5 << 20))
    box = cloud.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        release = build_release([tmp_path / "large.bin"])
        boxes.mark_environment(transport, CODE / "remote/payload/requirements.txt", box.root)
        done = deploy(transport, box.root, release, lambda line: None)
        assert (
            done.sent_bytes < 100_000
            and deploy(transport, box.root, release, lambda line: None).was_current
        )
        on_box = f"releases/{release.digest}/files/elsewhere{tmp_path}/large.bin"
        artifact = Artifact(on_box, len(content), digest.of_bytes(content))
        assert pull(transport, box.root, artifact, tmp_path / "back.bin").read_bytes() == content
    assert (
        not endpoint.of_box(box)
        .client("s3")
        .list_objects_v2(Bucket="shared", Prefix="windlass/")
        .get("Contents")
    )


def test_a_box_that_session_manager_does_not_know(entry):
    made = entry(reach="ssm")
    box = cloud.ready(made, lambda line: None)
    endpoint.of_box(box).client("ec2").stop_instances(InstanceIds=[box.id])
    with pytest.raises(BoxUnreachable, match="Session Manager has no connection") as caught:
        says(box)
    assert "./inv start far" in caught.value.remedy
    assert not reach.answers(box)


def plugins(instance_id):
    found = []
    for path in (CODE.__class__("/proc")).glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            b"remote.embedded.instances.session_plugin" in words
            and instance_id.encode() in b" ".join(words)
        ):
            found.append(path.parent.name)
    return found


def test_instance_connect_admits_the_key_for_a_login(entry, tmp_path, project):
    box = cloud.ready(entry(instance_connect="true"), lambda line: None)
    folder = project / ".windlass/cloud/instances" / box.id
    assert Record.read(folder / "machine.json").port == box.port
    assert (folder / "disk/.ssh/authorized_keys").read_text().strip() == "", (
        "no key pair was needed"
    )
    assert not endpoint.of_box(box).client("ec2").describe_key_pairs()["KeyPairs"]
    assert says(box) == box.id
    instance_connect.keys_file(folder).unlink()
    refused = subprocess.run(
        [*openssh.command(box), "true"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert refused.returncode == 255 and "Permission denied" in refused.stderr
    assert block_says(box, tmp_path) == box.id
    instance_connect.keys_file(folder).unlink()
    place = {"env": environment(), "cwd": CODE, "timeout": 60}
    typed = subprocess.run(
        command_of("ssh"),
        input="echo $WINDLASS_INSTANCE\n",
        capture_output=True,
        text=True,
        check=False,
        **place,
    )
    assert box.id in typed.stdout, typed.stderr


def test_an_admitted_key_is_forgotten(tmp_path):
    instance_connect.admit(tmp_path, "ssh-ed25519 AAAA", seconds=0.05)
    await_true(lambda: instance_connect.keys_file(tmp_path).read_text() == "")


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A real SSH agent; `agent(key, passphrase)` hands it a key."""
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL
    )
    await_true((tmp_path / "agent").exists)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))

    def add(key, passphrase=""):
        ask = tmp_path / "ask"
        ask.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
        ask.chmod(0o755)
        surroundings = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(
            ["ssh-add", "-q", str(key)], env=surroundings, check=True, stdin=subprocess.DEVNULL
        )

    yield add
    process.terminate()
    process.wait()


def test_a_key_with_a_passphrase_from_launch_to_login(entry, agent, tmp_path):
    make_key(tmp_path / "mine", passphrase="secret words")
    (tmp_path / "mine.pub").unlink()
    made = entry(ssh_key=tmp_path / "mine")
    with pytest.raises(LoginRefused) as caught:
        says(cloud.ready(made, lambda line: None))
    assert (
        f"ssh-add {tmp_path / 'mine'}" in caught.value.remedy
        and "the agent holds no key" in caught.value.why
    )
    agent(tmp_path / "mine", "secret words")
    box = cloud.running(made)
    assert says(box) == ssh_says(box) == box.id


def test_a_key_that_only_the_agent_has(entry, agent, tmp_path):
    make_key(tmp_path / "token")
    agent(tmp_path / "token")
    (tmp_path / "token").unlink()
    box = cloud.ready(entry(ssh_key=tmp_path / "token.pub"), lambda line: None)
    assert says(box) == ssh_says(box) == box.id


def test_many_keys_in_the_agent_are_all_tried_and_all_told(tmp_path, agent):
    with boxes.running_sshd(tmp_path / "sshd", "MaxAuthTries 2") as server:
        for number in range(5):
            make_key(tmp_path / f"key{number}")
            agent(tmp_path / f"key{number}")
        with pytest.raises(LoginRefused) as caught:
            server.transport(key=None).exec("true")
        assert caught.value.why.count("(SSH agent)") == 5
        with (server.folder / "authorized").open("a") as file:
            file.write((tmp_path / "key4.pub").read_text())
        with server.transport(key=None) as box:
            assert box.exec("echo in").text == "in\n"
