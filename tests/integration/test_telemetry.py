"""`inv top`, `inv why` and `inv bundle` against a box of the embedded cloud, from a laptop that
knows nothing but the inventory."""

import json
import os
import pty
import select
import subprocess
import tarfile
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry import timeline
from remote.control.cloud import boxes, bucket
from remote.control.cloud.box import Box
from remote.control.config.inventory import load_inventory
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.jobs.state import read_state
from remote.control.observe import live
from remote.control.observe.live import Watcher
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.transport.connect import connect
from remote.control.transport.payload import call, payload_command

from .boxes import children, code_tree, deploy_stages, running_sshd, spec
from .typed import command_of, environment, typed

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"
INVENTORY = f"""\
default_box: one
storage: {{bucket: kept-jobs}}
boxes:
  one: {{provider: embedded}}
  none: {{provider: embedded}}  # {TOKEN}
  gone: {{provider: embedded}}
"""


@pytest.fixture(scope="module")
def box(embedded_project, tmp_path_factory):
    """A running box on which one job has failed and one goes on."""
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    box = boxes.ready(load_inventory().box("one"), lambda line: None)
    with connect(box) as transport:
        release = deploy_stages(
            transport, code_tree(tmp_path_factory.mktemp("code") / "code"), box.root
        )
        jobs.start(transport, box.root, spec(release, "failing", "haul-7-train", "haul-7"))
        jobs.start(
            transport,
            box.root,
            spec(release, "count", "haul-8-count", "haul-8", lines=100000, pause=0.1),
        )
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
        root = BoxPaths(Path(transport.exec(f"cd {box.root} && pwd -P").text.strip()))
        samples = _until(lambda: telemetry.read(root.telemetry))
        assert samples[-1].memory_total_gb > 0 and 0 <= samples[-1].cpu <= 1
        assert {event.job for event in timeline.read(root.timeline)} >= {
            "haul-7-train",
            "haul-8-count",
        }


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
    assert told.returncode != 0 and "no run, job, box or group `nix`" in told.stderr
    told = typed("why", "one", "--stage", "nix", seconds=60)
    assert told.returncode != 0 and "one has no job of a stage `nix`" in told.stderr


def test_why_of_a_box_that_is_gone_comes_out_of_the_bucket(box, tmp_path):
    entry = load_inventory().box("gone")
    gone = boxes.ready(entry, lambda line: None)
    with connect(gone) as transport:
        release = deploy_stages(transport, code_tree(tmp_path / "code"), gone.root)
        grant = bucket.of_entry("kept-jobs", entry).grant("haul-9", 600, always=True)
        call(
            transport,
            payload_command(gone.root, "transfer.upload", "grant"),
            json.dumps(asdict(grant)).encode(),
        )
        job = f"haul-9-talk-{'0' * 8}"
        jobs.start(transport, gone.root, spec(release, "count", job, "haul-9", lines=30, pause=0.1))
        _until(lambda: read_state(transport, gone.root, job).status.is_final)
        _until(lambda: bucket.of_entry("kept-jobs", entry).manifest(job))
    boxes.terminate(entry)
    told = json.loads(typed("why", "haul-9", "--json", seconds=60).stdout)
    assert (told["stage"], told["state"]["status"]) == ("talk", "SUCCEEDED") and told[
        "source"
    ].startswith("s3://kept-jobs/")
    assert (
        told["log"][-1] == "line 29 äöü"
        and told["samples"]
        and job in {event["job"] for event in told["events"]}
    )


def test_why_of_what_only_this_laptop_knows(box, embedded_project):
    ledger = Ledger.create("alone")
    plan = Plan(
        "alone", (PlannedStage("train", "train", {}), PlannedStage("install", "install", {}))
    )
    ledger.append("run_created", plan=plan.to_json(), box="none")
    told = typed("why", ledger.run_id, seconds=60)
    assert (
        told.stdout.startswith(f"train of {ledger.run_id} has not begun\n")
        and "1970" not in told.stdout
    )
    ledger.append(
        "stage_started", label="train", key="k", job_id=f"{ledger.run_id}-train-k", box="none"
    )
    log = ledger.folder / "logs" / "train.log"
    log.parent.mkdir()
    log.write_text("the last words\n")
    told = typed("why", ledger.run_id, seconds=60)
    assert (
        "the last words" in told.stdout
        and "this laptop's record alone" in told.stdout
        and "there is no box none" in told.stderr
    )
    assert "was under way when this laptop heard of it last" in told.stdout
    ledger.append("stage_finished", label="train", status="SUCCEEDED")
    ledger.append("stage_started", label="install", key="k")
    failure = {
        "what": "Ollama does not answer",
        "why": "refused",
        "remedy": "start it",
        "kept": "all",
        "exit_code": 3,
    }
    ledger.append("stage_finished", label="install", status="FAILED", failure=failure)
    told = typed("why", "alone", seconds=60)
    assert told.returncode != 0, "no run ends or begins so"
    told = typed("why", seconds=60)
    assert (
        told.stdout.startswith(f"install of {ledger.run_id} FAILED")
        and "Ollama does not answer" in told.stdout
    )
    assert f"start it; then `./inv resume {ledger.run_id}` goes on" in told.stdout


def test_why_of_a_job_that_was_refused_asks_nobody_and_blames_no_code(box, embedded_project):
    ledger = Ledger.create("refused")
    ledger.append(
        "run_created",
        plan=Plan("refused", (PlannedStage("train", "train", {}),)).to_json(),
        box="one",
    )
    ledger.append(
        "stage_started", label="train", key="k", job_id=f"{ledger.run_id}-train-k", box="one"
    )
    failure = {
        "what": "the box works for another job",
        "remedy": "`./inv resume --queue` waits in line for it",
        "exit_code": 75,
    }
    ledger.append("stage_finished", label="train", status="FAILED", failure=failure)
    told = typed("why", ledger.run_id, seconds=60)
    assert told.stdout.startswith(f"train of {ledger.run_id} FAILED after 0s on box one\n"), (
        told.stdout
    )
    assert (
        f"go on: `./inv resume {ledger.run_id} --queue` waits in line for it" in told.stdout
        and "does not tell" not in told.stderr
    )


def test_top_once_shows_the_box_its_job_and_the_box_that_is_not_there(box):
    one, none, _ = json.loads(typed("top", "--json", seconds=60).stdout)
    (running,) = (job for job in one["jobs"] if job["status"] == "RUNNING")
    assert (running["run_id"], running["stage"]) == ("haul-8", "count")
    assert running["metric"]["loss"] and running["line"].startswith("line ")
    assert one["sample"]["cpu"] >= 0 and one["clocks"]["limits"]
    assert (none["box"], none["state"], none["sample"]) == ("none", "terminated", None)
    plain = typed("top", seconds=60).stdout
    assert "haul-8" in plain and "RUNNING" in plain and "absent" in plain


@pytest.mark.parametrize(("end", "code"), [(b"q", 0), (b"", 143)], ids=["q", "SIGTERM"])
def test_top_is_live_until_its_end_and_leaves_the_terminal_as_it_was(box, end, code):
    leader, follower = pty.openpty()
    words = command_of("top", "one")
    surroundings = {**environment(), "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    with subprocess.Popen(
        words,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=surroundings,
        start_new_session=True,
    ) as process:
        os.close(follower)
        said = _read_until(leader, b"haul-8")
        if end:
            os.write(leader, end)
        else:
            process.terminate()
        rest = _read_until(leader, b"\x1b[?1049l")
        assert process.wait(20) == code
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
    told = json.loads(
        typed("bundle", "haul-7", "--to", str(tmp_path / "b.tar.gz"), "--json", seconds=60).stdout
    )
    with tarfile.open(told["path"]) as archive:
        contents = {
            member.name: archive.extractfile(member).read() for member in archive.getmembers()
        }
    assert {name.split("/", 1)[1] for name in contents} == set(told["files"])
    names = {
        "README.txt",
        "versions.json",
        "inventory.yaml",
        "jobs/failing/why.txt",
        "jobs/failing/evidence.json",
        "box/one.txt",
    }
    assert names <= set(told["files"])
    whole = b"".join(contents.values())
    assert TOKEN.encode() not in whole and b"PRIVATE KEY" not in whole
    assert (
        b"RuntimeError: a bug" in whole and (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    )


@pytest.mark.sshd
def test_a_connection_that_breaks_is_made_anew_and_none_is_kept_to_an_idle_box(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(live, "AGAIN_SECONDS", 0.1)
    with running_sshd(tmp_path / "sshd") as server:
        with server.transport() as transport:
            release = deploy_stages(transport, code_tree(tmp_path / "code"))
            jobs.start(transport, "windlass", spec(release, "count", lines=100000, pause=0.1))
        here = Box(
            "demo",
            "static",
            "",
            "running",
            server.host,
            server.port,
            "me",
            None,
            "",
            "",
            "",
            "windlass",
            None,
            None,
            None,
        )
        watcher = Watcher([here], lambda box: server.transport(), 0.2)
        first = _until(lambda: watcher.views()[0].has_job and watcher.views()[0])
        _until(lambda: len(watcher.views()[0].past) > 2)
        assert server.cut() == 1, "one connection a box"
        _until(lambda: watcher.views()[0].why)
        again = _until(lambda: not watcher.views()[0].why and watcher.views()[0])
        assert again.at > first.at and len(again.past) > 2
        with server.transport() as transport:
            cancel(transport, "windlass", "job-1", 5)
        _until(lambda: not watcher.views()[0].has_job)
        _until(lambda: not children(server.process.pid))
        ended = watcher.views()[0].told.jobs[0]
        assert (ended.status, ended.job_id) == ("CANCELLED", "job-1")
        watcher.close()
