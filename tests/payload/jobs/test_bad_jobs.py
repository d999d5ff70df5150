"""Whatever one job left in its folder is one bad row: the others are told, started, ended and
spilled as ever, and at once."""

import json
import os
import time
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry import evidence
from remote.payload import process
from remote.payload.jobs import outcome, queue, secrets, states, supervise
from remote.payload.jobs.outcome import Ending
from remote.payload.telemetry.top import Jobs
from remote.payload.transfer import receive, upload
from remote.payload.watchdog import activity
from remote.payload.watchdog.place import Place
from tests.contract.hostile import FILES, JSON

SECONDS = 5.0


@pytest.fixture
def box(tmp_path):
    """A box with one job that runs, in this very process."""
    box = BoxPaths(tmp_path / "windlass")
    good(box, "good")
    return box


def good(box: BoxPaths, job_id: str, status: Status = Status.RUNNING) -> None:
    paths = box.job(job_id)
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(JobSpec(job_id, "train", "r" * 64, run_id="run").to_json())
    me = os.getpid()
    states.write(
        paths,
        JobState(
            job_id,
            "train",
            status,
            me,
            process.start_ticks(me),
            process.boot_id(),
            started_at=time.time(),
        ),
    )


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_state_is_one_row(box, kind):
    paths = box.job("bad")
    paths.folder.mkdir()
    FILES[kind](paths.state)
    began = time.monotonic()
    told = {job["job_id"]: job for job in supervise.listing(box)}
    assert told["good"]["status"] == "RUNNING"
    assert (told["bad"]["status"], told["bad"]["cause"]) == (
        "LOST",
        "lost",
    ) and "cannot be read" in told["bad"]["what"]
    assert [job.id for job in activity.jobs(box.root)] == ["good"]
    assert "good" in [job["job_id"] for job in Jobs(box).records(time.time())]
    assert supervise.cancel(box, "bad", 1.0).status is Status.LOST
    assert set(receive._jobs_by_release(box.jobs)) == {"r" * 64}
    assert dict(upload._waiting(box)) == {}
    secrets.forget_stale(box)
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_specification_hides_no_job(box, kind):
    paths = box.job("bad")
    good(box, "bad")
    paths.spec.unlink()
    FILES[kind](paths.spec)
    assert {job["job_id"]: job["run_id"] for job in supervise.listing(box)} == {
        "good": "run",
        "bad": "",
    }
    assert {job["job_id"] for job in Jobs(box).records(time.time())} == {"good", "bad"}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "name", ["log", "log.times", "metrics.jsonl", "checkpoints", "failure.json", "stage.json"]
)
def test_other_bad_files_hold_nobody_up(box, kind, name):
    good(box, "bad")
    FILES[kind](box.job("bad").folder / name)
    began = time.monotonic()
    assert {job["job_id"] for job in Jobs(box).records(time.time())} == {"good", "bad"}
    assert {job.id for job in activity.jobs(box.root)} == {"good", "bad"}
    state = states.read(box.job("bad"))
    evidence.gather(
        evidence.Places(box.job("bad"), box.root / "none", box.root / "none"),
        state,
        time.time(),
        1.0,
    )
    supervise._last_metric(box.job("bad").metrics)
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("kind", FILES)
def test_a_job_whose_record_was_bad_is_started_again(box, kind):
    paths = box.job("bad")
    good(box, "bad", Status.FAILED)
    paths.state.unlink()
    for path in (paths.state, paths.failure, paths.outputs):
        FILES[kind](path)
    state = states.read(paths)
    assert state.status is Status.LOST and supervise._may_start(state, again=True)
    supervise._clear(paths, JobSpec("bad", "train", "r"), state)
    assert states.recorded(paths) == JobState("bad", "train")


def test_a_state_that_names_another_job_is_none(box):
    box.job("liar").folder.mkdir()
    states.write(box.job("liar"), JobState("good", "train", Status.SUCCEEDED))
    assert {job["job_id"]: job["status"] for job in supervise.listing(box)} == {
        "good": "RUNNING",
        "liar": "LOST",
    }


def test_what_the_line_does_not_know_is_no_ticket(box):
    (box.root / "queue").mkdir()
    for name in ("0x1.job", "1_0.job", "9.", ".7.job"):
        (box.root / "queue" / name).write_text("{}")
    queue.enter(box, JobSpec("good", "train", "r"), may_wait=False)
    assert queue.ahead(box, "good") == []


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["cause", "what", "why", "remedy", "kept"]), JSON), JSON)
def test_any_account_of_a_failure_and_of_outputs_ends_in_a_state_that_can_be_read(
    tmp_path_factory, words, outputs
):
    box = BoxPaths(tmp_path_factory.mktemp("box"))
    paths = box.job("j")
    paths.folder.mkdir(parents=True)
    paths.log.write_text("last words\n")
    paths.failure.write_text(json.dumps(words))
    paths.outputs.write_text(json.dumps(outputs))
    from remote.payload.jobs import supervisor

    for code in (1, 0):
        state = supervisor._concluded(
            paths, JobState("j", "train", Status.RUNNING), Ending(code, False, False, False)
        )
        state = supervisor._masked(paths, state)
        assert state.status.is_final and JobState.from_json(state.to_json()).status is state.status


def test_outputs_that_cannot_be_read_are_no_success(box):
    FILES["50,000 brackets"](box.job("good").outputs)
    from remote.payload.jobs import supervisor

    state = supervisor._concluded(
        box.job("good"), JobState("good", "train", Status.RUNNING), Ending(0, False, False, False)
    )
    assert (state.status, state.cause) == (Status.FAILED, Cause.ARTIFACT) and outcome.kept(
        box.job("good")
    ) == ""


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["clock.json", "extra.json", "reading.json"])
def test_the_watchdogs_own_files_are_absent_when_they_are_bad(tmp_path, kind, name):
    FILES[kind](tmp_path / name)
    clocks = ("idle", "lifetime", "dollars", "stopped", "stuck", "stuck_grace", "grace")
    (tmp_path / "limits.json").write_text(json.dumps(dict.fromkeys(clocks, 1.0)))
    place = Place(tmp_path)
    assert place.counters() is None or name != "clock.json"
    assert place.reading() is None and place.limits("").idle == 1.0


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_the_watchdog_outlives_any_state(tmp_path_factory, told):
    root = tmp_path_factory.mktemp("box")
    (root / "jobs/j").mkdir(parents=True)
    (root / "jobs/j/state.json").write_text(json.dumps(told))
    assert activity.jobs(root) == []


def test_the_watchdogs_zip_has_all_that_it_imports(tmp_path):
    """The functions that no module of it names are left out: what is left must load, and read."""
    import subprocess
    import sys

    from remote.control.cloud.ec2 import user_data

    sources = json.loads(user_data.watchdog())
    with zipfile.ZipFile(tmp_path / "watchdog.pyz", "w") as zipped:
        for name, source in sources.items():
            zipped.writestr(name, source)
    modules = [
        name[:-3].replace("/", ".")
        for name in sources
        if name.startswith("remote/") and "__main__" not in name
    ]
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'watchdog.pyz')!r})\n" + "".join(
        f"import {name.removesuffix('.__init__')}\n" for name in modules
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
