"""Every fault of the embedded cloud by the commands a person types: the right exit code, a remedy,
and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass

import pytest

import tasks
from remote.contract.job.exits import Exit
from remote.control import project
from remote.control.cloud import embedded
from tests.integration.typed import ended

from .typed import command_of, typed

INVENTORY = """
default_box: gpu
boxes:
  gpu: {provider: embedded, instance_type: g5.2xlarge, disk_gb: 8}
  spot: {provider: embedded, instance_type: g5.2xlarge, disk_gb: 8, market: spot, fallbacks: [{zone: us-east-1b}, {market: on-demand}]}
  brief: {provider: embedded, instance_type: g5.2xlarge, disk_gb: 8, clocks: {idle: 10s}}
  far: {provider: embedded, instance_type: g5.2xlarge, disk_gb: 8, zone: us-east-1a, fallbacks: [{region: us-west-2}]}
"""


@pytest.fixture
def cloud(embedded_project):
    (project.root() / "inventory.yaml").write_text(INVENTORY)
    url = embedded.endpoint()
    yield url
    embedded.clear(embedded.endpoint())
    if left(embedded.endpoint()):
        told = inv("terminate", "gpu", "spot", "brief", "far", "--yes")
        assert told.code == 0, told.err


@dataclass(frozen=True)
class Told:
    """What a command left: its exit code and both its outputs."""

    code: int
    out: str
    err: str


def inv(*words):
    done = typed(*words, seconds=180)
    return Told(done.returncode, done.stdout, done.stderr)


def fault(*words):
    """`./inv cloud.fault`, as typed, in this process."""
    assert ended(tasks.ns, "cloud.fault", *words) == 0


def left(url):
    return {kind: found for kind, found in embedded.leaks(url).items() if found}


def box(name):
    (found,) = [
        each for each in json.loads(inv("status", "--json").out)["boxes"] if each["name"] == name
    ]
    return found


@pytest.mark.parametrize(
    ("words", "exit_code", "why", "remedy"),
    [
        ("capacity", Exit.CAPACITY, "InsufficientInstanceCapacity", "./inv launch gpu --wait"),
        ("quota", Exit.QUOTA, "VcpuLimitExceeded", "--quota-code L-DB2E81BA"),
        (
            "permission --operation RunInstances",
            Exit.PERMISSION,
            "ec2:RunInstances",
            "./inv doctor --policy user",
        ),
        (
            "permission --operation CreateSecurityGroup",
            Exit.PERMISSION,
            "ec2:CreateSecurityGroup",
            "./inv doctor --policy user",
        ),
        ("credentials", Exit.CREDENTIALS, "ExpiredToken", "aws sso login"),
        ("clock-skew", Exit.CREDENTIALS, "RequestExpired", "set the laptop's clock"),
        ("throttle", Exit.CLOUD, "RequestLimitExceeded", "wait a minute"),
        (
            "no-subnet",
            Exit.CLOUD,
            "MissingInput",
            "aws ec2 create-default-subnet --region us-east-1 --availability-zone us-east-1a",
        ),
        (
            "subnet-full",
            Exit.CLOUD,
            "InsufficientFreeAddressesInSubnet",
            "aws ec2 describe-subnets --region us-east-1",
        ),
    ],
)
def test_a_launch_that_is_refused_makes_nothing(cloud, words, exit_code, why, remedy):
    fault(*words.split())
    told = inv("launch", "gpu", "--yes")
    assert told.code == exit_code
    assert why in told.err
    assert remedy in told.err
    assert left(cloud) == {}


def test_the_same_launch_goes_through_once_the_fault_is_over(cloud):
    fault("capacity")
    assert inv("launch", "gpu", "--yes").code == Exit.CAPACITY
    fault("--clear")
    assert inv("launch", "gpu", "--yes").code == 0


def test_throttling_that_passes_is_waited_out(cloud):
    fault("throttle", "--count", "2")
    assert inv("launch", "gpu", "--yes").code == 0


@pytest.mark.parametrize(
    ("name", "words", "attempts", "where"),
    [
        ("spot", ["capacity", "--market", "spot"], 3, {"market": "on-demand"}),
        ("spot", ["spot-price", "--market", "spot"], 3, {"market": "on-demand"}),
        ("far", ["capacity", "--zone", "us-east-1a"], 2, {"region": "us-west-2"}),
        ("far", ["no-subnet", "--zone", "us-east-1a"], 2, {"region": "us-west-2"}),
        ("far", ["subnet-full", "--zone", "us-east-1a"], 2, {"region": "us-west-2"}),
    ],
)
def test_capacity_price_and_network_move_on_to_the_next_offer(cloud, name, words, attempts, where):
    fault(*words)
    told = inv("launch", name, "--yes")
    assert told.code == 0, told.err
    assert (
        len(
            re.findall(
                rf"^{name}: g5.2xlarge .*: (?:capacity|price|network|launched)",
                told.err,
                re.MULTILINE,
            )
        )
        == attempts
    )
    found = box(name)
    assert {key: found[key] for key in where} == where
    inv("terminate", name, "--yes")
    assert left(cloud) == {}


def test_a_quota_does_not_move_on(cloud):
    fault("quota", "--market", "spot")
    told = inv("launch", "spot", "--yes")
    assert told.code == Exit.QUOTA
    assert "L-3819A6DF" in told.err
    assert left(cloud) == {}


def test_a_stopped_box_without_capacity_offers_three_ways_and_keeps_its_disk(cloud):
    inv("launch", "gpu", "--yes")
    inv("stop", "gpu")
    before = box("gpu")["id"]
    fault("capacity")
    told = inv("start", "gpu")
    assert told.code == Exit.CAPACITY
    assert all(
        way in told.err
        for way in ("./inv start gpu --wait", "./inv box.move gpu", "./inv launch gpu --fresh")
    )
    assert (box("gpu")["id"], box("gpu")["state"]) == (before, "stopped")


@pytest.mark.parametrize(
    ("kind", "state"), [("stop", "stopped"), ("terminate", "absent"), ("reboot", "running")]
)
def test_what_the_console_does_to_a_box_is_seen_as_what_it_is(cloud, kind, state):
    inv("launch", "gpu", "--yes")
    fault(kind, "--box", "gpu")
    _until(lambda: box("gpu")["state"] == state)
    assert state != "stopped" or box("gpu")["note"].startswith("user: ")
    assert inv("launch", "gpu", "--yes").code == 0
    assert box("gpu")["state"] == "running"
    inv("terminate", "gpu", "--yes")
    assert left(cloud) == {}


def test_a_late_console_is_waited_for(cloud):
    fault("console-late", "--seconds", "4")
    told = inv("launch", "gpu", "--yes")
    assert told.code == 0
    assert "waiting for the host key" in told.err


def test_another_host_key_is_refused(cloud):
    inv("launch", "gpu", "--yes")
    fault("host-key", "--box", "gpu")
    inv("reboot", "gpu")
    told = inv("deploy", "gpu")
    assert told.code == Exit.HOST_KEY_MISMATCH
    assert "./inv box.forget gpu" in told.err


def test_a_full_disk_on_the_box(cloud):
    inv("launch", "gpu", "--yes")
    fault("disk-full", "--box", "gpu")
    told = inv("deploy", "gpu")
    assert told.code == Exit.DISK_FULL
    assert "full" in told.err


def test_a_box_without_a_metadata_service_is_still_under_its_clocks(cloud):
    fault("imds", "--box", "gpu")
    told = inv("launch", "gpu", "--yes")
    assert told.code == 0, told.err
    assert box("gpu")["clocks"]["limits"]["lifetime"] > 0


def test_a_box_whose_boot_never_ends_is_stopped_by_its_clocks(cloud):
    fault("hang-user-data", "--box", "brief", "--count", "1")
    told = inv("launch", "brief", "--yes")
    assert told.code == Exit.BOX_STOPPED, told.err
    assert "before SSH answered" in told.err
    assert "./inv start brief" in told.err
    assert box("brief")["state"] == "stopped"
    assert inv("start", "brief").code == 0


@pytest.mark.parametrize("after", [0.8, 1.6, 3.0])
def test_a_launch_that_is_killed_leaves_nothing_or_a_box_whose_clocks_run(cloud, after):
    launch = subprocess.Popen(
        command_of("launch", "gpu", "--yes"),
        cwd=project.CODE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(after)
    os.killpg(launch.pid, signal.SIGKILL)
    launch.wait()
    if left(cloud).get("instances"):
        _until(lambda: box("gpu")["state"] == "running")
        assert inv("start", "gpu").code == 0
        assert box("gpu")["clocks"]["stops_in"] > 0
    inv("terminate", "gpu", "--yes")
    assert left(cloud) == {}


def _until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
