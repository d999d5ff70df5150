"""Each record of the other side is read, or one of three errors: whatever its values, and whatever
lies in its file's place."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.upload import UploadGrant
from remote.contract.files import regular_files, untrusted_json
from remote.contract.job import notices
from remote.contract.job.clocks import Limits, Reading
from remote.contract.job.jobs import Artifact, JobSpec, JobState, Status
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry import timeline
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.samples import Sample
from remote.contract.telemetry.timeline import Event
from remote.payload.identity import Identity
from tests.contract.hostile import FILES, JSON, changed

LIMITS = Limits(1, 2, 3, 4, 5, 6, 7)
MADE = {"adapter": Artifact("jobs/j/a", 1, "0" * 64)}
STATE = JobState(
    "j-1", "train", Status.RUNNING, 12, 34, "boot", 1.0, 1, 2.0, 3.0, 0, artifacts=MADE
)
SPEC = JobSpec(
    "j-1", "train", "r", "run", inputs={"train": "x"}, options={"a": 1}, recipe={"name": "r"}
)


@settings(max_examples=150, deadline=None)
@given(changed(STATE.to_dict()) | JSON)
def test_a_jobs_state(raw):
    try:
        state = JobState.from_json(json.dumps(raw))
    except (ValueError, KeyError, TypeError):
        return
    assert JobState.from_json(state.to_json()).to_json() == state.to_json()
    assert 0 <= state.pid < 2**31 and isinstance(state.what, str) and state.started_at < 1e12


@settings(max_examples=150, deadline=None)
@given(changed(asdict(SPEC)) | JSON)
def test_a_jobs_specification(raw):
    try:
        spec = JobSpec.from_json(json.dumps(raw))
    except (ValueError, TypeError):
        return
    assert JobSpec.from_json(spec.to_json()) == spec and all(
        isinstance(path, str) for path in spec.inputs.values()
    )


@settings(max_examples=150, deadline=None)
@given(
    changed(asdict(Reading(1.0, "idle", LIMITS)))
    | changed(asdict(LIMITS))
    | changed(asdict(Sample(1, 1, 1, 1, 1, 1)))
    | JSON
)
def test_clocks_samples_events_and_measurements(raw):
    for read in (
        Reading.from_json,
        Limits.from_json,
        Sample.from_line,
        Event.from_line,
        Metric.from_line,
    ):
        try:
            read(json.dumps(raw))
        except (ValueError, TypeError):
            continue


@given(st.binary(max_size=300))
def test_bytes_of_any_kind(content):
    for read in (JobState.from_json, JobSpec.from_json, Reading.from_json):
        with pytest.raises((ValueError, KeyError, TypeError)):
            read(content)


@settings(max_examples=100, deadline=None)
@given(changed(asdict(UploadGrant("run", "bucket", "r", "p", expires=1.0))) | JSON)
def test_a_grant(raw):
    try:
        grant = UploadGrant.from_json(raw)
    except (ValueError, TypeError):
        return
    assert grant.is_good(0.0) in (True, False)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_in_a_records_place_is_refused_at_once(kind, tmp_path):
    place = tmp_path / "state.json"
    FILES[kind](place)
    with pytest.raises((OSError, ValueError, KeyError, TypeError)):
        JobState.read(place)
    with pytest.raises((OSError, ValueError)):
        value = untrusted_json.read_object(place, max_bytes=untrusted_json.RECORD_BYTES)
        assert not {"status", "pid"} & value.keys() or kind != "half a character"
        raise ValueError("read as what it is")
    assert Identity.read(place) is None
    place.rename(tmp_path / "notice.json")
    assert notices.read(tmp_path, 0.0) is None


@pytest.mark.parametrize(
    "kind", ["a folder", "a named pipe", "an endless device", "random bytes", "50,000 brackets"]
)
def test_a_file_of_records_holds_none(kind, tmp_path):
    FILES[kind](tmp_path / "timeline.jsonl")
    assert timeline.read(tmp_path / "timeline.jsonl") == []
    assert telemetry.read(tmp_path / "timeline.jsonl") == []


def test_a_regular_file_is_read_to_its_bound(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    assert (
        regular_files.content_of(path, 10) == b"0123456789"
        and regular_files.end_of(path, 3) == b"789"
    )
    with pytest.raises(ValueError, match="more than 9 bytes"):
        regular_files.content_of(path, 9)
