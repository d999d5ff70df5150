"""What a notice makes of a job that is told to stop: its cause, its checkpoint, its place in the
bucket."""

import os
import signal
import time

import pytest

from remote.contract.artifacts.upload import ON_ITS_WAY, Manifest, UploadGrant, manifest_key
from remote.contract.job import notices
from remote.contract.job.jobs import Cause, JobState, Status
from remote.contract.job.notices import FLUSH, Notice
from remote.contract.job.paths import BoxPaths
from remote.control.errors import JobFailed
from remote.control.jobs.start import start
from remote.control.jobs.state import read_state
from remote.payload import process
from remote.payload.transfer import grants
from tests.integration.boxes import await_true, spec

ROOT, PREFIX, RUN, JOB = "windlass", "windlass/p/jobs/", "run", "run-saving"


@pytest.fixture
def paths(box, digest):
    """A job that runs, and makes steps until it is told to stop; it is ended afterwards."""
    job = start(box, ROOT, spec_of(digest))
    paths = BoxPaths(box.home / ROOT).job(JOB)
    await_true(lambda: "step 3" in paths.log.read_text())
    yield paths
    if process.is_alive(job.pid, job.start_ticks, job.boot_id):
        os.kill(job.pid, signal.SIGTERM)
        await_true(lambda: not process.is_alive(job.pid, job.start_ticks, job.boot_id))


def spec_of(digest):
    made = spec(digest, "saving", JOB)
    return type(made)(**{**vars(made), "run_id": RUN})


def entrusted(paths, s3, always=False):
    post = s3.generate_presigned_post("kept", f"{PREFIX}{RUN}-${{filename}}", ExpiresIn=600)
    root = paths.folder.parent.parent
    grants.take(
        root,
        UploadGrant(
            RUN,
            "kept",
            "us-east-1",
            PREFIX,
            post["url"],
            post["fields"],
            time.time() + 600,
            always=always,
        ),
    )


def told(paths, kind, why="the cloud takes it back", seconds=30.0):
    """What the watchdog does: the notice first, then the signal."""
    notices.write(paths.folder.parent.parent, Notice(kind, time.time() + seconds, why))
    return signalled(paths)


def signalled(paths):
    job = JobState.read(paths.state)
    os.kill(job.pid, signal.SIGTERM)
    await_true(lambda: not process.is_alive(job.pid, job.start_ticks, job.boot_id))
    return JobState.read(paths.state)


def manifest_of(s3):
    return Manifest.from_json(
        s3.get_object(Bucket="kept", Key=manifest_key(f"{PREFIX}{JOB}/"))["Body"].read()
    )


@pytest.mark.parametrize(
    ("kind", "cause"), [(notices.SPOT, Cause.SPOT), (notices.DEADMAN, Cause.DEADMAN)]
)
def test_the_notice_is_the_cause_and_the_newest_checkpoint_is_in_the_bucket(paths, s3, kind, cause):
    entrusted(paths, s3)
    state = told(paths, kind, "because")
    assert (state.status, state.cause, state.why) == (Status.INTERRUPTED, cause, "because")
    manifest = manifest_of(s3)
    assert manifest.ended_at == state.ended_at and manifest.what.startswith("checkpoint step-")
    assert (
        state.kept == f"{manifest.what} in s3://kept/{PREFIX}{JOB}/"
        and ON_ITS_WAY not in state.kept
    )


def test_without_the_right_to_a_bucket_the_disk_keeps_it(paths):
    state = told(paths, notices.DEADMAN)
    assert state.cause is Cause.DEADMAN and state.kept.startswith("checkpoint step-")


def test_without_a_notice_it_is_an_interruption_like_any_other_and_nothing_is_spilled(paths, s3):
    entrusted(paths, s3)
    notices.write(
        paths.folder.parent.parent,
        Notice(notices.SPOT, time.time() - 300, "of an earlier life of the box"),
    )
    state = signalled(paths)
    assert (state.status, state.cause) == (Status.INTERRUPTED, None)
    assert not (paths.folder / "spilled.json").exists()


def test_a_bucket_that_does_not_answer_is_told_and_the_state_stands(paths):
    root = paths.folder.parent.parent
    grants.take(
        root,
        UploadGrant(
            RUN, "kept", "us-east-1", PREFIX, "http://127.0.0.1:9/kept", {}, time.time() + 600
        ),
    )
    state = told(paths, notices.SPOT)
    assert (state.status, state.cause) == (Status.INTERRUPTED, Cause.SPOT)
    assert "could not be spilled" in state.kept and "checkpoint step-" in state.kept


def test_a_request_for_a_checkpoint_is_heeded_and_the_job_goes_on(paths):
    (paths.folder / FLUSH).touch()
    await_true(lambda: not (paths.folder / FLUSH).exists())
    assert list(paths.checkpoints.glob("step-*"))
    before = paths.log.stat().st_size
    await_true(lambda: paths.log.stat().st_size > before)
    assert JobState.read(paths.state).status is Status.RUNNING


def test_on_a_spot_box_every_checkpoint_is_spilled_as_it_comes(box, digest, s3):
    paths = BoxPaths(box.home / ROOT).job(JOB)
    entrusted(paths, s3, always=True)
    start(box, ROOT, spec_of(digest))
    (paths.folder / FLUSH).touch()
    await_true(lambda: (paths.folder / "spilled.json").exists())
    manifest = manifest_of(s3)
    assert manifest.ended_at == 0.0 and JobState.read(paths.state).status is Status.RUNNING
    state = signalled(paths)
    assert manifest_of(s3).ended_at == state.ended_at


def test_nothing_is_started_on_a_box_that_is_being_taken_back(box, digest):
    notices.write(box.home / ROOT, Notice(notices.SPOT, time.time() + 60, "in a minute"))
    with pytest.raises(JobFailed, match="takes back") as caught:
        start(box, ROOT, spec_of(digest))
    assert caught.value.cause is Cause.SPOT
    notices.write(box.home / ROOT, Notice(notices.SPOT, time.time() - 1000, "long ago"))
    job = start(box, ROOT, spec_of(digest))
    assert read_state(box, ROOT, JOB).status is Status.RUNNING
    os.kill(job.pid, signal.SIGTERM)
    await_true(lambda: not process.is_alive(job.pid, job.start_ticks, job.boot_id))
