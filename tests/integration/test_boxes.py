"""The life of a box in the embedded cloud: real processes, a real SSH login, the same code as for
AWS."""

import json
import shutil
import subprocess
import sys
import time

import pytest

import tasks
from remote.control import project
from remote.control.cloud import boxes, embedded
from remote.control.cloud.access import openssh
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped, HostKeyMismatch
from remote.control.project import identity
from remote.control.ssh import known_hosts
from tests.integration.typed import command_of, environment, in_process

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJcZ3sHbNXkvDlyYZR7XqH5wtNbL9Wk6cfVwMSbDTlb"
pytestmark = pytest.mark.skipif(not shutil.which("ssh"), reason="needs OpenSSH's client")


@pytest.fixture
def entry(embedded_project):
    entry = load_inventory().box()
    yield entry
    boxes.terminate(entry)


def on_box(box, command):
    return subprocess.run(
        [*openssh.command(box), command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ids(entry):
    there = endpoint.of_entry(entry).client("ec2")
    found = there.describe_instances(
        Filters=[{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]
    )
    return [
        each["InstanceId"]
        for group in found["Reservations"]
        for each in group["Instances"]
        if each["State"]["Name"] != "terminated"
    ]


def test_from_launch_to_terminate(entry, embedded_project):
    said = []
    box = boxes.ready(entry, said.append)
    assert on_box(box, "echo hello; whoami").stdout.split() == ["hello", box.user]
    assert known_hosts.pinned(box.id)
    assert any("waiting" in line for line in said)
    assert on_box(box, "test -s ~/.windlass-box/limits.json").returncode == 0
    assert boxes.ready(entry, said.append) == boxes.running(entry) == box
    assert on_box(box, "echo kept > ~/file").returncode == 0

    boxes.stop(entry)
    with pytest.raises(BoxStopped):
        boxes.running(entry)
    again = boxes.start(entry, said.append)
    assert again.id == box.id
    assert on_box(again, "cat ~/file").stdout == "kept\n"

    boxes.terminate(entry)
    assert boxes.find(entry) is None
    assert known_hosts.pinned(box.id) == []
    assert ids(entry) == []


def test_the_users_own_ssh_files_are_neither_read_nor_written(entry, tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  Port 1\n  User nobody\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert on_box(boxes.ready(entry, lambda line: None), "true").returncode == 0
    assert [path.name for path in (tmp_path / ".ssh").iterdir()] == ["config"]


KILLED = """
import os, sys
from remote.control.cloud import boxes; from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
entry = load_inventory().box()
event = sys.argv[1] + ".ec2.RunInstances"
endpoint.of_entry(entry).client("ec2").meta.events.register(event, lambda **_: os._exit(9))
boxes.ready(entry, print)
"""


@pytest.mark.parametrize("moment", ["before-send", "after-call"])
def test_a_launch_that_was_killed_goes_on_where_it_was(entry, moment):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment], cwd=project.CODE, capture_output=True, text=True
    )
    assert killed.returncode == 9, killed.stderr
    assert len(ids(entry)) == (1 if moment == "after-call" else 0)
    box = boxes.ready(entry, lambda line: None)
    assert ids(entry) == [box.id]
    assert on_box(box, "true").returncode == 0


def test_the_cloud_itself_keeps_one_instance_for_a_token(entry, monkeypatch):
    box = boxes.ready(entry, lambda line: None)
    # As seen by a laptop to which the new instance does not show yet: AWS answers so for some
    # seconds.
    with monkeypatch.context() as patch:
        patch.setattr("remote.control.cloud.ec2.instances.of_box", lambda name, places: [])
        assert boxes.ready(entry, lambda line: None).id == box.id
    assert ids(entry) == [box.id]


def test_another_host_key_is_refused_by_windlass_and_by_ssh(entry):
    box = boxes.ready(entry, lambda line: None)
    trusted = known_hosts.pinned(box.id)
    known_hosts.forget(box.id)
    known_hosts.pin(box.id, OTHER_KEY)
    refused = on_box(box, "true")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
    with pytest.raises(HostKeyMismatch):
        boxes.ready(entry, lambda line: None)
    assert boxes.forget_host_key(entry)
    boxes.start(entry, lambda line: None)
    assert known_hosts.pinned(box.id) == trusted


def test_a_terminated_box_is_launched_anew(entry):
    first = boxes.ready(entry, lambda line: None)
    boxes.terminate(entry)
    assert boxes.ready(entry, lambda line: None).id != first.id


def test_a_box_ended_behind_our_back_is_seen_as_gone(entry):
    box = boxes.ready(entry, lambda line: None)
    endpoint.of_entry(entry).client("ec2").terminate_instances(InstanceIds=[box.id])
    eventually(lambda: boxes.find(entry) is None)
    boxes.terminate(entry)
    assert known_hosts.pinned(box.id) == []


def inv(capsys, words):
    return in_process(capsys, tasks.ns, words)


def test_the_commands(entry, capsys):
    code, out, err = inv(capsys, "launch --dry-run --json")
    assert (code, json.loads(out)["action"]) == (0, "launch it")
    assert ids(entry) == []
    code, out, err = inv(capsys, "start demo")
    assert code == 32
    assert "./inv launch demo" in err

    code, out, err = inv(capsys, "launch demo --json")
    launched = json.loads(out)
    assert (code, launched["state"]) == (0, "running")
    assert "demo is up" in err
    code, out, err = inv(capsys, "list --json")
    assert [(row["name"], row["id"]) for row in json.loads(out)] == [("demo", launched["id"])]
    code, out, err = inv(capsys, "box.ssh-config")
    assert out.startswith("Host windlass-demo\n")

    code, out, err = inv(capsys, "stop")
    assert (code, "demo is stopped" in out) == (0, True)
    code, out, err = inv(capsys, "ssh")
    assert code == 32
    assert "./inv start demo" in err

    code, out, err = inv(capsys, "terminate")
    assert code == 2
    assert "--yes" in err
    assert "will be lost" in err
    assert ids(entry) == [launched["id"]]
    code, out, err = inv(capsys, "terminate --yes")
    assert (code, ids(entry)) == (0, [])
    code, out, err = inv(capsys, "terminate --yes")
    assert code == 0


def test_a_command_on_a_box_is_run_and_ends_with_its_code(entry):
    boxes.ready(entry, lambda line: None)

    def ssh(*words, given=""):
        done = subprocess.run(
            command_of("ssh", *words),
            env=environment(),
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    assert ssh("demo", "--", "printf", "%s|", "two  words", "$HOME", "-la") == (
        0,
        "two  words|$HOME|-la|",
    )
    assert ssh("demo", "printf", "%s", "--help") == (0, "--help")
    assert ssh("demo", "--", "echo a | tr a b; exit 7") == (7, "b\n")
    assert ssh("demo", "cat", given="through\n") == (0, "through\n")
    assert ssh("--", "true") == (0, "")
    assert ssh("demo", "no-such-program")[0] == 127


def test_looking_starts_nothing(entry):
    embedded.down()
    (row,) = boxes.listing(load_inventory())
    assert row.state == "unknown"
    assert row.note == "the embedded cloud is down"
    assert embedded.running() is None
