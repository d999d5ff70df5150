"""Runs on this machine, without SSH: the commands as they are typed, cut off and gone on with."""

import json
import os
import signal
import subprocess

import pytest

from remote.contract.job.jobs import Status
from remote.control.backends import local, of_entry
from remote.control.config.inventory import LOCAL, load_inventory
from remote.control.project import CODE
from remote.control.runs.ledger import all_runs
from remote.control.runs.state import state_of
from remote.control.transport.local import of_this_machine
from tests.integration.boxes import await_true, mark_environment
from tests.integration.typed import command_of, environment, typed

INVENTORY = """\
default_box: lab
boxes:
  lab: {provider: static, host: 192.0.2.1, host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA}
"""

PLAYBOOK = """\
name: small
stages:
  prepare: {uses: prepare, with: {dataset: rows.jsonl, validation_share: 0.3}}
  pull: {uses: pull, with: {train: prepare.train}}
finally: [stop]
"""
ROWS = 200_000
"""So many take the box some seconds: time to be cut off in."""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with no box that can be reached; its environment is made, or believed so."""
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "small.yaml").write_text(PLAYBOOK)
    write_rows(tmp_path, 12)
    root = load_inventory().box(LOCAL).root
    requirements = CODE / "remote/payload/requirements.txt"
    mark_environment(of_this_machine("this machine"), requirements, root)
    return tmp_path


def write_rows(project, count):
    rows = (
        json.dumps({"instruction": f"Add {number} and 1.", "output": str(number + 1)})
        for number in range(count)
    )
    (project / "rows.jsonl").write_text("\n".join(rows) + "\n")


@pytest.fixture
def killed(project):
    """A run whose command was killed while its job works."""
    write_rows(project, ROWS)
    words = command_of("run", "small.yaml", "--on", "local")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, env=environment(), cwd=CODE, **quiet) as command:
        await_true(lambda: is_recorded(project, Status.RUNNING), 60)
        command.send_signal(signal.SIGKILL)
    assert is_recorded(project, Status.RUNNING)
    (run,) = all_runs()
    return run


def is_recorded(project, status):
    """Whether the job's supervisor has recorded that state."""
    records = (project / ".windlass/local/jobs").glob("*/state.json")
    return any(json.loads(record.read_text())["status"] == status.value for record in records)


def job_of(run):
    """The id of the run's first job, once it was asked for."""
    stage = state_of(run).stages.get("prepare")
    return stage.job_id if stage else ""


def told(*words):
    done = typed(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_run_works_here_and_every_look_at_it_does(project):
    checked = told("check", "small.yaml", "--on", "local")
    assert "small.yaml fits" in checked and "no clock stops it" in checked
    said = told("run", "small.yaml", "--on", "local")
    assert "finally: stop does not apply to this machine" in said
    (run,) = all_runs()
    assert (run.folder / "artifacts/prepare/train.jsonl").exists()
    assert "12 rows" in told("logs") and "12 rows" in told("logs", "local")
    assert "SUCCEEDED" in told("ps", "local", "--all")
    assert "went well" in told("why") and "pulled and verified" in told("pull")
    assert json.loads(told("receipt", "--json"))["cost_usd"] == 0
    assert "done before" not in told("resume", run.run_id)
    (jobs,) = (project / ".windlass/local/jobs").iterdir()
    assert jobs.name.startswith(run.run_id)


def test_the_job_of_a_killed_command_goes_on_and_is_taken_over(killed):
    job = job_of(killed)
    assert job in told("ps", "local", "--all").replace("prepare-", f"{killed.run_id}-prepare-")
    told("resume")
    state = state_of(killed)
    assert state.status is Status.SUCCEEDED and state.stages["prepare"].attempts == 1


def test_a_job_is_cancelled_and_its_run_goes_on_after_that(killed):
    said = told("cancel", "--patience", "5")
    assert "is CANCELLED" in said and "does not apply to this machine" in said
    assert state_of(killed).status is Status.CANCELLED
    told("resume")
    state = state_of(killed)
    assert state.status is Status.SUCCEEDED and state.stages["prepare"].attempts == 2


def test_what_needs_a_box_says_that_this_machine_is_none(project):
    for words in (["ssh", "local"], ["terminate", "local", "--yes"], ["reboot", "local"]):
        done = typed(*words)
        assert done.returncode and "this machine" in done.stderr
    done = typed("run", "small.yaml", "--on", "local", "--box", "lab")
    assert done.returncode and "name two places" in done.stdout + done.stderr


def test_a_box_that_is_called_local_is_that_box(project):
    (project / "inventory.yaml").write_text(INVENTORY.replace("lab", "local"))
    inventory = load_inventory()
    assert not isinstance(of_entry(inventory.box(LOCAL), inventory), local.LocalBackend)


def test_a_job_here_gets_no_secret_that_the_inventory_does_not_name(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("MY_TOKEN", "hush")
    answer = of_this_machine("this machine").exec("env")
    assert "hush" not in answer.text and f"HOME={os.environ['HOME']}" in answer.text
