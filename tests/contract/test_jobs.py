"""Jobs as data: an older Windlass and a newer one at the two ends."""

import json
from dataclasses import asdict

import pytest

from remote.contract.job.jobs import Artifact, Cause, JobSpec, JobState, Status

STATE = JobState(
    "run-1-train-ab",
    "train",
    Status.FAILED,
    cause=Cause.DISK_FULL,
    artifacts={"adapter": Artifact("jobs/a", 3, "ab" * 32)},
)


def test_a_state_comes_back_as_it_was():
    assert JobState.from_json(STATE.to_json()) == STATE


def test_what_a_newer_windlass_knows_besides_is_left_out():
    raw = json.loads(STATE.to_json())
    raw |= {"mood": "good", "cause": "meteorite"}
    raw["artifacts"]["adapter"]["colour"] = "red"
    told = JobState.from_json(json.dumps(raw))
    assert told.cause is Cause.CODE and told.artifacts == STATE.artifacts
    spec = asdict(JobSpec("run-1-train-ab", "train", "0" * 64)) | {"mood": "good"}
    assert JobSpec.from_json(json.dumps(spec)) == JobSpec("run-1-train-ab", "train", "0" * 64)


def test_what_an_older_one_did_not_know_is_as_it_was_then():
    raw = json.loads(STATE.to_json())
    for name in ("place", "queued_at"):
        del raw[name]
    assert JobState.from_json(json.dumps(raw)) == STATE


@pytest.mark.parametrize("job_id", ["../../.ssh/x", "/etc/x", "a\0b"])
def test_an_id_that_leads_elsewhere_is_none(job_id):
    with pytest.raises(ValueError, match="names no job"):
        JobState.from_json(json.dumps(json.loads(STATE.to_json()) | {"job_id": job_id}))
