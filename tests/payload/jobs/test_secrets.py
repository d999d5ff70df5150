"""Secrets of jobs on the box: for their owner alone, and no longer than the job lives."""

import fcntl
import os
import stat
from dataclasses import replace

import pytest

from remote.contract.job.jobs import JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.payload import process
from remote.payload.jobs import secrets, states, supervise

TOLD = {"HF_TOKEN": "hf_secret", "WANDB_API_KEY": "ä\nb"}


@pytest.fixture
def box(tmp_path):
    return BoxPaths(tmp_path / "windlass")


def test_they_are_for_their_owner_alone_until_forgotten(box):
    secrets.keep(box, "job-1", TOLD)
    assert secrets.of_job(box, "job-1") == TOLD
    assert (
        stat.S_IMODE((box.secrets / "job-1").stat().st_mode) == 0o600
        and stat.S_IMODE(box.secrets.stat().st_mode) == 0o700
    )
    secrets.forget(box, "job-1")
    secrets.forget(box, "job-1")
    assert secrets.of_job(box, "job-1") == {} and list(box.secrets.iterdir()) == []


def test_none_leave_no_file_and_replace_those_of_an_earlier_attempt(box):
    secrets.keep(box, "job-1", {})
    assert not box.secrets.exists()
    secrets.keep(box, "job-1", TOLD)
    secrets.keep(box, "job-1", {})
    assert secrets.of_job(box, "job-1") == {}


def test_those_of_jobs_that_are_over_go(box):
    me = {
        "pid": os.getpid(),
        "start_ticks": process.start_ticks(os.getpid()),
        "boot_id": process.boot_id(),
    }
    states = {
        "runs": JobState("runs", "train", Status.RUNNING, **me),
        "waits": JobState("waits", "train", Status.PENDING, **me),
        "lost": JobState("lost", "train", Status.RUNNING, **{**me, "start_ticks": 1}),
        "ended": JobState("ended", "train", Status.FAILED, **me),
        "starting": JobState("starting", "train", Status.PENDING),
    }
    for name, state in states.items():
        box.job(name).folder.mkdir(parents=True)
        box.job(name).state.write_text(state.to_json())
    for name in (*states, "no-job-yet", "no-job-any-more"):
        secrets.keep(box, name, TOLD)
    old = secrets.START_SECONDS + 60
    gone = box.secrets / "no-job-any-more"
    os.utime(gone, (gone.stat().st_atime - old, gone.stat().st_mtime - old))
    secrets.forget_stale(box)
    assert sorted(path.name for path in box.secrets.iterdir()) == [
        "no-job-yet",
        "runs",
        "starting",
        "waits",
    ]


@pytest.fixture
def killed(box):
    """A job whose supervisor was killed: what it was told is still there."""
    state = JobState("job-1", "train", Status.RUNNING, os.getpid(), 1, process.boot_id())
    box.job("job-1").folder.mkdir(parents=True)
    box.job("job-1").state.write_text(state.to_json())
    secrets.keep(box, "job-1", TOLD)
    return state


@pytest.mark.parametrize(
    "look",
    [lambda box: supervise.status(box, "job-1"), lambda box: supervise.cancel(box, "job-1", 1)],
)
def test_who_sees_that_the_supervisor_was_killed_clears_them_away(box, killed, look):
    assert look(box).status is Status.LOST
    assert secrets.of_job(box, "job-1") == {}


def test_a_job_that_is_just_started_again_keeps_them(box, killed, monkeypatch):
    with (box.job("job-1").folder / states.STARTING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        supervise.status(box, "job-1")
    assert secrets.of_job(box, "job-1") == TOLD

    def started_meanwhile(*arguments, lock=fcntl.flock):
        box.job("job-1").state.write_text(
            replace(killed, start_ticks=process.start_ticks(os.getpid())).to_json()
        )
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", started_meanwhile)
    secrets.forget_if_over(box, "job-1")
    assert secrets.of_job(box, "job-1") == TOLD


def test_a_box_without_secrets_has_none_that_are_stale(box):
    secrets.forget_stale(box)
