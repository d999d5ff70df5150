"""A log out of the bucket comes to its place behind what the laptop has; out of a real S3 server,
over the wire."""

import os
import time

import pytest

from remote.contract.artifacts.upload import UploadGrant, prefix_of
from remote.contract.job.jobs import JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs.query import LOG, LogQuery
from remote.control.cloud.bucket import Bucket
from remote.control.logs import archive
from remote.control.logs.mirror import CopySink, holes
from remote.control.logs.record import LogSink
from remote.payload.logs.writer import Log
from remote.payload.transfer import upload as spill
from tests.s3 import There

JOB = "run-1-train-abc"
CONTENT = os.urandom(7300)
FIRST = 3000


@pytest.fixture(scope="module")
def _spilled(s3, tmp_path_factory):
    """A job whose log is in parts of 1000 bytes, the newest four and the rest of which lie in the
    bucket."""
    box = BoxPaths(tmp_path_factory.mktemp("box"))
    paths = box.job(JOB)
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(JobSpec(JOB, "train", "r", "run-1").to_json())
    paths.state.write_text(JobState(JOB, "train", Status.FAILED, ended_at=5.0).to_json())
    log = Log(paths.folder, part_bytes=1000)
    log.write(CONTENT)
    log.close()
    post = s3.generate_presigned_post("kept", f"{prefix_of('p')}run-1-${{filename}}", ExpiresIn=600)
    spill.spill(
        box,
        JOB,
        UploadGrant(
            "run-1",
            "kept",
            "us-east-1",
            prefix_of("p"),
            post["url"],
            post["fields"],
            time.time() + 600,
        ),
    )


@pytest.fixture
def brought(s3, _spilled, tmp_path):
    """Bring the log to where so many bytes of it are."""

    def bring_to(had: bytes, job_id=JOB):
        log = tmp_path / "train.log"
        log.write_bytes(had)
        left = archive.in_bucket(Bucket("kept", There(s3), mark="p"), job_id)
        if left is None:
            return None, log
        sink = CopySink({LOG: log}, LogSink())
        archive.send(left, "gpu", LogQuery(), sink, *sink.positions()[LOG])
        sink.close()
        left.close()
        return left.place, log

    return bring_to


@pytest.mark.parametrize("have", [0, 1, 2999, 3000, 3500, 6999, 7299])
def test_what_is_missing_comes_behind_what_is_here(brought, have):
    place, log = brought(CONTENT[:have])
    assert place == f"s3://kept/{prefix_of('p')}{JOB}/"
    assert log.read_bytes()[:have] == CONTENT[:have] and log.read_bytes()[FIRST:] == CONTENT[FIRST:]
    assert holes(log) == ([(have, FIRST)] if have < FIRST else [])
    assert sorted(path.name for path in log.parent.iterdir() if path.name.startswith(".")) == []


def test_a_log_that_is_whole_here_is_left_alone(brought):
    place, log = brought(CONTENT)
    assert place and log.read_bytes() == CONTENT and not holes(log)


def test_the_log_of_another_job_is_set_aside(brought):
    place, log = brought(b"x" * 7200)
    assert place and log.read_bytes()[FIRST:] == CONTENT[FIRST:] and holes(log) == [(0, FIRST)]
    assert (log.parent / "train.log.1").read_bytes() == b"x" * 7200


def test_a_job_that_is_not_there(brought):
    assert brought(b"", "run-1-nothing-abc")[0] is None
