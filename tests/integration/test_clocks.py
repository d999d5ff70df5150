"""The clocks of boxes in the embedded cloud: armed before SSH exists, and what ends a box when
nobody is looking."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from remote.contract.job.clocks import Reading
from remote.control import project
from remote.control.backends import clocks
from remote.control.cloud import boxes, embedded, limits
from remote.control.cloud.account import endpoint
from remote.control.cloud.ec2 import user_data
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxUnreachable
from remote.control.jobs import start as jobs
from remote.control.transport.connect import connect

from .boxes import await_true, code_tree, deploy_stages, is_running, spec
from .typed import typed

SILENT = lambda line: None  # noqa: E731


@pytest.fixture
def entry(embedded_project, request):
    keys = getattr(request, "param", "")
    (embedded_project / "inventory.yaml").write_text(
        f"default_box: demo\nboxes:\n  demo: {{provider: embedded, {keys}}}\n"
    )
    entry = load_inventory().box()
    yield entry
    embedded.clear(embedded.endpoint())
    boxes.terminate(entry)


def ready(entry):
    return boxes.ready(entry, SILENT, set_deadlines=clocks.set_deadlines)


def folder_of(box) -> Path:
    """The watchdog's folder, seen from outside: to look without an SSH session of our own."""
    return Path(embedded.describe(embedded.endpoint(), box.id)["disk"]) / ".windlass-box"


def reading_of(box) -> Reading:
    return Reading.from_json((folder_of(box) / "reading.json").read_text())


def pid_of(box) -> int:
    return int((folder_of(box) / "lock").read_text().split()[0])


def is_stopped(entry):
    return boxes.find(entry).state == "stopped"


def log_of(box) -> str:
    return (folder_of(box) / "log").read_text()


def rearm(box, limits):
    with connect(box) as transport:
        return clocks.set_limits(transport, limits, None, box.name, box.root)


@pytest.mark.parametrize("entry", ["clocks: {idle: 3s}"], indirect=True)
def test_an_idle_box_stops_itself_and_starts_again_with_full_clocks(entry):
    box = ready(entry)
    session = reading_of(box).limits.session
    assert session == str(int(box.launched_at))
    await_true(lambda: is_stopped(entry), 60)
    assert "idle clock" in embedded.console(embedded.endpoint(), box.id)
    assert boxes.ended_by(box).startswith("itself")
    again = ready(entry)
    assert again.id == box.id
    reading = reading_of(again)
    assert reading.state in ("busy", "idle")
    assert reading.elapsed < 30


@pytest.mark.parametrize("entry", ["clocks: {idle: 5m}"], indirect=True)
def test_a_box_whose_watchdog_is_killed_stops(entry):
    box = ready(entry)
    rearm(box, replace(limits.of_start(entry, box), tick=0.5, ahead=5))
    await_true(lambda: reading_of(box).limits.ahead == 5)
    time.sleep(6)  # longer than ahead: it is pushed forward
    assert not is_stopped(entry)
    os.kill(pid_of(box), signal.SIGKILL)
    await_true(lambda: is_stopped(entry), 60)


KILLED = """
import json
import os
from remote.control.cloud import boxes; from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxUnreachable
entry = load_inventory().box()
endpoint.of_entry(entry).client("ec2").meta.events.register("after-call.ec2.RunInstances", lambda **_: os._exit(9))
boxes.ready(entry, print)
"""


@pytest.mark.parametrize("entry", ["clocks: {idle: 3s}"], indirect=True)
def test_a_launch_that_was_killed_leaves_a_box_whose_clocks_run(entry):
    embedded.endpoint()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=project.CODE, capture_output=True, text=True
    )
    assert killed.returncode == 9, killed.stderr
    await_true(lambda: is_stopped(entry), 60)
    (box,) = [box for box in boxes.listing(load_inventory()) if box.name == "demo"]
    assert "idle clock" in log_of(box)


@pytest.mark.parametrize("entry", ["clocks: {idle: 5m}"], indirect=True)
def test_a_reboot_goes_on_counting_and_arms_the_clocks_anew(entry):
    box = ready(entry)
    with connect(box) as transport:
        clocks.extend(transport, "idle", 60)
        before, pid = clocks.read(transport), pid_of(box)
        with contextlib.suppress(BoxUnreachable):  # the connection goes with the box
            transport.exec("sudo reboot")
    await_true(lambda: not is_running(pid), 60)
    await_true(lambda: log_of(box).count("watching:") == 2, 60)
    await_true(lambda: reading_of(box).at > before.at, 60)
    after = reading_of(box)
    assert after.elapsed > before.elapsed
    assert (after.limits.session, after.limits.idle) == (before.limits.session, 360)
    assert boxes.find(entry).state == "running"


@pytest.mark.parametrize("entry", ["market: spot, clocks: {idle: 5m}"], indirect=True)
def test_a_spot_notice_reaches_the_jobs_before_the_box_goes(entry, tmp_path):
    box = ready(entry)
    with connect(box) as transport:
        release = deploy_stages(transport, code_tree(tmp_path / "code"), "windlass")
        state = jobs.start(transport, "windlass", spec(release, "endless"))
    await_true(lambda: (folder_of(box).parent / "windlass/jobs/job-1/log").read_text())
    embedded.inject(embedded.endpoint(), {"kind": "spot-notice", "box": "demo", "seconds": 60})
    await_true(lambda: not is_running(state.pid), 60)
    told = (folder_of(box).parent / "windlass/notice.json").read_text()
    assert '"kind": "spot"' in told
    assert "the cloud will terminate this spot instance" in embedded.console(
        embedded.endpoint(), box.id
    )
    await_true(lambda: (folder_of(box).parent / "windlass/jobs/job-1/checkpoints/step-7").exists())


@pytest.mark.parametrize("entry", ["market: spot, clocks: {idle: 5m}"], indirect=True)
def test_a_rebalance_notice_asks_for_a_checkpoint_once_and_the_job_goes_on(entry, tmp_path):
    box = ready(entry)
    with connect(box) as transport:
        release = deploy_stages(transport, code_tree(tmp_path / "code"), "windlass")
        state = jobs.start(transport, "windlass", spec(release, "endless"))
    flush = folder_of(box).parent / "windlass/jobs/job-1/flush"
    embedded.inject(embedded.endpoint(), {"kind": "rebalance", "box": "demo"})
    await_true(lambda: "asked for a checkpoint" in log_of(box), 60)
    flush.unlink(missing_ok=True)
    time.sleep(6)  # the service is asked every five seconds
    assert log_of(box).count("asked for a checkpoint") == 1
    assert is_running(state.pid)


@pytest.mark.parametrize("entry", ["clocks: {idle: 3s}"], indirect=True)
def test_without_a_metadata_service_the_clocks_run_all_the_same(entry):
    embedded.inject(embedded.endpoint(), {"kind": "imds", "box": "demo"})
    box = ready(entry)
    assert reading_of(box).limits.session == str(int(box.launched_at))
    await_true(lambda: is_stopped(entry), 60)
    again = ready(entry)
    assert reading_of(again).limits.session == str(int(again.launched_at))


def test_a_box_that_cannot_run_its_watchdog_stops(entry, monkeypatch):
    """As with an image whose python3 is missing or broken."""
    monkeypatch.setattr(user_data, "_packed", lambda: ("no such thing", "0"))
    monkeypatch.setattr(limits, "AHEAD_SECONDS", 3.0)
    box = boxes.ready(entry, SILENT)
    await_true(lambda: is_stopped(entry), 60)
    assert "the watchdog cannot be unpacked" in embedded.console(embedded.endpoint(), box.id)


@pytest.mark.parametrize("entry", ["clocks: {idle: 5m}"], indirect=True)
def test_an_adopted_box_without_our_user_data_gets_a_watchdog_over_ssh(entry):
    box = boxes.ready(entry, SILENT)
    await_true(lambda: (folder_of(box) / "lock").exists())
    os.kill(pid_of(box), signal.SIGKILL)
    subprocess.run(["rm", "-rf", folder_of(box)], check=True)
    with connect(box) as transport:
        assert clocks.read(transport) is None
        reading = clocks.set_limits(
            transport, limits.of_start(entry, box), None, "demo", "windlass"
        )
    assert reading.activity == ["1 SSH session"]
    assert endpoint.of_entry(entry).region == box.region


def inv(*words):
    return typed(*words)


@pytest.mark.parametrize("entry", ["clocks: {idle: 5m}"], indirect=True)
def test_the_commands(entry):
    refused = inv("box.clocks", "demo")
    assert refused.returncode == 32
    assert "./inv launch demo" in refused.stderr
    ready(entry)
    shown = inv("box.clocks", "demo")
    assert shown.returncode == 0, shown.stderr
    assert all(
        word in shown.stdout
        for word in ("demo is ", "idle", "lifetime", "12h00", "dollars", "stopped")
    )
    told = json.loads(inv("box.clocks", "--json").stdout)
    assert (told["box"], told["limits"]["idle"]) == ("demo", 300)

    rehearsed = inv("box.extend", "demo", "--lifetime", "2h", "--dry-run", "--json")
    assert json.loads(rehearsed.stdout)["limits"]["lifetime"] == 43200
    extended = json.loads(
        inv("box.extend", "demo", "--lifetime", "2h", "--dollars", "3", "--json").stdout
    )
    assert (extended["limits"]["lifetime"], extended["limits"]["dollars"]) == (50400, 28)
    for words in ((), ("--lifetime", "soon"), ("--dollars", "-1")):
        assert inv("box.extend", "demo", *words).returncode == 2
