"""`inv top`, `inv why` and `inv bundle` against a box of the embedded cloud, from a laptop that knows nothing but the inventory."""

import json
import os
import pty
import select
import subprocess
import tarfile
import time

import pytest

from remote.contract import telemetry, timeline
from remote.contract.paths import BoxPaths
from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.jobs.state import read_state
from remote.control.transport.connect import connect

from .boxes import code_tree, deploy_stages, spec
from .typed import command_of, environment, typed

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture(scope="module")
def box(embedded_project, tmp_path_factory):
    """A running box on which one job has failed and one goes on."""
    (embedded_project / "inventory.yaml").write_text(
        f"default_box: one\nboxes:\n  one: {{provider: embedded}}\n  none: {{provider: embedded}}  # {TOKEN}\n"
    )
    box = boxes.ready(load_inventory().box("one"), lambda line: None)
    with connect(box) as transport:
        release = deploy_stages(transport, code_tree(tmp_path_factory.mktemp("code") / "code"), box.root)
        jobs.start(transport, box.root, spec(release, "failing", "haul-7-train", "haul-7"))
        jobs.start(transport, box.root, spec(release, "count", "haul-8-count", "haul-8", lines=100000, pause=0.1))
        _until(lambda: read_state(transport, box.root, "haul-7-train").status.is_final)
        yield box
        cancel(transport, box.root, "haul-8-count", 5)
    boxes.terminate(load_inventory().box("one"))


def _until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_box_is_sampled_while_a_job_runs(box):
    with connect(box) as transport:
        root = BoxPaths(transport.exec(f"cd {box.root} && pwd").text.strip() and _path(transport, box))
        samples = _until(lambda: telemetry.read(root.telemetry))
        assert samples[-1].memory_total_gb > 0 and 0 <= samples[-1].cpu <= 1
        assert {event.job for event in timeline.read(root.timeline)} >= {"haul-7-train", "haul-8-count"}


def _path(transport, box):
    from pathlib import Path

    return Path(transport.exec(f"cd {box.root} && pwd -P").text.strip())


def test_why_tells_cause_log_curves_and_the_way_on(box):
    told = typed("why", "haul-7", seconds=60)
    assert told.returncode == 0, told.stderr
    assert "failing of haul-7 FAILED (code)" in told.stdout and "on box one" in told.stdout
    assert "RuntimeError: a bug" in told.stdout
    assert "go on: " in told.stdout and "`./inv resume haul-7` goes on" in told.stdout


def test_why_of_a_job_that_goes_on_is_json_too(box):
    told = json.loads(typed("why", "one", "--stage", "count", "--json", seconds=60).stdout)
    assert (told["run_id"], told["box"], told["state"]["status"]) == ("haul-8", "one", "RUNNING")
    assert told["samples"] and told["log"] and told["metrics"]
    assert "./inv cancel haul-8" in told["go_on"]


def test_what_nobody_knows_is_not_found(box):
    told = typed("why", "nix", seconds=60)
    assert told.returncode != 0 and "nothing is known of `nix`" in told.stderr


def test_top_once_shows_the_box_its_job_and_the_box_that_is_not_there(box):
    one, none = json.loads(typed("top", "--json", seconds=60).stdout)
    (running,) = (job for job in one["jobs"] if job["status"] == "RUNNING")
    assert (running["run_id"], running["stage"]) == ("haul-8", "count")
    assert running["metric"]["loss"] and running["line"].startswith("line ")
    assert one["sample"]["cpu"] >= 0 and one["clocks"]["limits"]
    assert (none["box"], none["state"], none["sample"]) == ("none", "terminated", None)
    plain = typed("top", seconds=60).stderr
    assert "haul-8" in plain and "RUNNING" in plain and "absent" in plain


def test_top_is_live_until_q_and_leaves_the_terminal_as_it_was(box):
    leader, follower = pty.openpty()
    words = command_of("top", "one")
    surroundings = {**environment(), "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    with subprocess.Popen(words, stdin=follower, stdout=follower, stderr=follower, env=surroundings, start_new_session=True) as process:
        os.close(follower)
        said = _read_until(leader, b"haul-8")
        os.write(leader, b"q")
        rest = _read_until(leader, b"\x1b[?1049l")
        assert process.wait(20) == 0
    os.close(leader)
    assert b"\x1b[?1049h" in said and b"Traceback" not in said + rest


def _read_until(leader, wanted, seconds=40.0):
    said, deadline = b"", time.monotonic() + seconds
    while wanted not in said:
        assert time.monotonic() < deadline, said
        if select.select([leader], [], [], 0.2)[0]:
            try:
                said += os.read(leader, 65536)
            except OSError:  # the other end has closed
                assert wanted in said, said
    return said


def test_a_bundle_holds_everything_and_no_secret(box, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secretsecretsecret42")
    told = json.loads(typed("bundle", "haul-7", "--to", str(tmp_path / "b.tar.gz"), "--json", seconds=60).stdout)
    with tarfile.open(told["path"]) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    assert {name.split("/", 1)[1] for name in contents} == set(told["files"])
    names = {"README.txt", "versions.json", "inventory.yaml", "jobs/failing/why.txt", "jobs/failing/evidence.json", "box/one.txt"}
    assert names <= set(told["files"])
    whole = b"".join(contents.values())
    assert TOKEN.encode() not in whole and b"PRIVATE KEY" not in whole
    assert b"RuntimeError: a bug" in whole and (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
