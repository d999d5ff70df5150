"""A `finally` that could not be done is owed: it stands in the ledger over errors and kills, and
the next command on the run does it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from remote.contract.job.jobs import Status
from remote.control.cloud import boxes, embedded
from remote.control.commands.views.runs.listing import row as run_row
from remote.control.config.inventory import load_inventory
from remote.control.errors import PermissionDenied
from remote.control.project import CODE
from remote.control.runs import cleanup
from remote.control.runs.engine import begin, drive, prepare_run
from remote.control.runs.state import state_of
from remote.control.transport.connect import connect
from tests.integration.boxes import mark_environment

PLAYBOOK = (
    "name: small\nstages:\n  prepare: {uses: prepare, with: {dataset: rows.jsonl}}\nfinally:"
    " [stop]\n"
)


@pytest.fixture(scope="module")
def project(embedded_project):
    """An embedded box that believes to have its environment, and a playbook that stops it at the
    end."""
    box = boxes.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    rows = [
        json.dumps({"instruction": f"Add {number} and 1.", "output": str(number + 1)})
        for number in range(12)
    ]
    (embedded_project / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (embedded_project / "small.yaml").write_text(PLAYBOOK)
    return embedded_project


@pytest.fixture
def run(project):
    """A run that has begun."""
    return begin(*prepare_run("small.yaml", load_inventory()))


def inv(project, *words: str) -> "subprocess.CompletedProcess[str]":
    surroundings = {**os.environ, "WINDLASS_PROJECT": str(project)}
    return subprocess.run(
        [CODE / "inv", *words],
        cwd=project,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def box_state() -> str:
    return boxes.find(load_inventory().box()).state


def no_stop(count: int | None = None) -> None:
    embedded.inject(
        embedded.endpoint(),
        {"kind": "permission", "operation": "StopInstances", **({"count": count} if count else {})},
    )


@pytest.fixture(autouse=True)
def without_faults(project):
    yield
    embedded.clear(embedded.endpoint())


def test_a_stop_that_failed_is_owed_told_and_done_again(project, run):
    no_stop()
    with pytest.raises(PermissionDenied) as caught:
        drive(run, load_inventory())
    assert f"`./inv resume {run.run_id}` does `finally: stop` again" in caught.value.remedy
    state = state_of(run)
    assert (
        state.status is Status.SUCCEEDED
        and list(state.owed) == ["stop"]
        and state.owed["stop"]["why"]
    )
    assert box_state() == "running"
    told = inv(project, "status", "--quick")
    assert f"owed by run {run.run_id}: stop of box demo" in told.stdout + told.stderr
    assert f"./inv resume {run.run_id}" in told.stdout + told.stderr
    assert "owed: stop of box demo" in run_row(run, state)[3]
    assert cleanup.clear(dry_run=True)[1][run.run_id].startswith("it owes: stop of box demo")
    with pytest.raises(PermissionDenied):
        drive(run, load_inventory(), "resume")  # it fails again, and goes on being owed
    assert state_of(run).owed
    embedded.clear(embedded.endpoint())
    assert drive(run, load_inventory(), "resume").owed == {}
    assert box_state() == "stopped"
    assert state_of(run).status is Status.SUCCEEDED


def test_after_a_kill_within_finally_the_stop_is_owed(project, run):
    """Killed by SIGKILL while it stops the box: a stop that hangs, as the cloud does not let it
    through."""
    code = (
        "import os, signal\n"
        "from remote.control.cloud import boxes\n"
        "boxes.stop = lambda entry: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from remote.control.config.inventory import load_inventory\n"
        "from remote.control.runs.engine import drive\n"
        "from remote.control.targets import find_run\n"
        f"drive(find_run({run.run_id!r}), load_inventory())\n"
    )
    surroundings = {**os.environ, "WINDLASS_PROJECT": str(project), "PYTHONPATH": str(CODE)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=surroundings,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(state_of(run).owed) == ["stop"] and box_state() == "running"
    assert drive(run, load_inventory(), "resume").owed == {}
    assert box_state() == "stopped"


def test_what_is_owed_for_a_box_that_is_gone_is_done(project, run):
    no_stop()
    with pytest.raises(PermissionDenied):
        drive(run, load_inventory())
    embedded.clear(embedded.endpoint())
    boxes.terminate(load_inventory().box())
    box = boxes.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    assert drive(run, load_inventory(), "resume").owed == {}
    assert box_state() == "running"  # another machine, of which that run never heard


def test_one_jobs_file_stops_neither_list_nor_run_nor_its_stop(project, run):
    """What the box's other jobs left there: too deep, no JSON, a folder, a pipe, a device."""
    box = boxes.ready(load_inventory().box(), lambda line: None)
    jobs = project / f".windlass/cloud/instances/{box.id}/disk/windlass/jobs"
    places = [jobs / f"bad-{number}" for number in range(6)]
    for place in places:
        place.mkdir(parents=True)
    (places[0] / "state.json").write_text("[" * 50_000 + "]" * 50_000)
    (places[1] / "state.json").write_bytes(os.urandom(300))
    (places[2] / "state.json").mkdir()
    os.mkfifo(places[3] / "state.json")
    (places[4] / "state.json").symlink_to("/dev/zero")
    senseless = {
        "job_id": "bad-5",
        "stage": "x",
        "status": "RUNNING",
        "pid": 10**30,
        "started_at": 1e300,
    }
    (places[5] / "state.json").write_text(json.dumps(senseless))
    began = time.monotonic()
    assert drive(run, load_inventory()).status is Status.SUCCEEDED
    assert box_state() == "stopped" and time.monotonic() - began < 60
    boxes.ready(load_inventory().box(), lambda line: None)
    listed = json.loads(inv(project, "ps", "--all", "--json").stdout)
    bad = {job["job_id"]: job for job in listed if job["job_id"].startswith("bad-")}
    assert set(bad) == {place.name for place in places}
    assert {job["status"] for job in bad.values()} == {"LOST"}
    assert "cannot be read" in bad["bad-0"]["what"]
    assert inv(project, "top", "demo", "--json").returncode in (0, 2)
    assert inv(project, "cancel", "bad-0").returncode == 0
