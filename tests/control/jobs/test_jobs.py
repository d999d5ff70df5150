"""The life of a job, on a box that is a folder: the same supervisor, the same processes."""

import fcntl
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from remote.contract.job.jobs import Cause, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs import job_log
from remote.contract.logs.lines import Filter, FolderLog, Moments, Scan
from remote.control.errors import JobFailed
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.jobs.state import find_state, jobs_on, read_state
from remote.control.logs.follow import follow
from remote.payload.environment import MARKER, flavour, key_of
from tests.integration.boxes import FakeTransport, await_true, is_running, mark_environment, spec

ROOT = "windlass"


@pytest.fixture
def folder(box):
    """A job's folder on the box."""
    return lambda job_id="job-1": BoxPaths(box.home / ROOT).job(job_id)


@pytest.fixture
def to_the_end(box, tmp_path):
    """Follow a job to its end."""

    def wait(job_id="job-1"):
        return follow(
            lambda: box,
            ROOT,
            job_id,
            tmp_path / "log",
            tmp_path / "metrics",
            lambda line: None,
            lambda metric: None,
        )

    return wait


def test_a_job_runs_and_leaves_artifacts_and_values(box, digest, to_the_end):
    started = start(box, ROOT, spec(digest, "count"))
    assert (
        started.status is Status.RUNNING and started.pid and started.start_ticks and started.boot_id
    )
    ended = to_the_end()
    assert (ended.status, ended.exit_code, ended.values) == (Status.SUCCEEDED, 0, {"score": 0.75})
    made = ended.artifacts["made"]
    assert (made.path, made.size, made.is_folder) == ("jobs/job-1/artifacts/made.txt", 5, False)
    assert read_state(box, ROOT, "job-1") == ended


def test_a_job_names_the_lock_of_its_environment(box, digest, to_the_end):
    requirements = box.home / ROOT / "releases" / digest / "remote/payload/requirements.txt"
    mark_environment(box, requirements)
    (marker,) = (box.home / ROOT / "shared/environments").glob(
        f"{key_of(requirements, flavour())}/{MARKER}"
    )
    marker.write_text(json.dumps({"lock_sha256": "c" * 64}))
    start(box, ROOT, replace(spec(digest, "count"), environment="requirements.txt"))
    assert to_the_end().environment == "c" * 64
    start(box, ROOT, spec(digest, "count", "job-2"))
    assert to_the_end("job-2").environment == ""


def test_starting_twice_runs_once(box, digest, folder, to_the_end):
    first = start(box, ROOT, spec(digest, "count"))
    assert start(box, ROOT, spec(digest, "count")).pid == first.pid
    to_the_end()
    assert start(box, ROOT, spec(digest, "count"), again=True).status is Status.SUCCEEDED
    assert folder().log.read_text().count("line 0") == 1


def test_a_box_tells_its_jobs_the_newest_first_and_of_which_run(box, digest, to_the_end):
    start(box, ROOT, spec(digest, "count", "run-1-job", run_id="run-1"))
    to_the_end("run-1-job")
    start(box, ROOT, spec(digest, "endless", "run-2-job", run_id="run-2"))
    newest, oldest = jobs_on(box, ROOT, "gpu", print)
    assert (newest.box, newest.run_id, newest.state.status) == ("gpu", "run-2", Status.RUNNING)
    assert (oldest.run_id, oldest.state) == ("run-1", read_state(box, ROOT, "run-1-job"))
    cancel(box, ROOT, "run-2-job", 5)
    assert jobs_on(box, ROOT, "gpu", print)[0].state.status is Status.CANCELLED


LEADS_ELSEWHERE = [
    ("run_id", "../../evil"),
    ("run_id", ".."),
    ("run_id", "a/b"),
    ("job_id", ".hidden"),
    ("run_id", 7),
]


@pytest.mark.parametrize(("field", "name"), LEADS_ELSEWHERE)
def test_a_job_whose_name_leads_elsewhere_is_left_out_and_told(tmp_path, field, name):
    good = {"job_id": "run-1-job", "stage": "train", "status": "RUNNING", "run_id": "run-1"}
    told = json.dumps(
        {"done": {"jobs": [good | {field: name}, good, good | {"job_id": "alone", "run_id": ""}]}}
    )
    hostile = FakeTransport(tmp_path / "home")
    (hostile.home / "windlass/current").mkdir(parents=True)
    bin_folder = hostile.home / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").write_text(f"#!/bin/sh\necho '{told}'\n")
    (bin_folder / "python3").chmod(0o755)
    hostile = FakeTransport(
        hostile.home, environment={"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    )
    said = []
    jobs = jobs_on(hostile, ROOT, "gpu", said.append)
    assert [job.state.job_id for job in jobs] == ["run-1-job", "alone"]
    assert "box gpu tells of a job that is left out here" in said[0]


def test_a_box_where_nothing_was_deployed_has_no_jobs(box):
    assert jobs_on(box, "elsewhere", "gpu", print) == []


def test_the_stage_sees_what_it_should(box, code, digest, folder, to_the_end):
    start(box, ROOT, spec(digest, "count", lines=2, pause=0.3))
    stage = json.loads((folder().folder / "stage.json").read_text())["pid"]
    seen = dict(
        item.split("=", 1)
        for item in Path(f"/proc/{stage}/environ").read_text().split("\0")
        if "=" in item
    )
    assert (
        seen["HF_HUB_OFFLINE"] == "1"
        and seen["TOKENIZERS_PARALLELISM"] == "false"
        and seen["PYTHONUNBUFFERED"] == "1"
    )
    assert os.getpgid(stage) == stage and digest in str(Path(f"/proc/{stage}/cwd").readlink())
    assert Path(f"/proc/{stage}/fd/0").readlink() == Path("/dev/null")
    to_the_end()


def test_it_runs_from_its_own_release_not_the_current_one(box, code, digest, to_the_end):
    start(box, ROOT, spec(digest, "count", pause=0.05))
    current = box.home / ROOT / "current"
    current.unlink()
    current.symlink_to(f"releases/{digest}")
    assert to_the_end().status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("how", "exit_code", "cause", "why"),
    [
        ("told", 52, Cause.NOT_A_NUMBER, "step 3"),
        ("killed", -9, Cause.CODE, "SIGKILL"),
        ("bug", 1, Cause.CODE, "RuntimeError: a bug"),
        ("nothing left", 0, Cause.ARTIFACT, "is not there"),
    ],
)
def test_failures_have_causes(box, digest, to_the_end, how, exit_code, cause, why):
    start(box, ROOT, spec(digest, "failing", how=how))
    ended = to_the_end()
    assert (ended.status, ended.exit_code, ended.cause) == (Status.FAILED, exit_code, cause)
    assert why in ended.why and ended.what


def test_a_failed_job_starts_again_without_what_it_left(box, digest, folder, to_the_end):
    start(box, ROOT, spec(digest, "failing", how="told"))
    assert to_the_end().cause is Cause.NOT_A_NUMBER
    assert start(box, ROOT, spec(digest, "failing", how="bug")).cause is Cause.NOT_A_NUMBER, (
        "only reported"
    )
    start(box, ROOT, spec(digest, "failing", how="bug"), again=True)
    ended = to_the_end()
    assert (ended.cause, ended.kept) == (Cause.CODE, ""), "no word of the first failure is left"
    log = folder().log.read_text()
    assert (
        "not a number" in log
        and "---- started again at " in log
        and log.index("started again") < log.index("a bug")
    )


def test_the_line_between_two_attempts_has_a_time_of_its_own(box, digest, folder, to_the_end):
    start(box, ROOT, spec(digest, "failing", how="bug"))
    to_the_end()
    (folder().folder / job_log.TIMES).write_text("0 100.0\n")
    with folder().log.open("a") as log:
        log.write("a line that has no end")
    began = time.time()
    start(box, ROOT, spec(digest, "failing", how="bug"), again=True)
    to_the_end()
    log = FolderLog(folder().folder)
    pieces = Scan(log, 0, Filter(), Moments(log.times())).pieces()
    at = {piece.at for piece in pieces if b"---- started again" in piece.content}
    assert len(at) == 1 and began - 1 < at.pop() < time.time() + 1


def test_another_attempt_marks_the_metrics_and_keeps_checkpoints(box, digest, folder, to_the_end):
    start(box, ROOT, spec(digest, "endless"))
    (folder().checkpoints / "step-3").mkdir(parents=True)
    folder().metrics.write_text(
        '{"step": 3, "total_steps": 9, "time": 1.0, "loss": 0.5}\n{"step": 4, "to'
    )
    os.kill(read_state(box, ROOT, "job-1").pid, signal.SIGKILL)
    await_true(lambda: read_state(box, ROOT, "job-1").status is Status.LOST)
    start(box, ROOT, spec(digest, "count"), again=True)
    assert to_the_end().status is Status.SUCCEEDED
    lines = folder().metrics.read_text().splitlines()
    assert json.loads(lines[2])["step"] == 3 and "started again" in json.loads(lines[2])["note"]
    assert (folder().checkpoints / "step-3").is_dir()


def test_cancel_ends_the_group_and_says_what_was_kept(box, digest, folder):
    start(box, ROOT, spec(digest, "endless"))
    await_true(lambda: "worker" in folder().log.read_text())
    worker = int(folder().log.read_text().split()[1])
    assert is_running(worker)
    ended = cancel(box, ROOT, "job-1", 20)
    assert (ended.status, ended.cause, ended.kept) == (
        Status.CANCELLED,
        Cause.CANCELLED,
        "checkpoint step-7",
    )
    await_true(lambda: not is_running(worker))
    assert cancel(box, ROOT, "job-1", 20) == ended, "a job that has ended is only reported"


def test_cancel_kills_what_does_not_listen(box, digest, folder):
    start(box, ROOT, spec(digest, "endless", stubborn=True))
    await_true(lambda: "worker" in folder().log.read_text())
    worker = int(folder().log.read_text().split()[1])
    ended = cancel(box, ROOT, "job-1", 0.1)
    assert (ended.status, ended.exit_code, ended.kept) == (Status.CANCELLED, -signal.SIGKILL, "")
    await_true(lambda: not is_running(worker))


def test_cancel_when_the_supervisor_itself_hangs(box, digest, folder, monkeypatch):
    state = start(
        box, ROOT, spec(digest, "endless", stubborn=True), secrets={"A_TOKEN": "never-to-be-left"}
    )
    os.kill(state.pid, signal.SIGSTOP)
    stage = json.loads((folder().folder / "stage.json").read_text())["pid"]
    box.exec(
        "sed -i 's/patience_seconds + 15/patience_seconds + 0.2/'"
        f" {ROOT}/current/remote/payload/jobs/supervise.py"
    )
    ended = cancel(box, ROOT, "job-1", 0.1)
    assert ended.status is Status.CANCELLED and "supervisor" in ended.why
    await_true(lambda: not is_running(stage) and not is_running(state.pid))
    assert read_state(box, ROOT, "job-1").status is Status.CANCELLED
    assert not list((box.home / ROOT / "secrets").iterdir())


def test_the_next_attempt_waits_until_the_last_one_lets_go(box, digest, to_the_end, folder):
    start(box, ROOT, spec(digest, "failing"))
    to_the_end()
    with (folder().folder / ".supervisor.lock").open("w") as lock, ThreadPoolExecutor(1) as laptop:
        fcntl.flock(lock, fcntl.LOCK_EX)
        attempt = laptop.submit(start, box, ROOT, spec(digest, "count"), again=True)
        time.sleep(0.7)
        assert not attempt.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert attempt.result().status is Status.RUNNING
    assert to_the_end().status is Status.SUCCEEDED


def test_sigterm_from_elsewhere_is_an_interruption(box, digest, to_the_end, folder):
    state = start(box, ROOT, spec(digest, "endless"))
    await_true(lambda: "worker" in folder().log.read_text())
    os.kill(state.pid, signal.SIGTERM)
    ended = to_the_end()
    assert (ended.status, ended.kept) == (Status.INTERRUPTED, "checkpoint step-7")
    assert start(box, ROOT, spec(digest, "count"), again=True).status is Status.RUNNING
    assert to_the_end().status is Status.SUCCEEDED


def test_a_killed_supervisor_is_lost_and_takes_its_stage_along(box, digest, folder):
    state = start(box, ROOT, spec(digest, "endless"))
    await_true(lambda: "worker" in folder().log.read_text())
    stage = json.loads((folder().folder / "stage.json").read_text())["pid"]
    os.kill(state.pid, signal.SIGKILL)
    await_true(lambda: read_state(box, ROOT, "job-1").status is Status.LOST)
    lost = read_state(box, ROOT, "job-1")
    assert lost.cause is Cause.LOST and "killed" in lost.why
    await_true(lambda: not is_running(stage))
    os.killpg(stage, signal.SIGKILL)


def test_a_reboot_is_lost_even_if_the_pid_lives(box, digest, folder):
    start(box, ROOT, spec(digest, "endless"))
    for field, other, word in (
        ("boot_id", "another boot", "rebooted"),
        ("start_ticks", 1, "killed"),
    ):
        recorded = json.loads(folder().state.read_text())
        folder().state.write_text(json.dumps({**recorded, field: other}))
        lost = read_state(box, ROOT, "job-1")
        assert lost.status is Status.LOST and word in lost.why
        folder().state.write_text(json.dumps(recorded))
    assert cancel(box, ROOT, "job-1", 20).status is Status.CANCELLED


def test_a_start_that_was_cut_off_is_lost_and_can_be_repeated(box, digest, folder, to_the_end):
    folder().folder.mkdir(parents=True)
    folder().state.write_text('{"job_id": "job-1", "stage": "count", "status": "PENDING"}')
    assert read_state(box, ROOT, "job-1").status is Status.LOST
    start(box, ROOT, spec(digest, "count"))
    assert to_the_end().status is Status.SUCCEEDED


def test_unknown_jobs_and_odd_names(box, digest):
    assert find_state(box, ROOT, "nobody") is None
    with pytest.raises(JobFailed, match="there is no job nobody"):
        read_state(box, ROOT, "nobody")
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(JobFailed) as caught:
            read_state(box, ROOT, name)
        assert caught.value.cause is Cause.CONFIG


def test_what_is_missing_is_said(box, digest):
    with pytest.raises(JobFailed, match="release 000000000000 is not on the box") as caught:
        start(box, ROOT, spec("0" * 64, "count"))
    assert "./inv deploy" in caught.value.remedy
    with pytest.raises(JobFailed, match=r"environment of requirements\.txt is not made"):
        start(box, ROOT, type(spec(digest, "count"))("job-2", "count", digest))
    assert find_state(box, ROOT, "job-2") is None
