"""What a box or a bucket says, in any bytes: read, or one of the documented errors, soon and in
little memory."""

import json
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.upload import Kept, Manifest
from remote.contract.files import untrusted_json
from remote.contract.job.jobs import Artifact, JobSpec, JobState, Status
from remote.contract.logs.frames import MAX_HEADER_BYTES, FrameReader, encode
from remote.contract.logs.query import LogQuery
from remote.contract.telemetry.evidence import Evidence

SHA = "a" * 64
at_leisure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
DEEP = "[" * 50_000 + "]" * 50_000

STATE = JobState(
    "j",
    "train",
    Status.SUCCEEDED,
    artifacts={"a": Artifact("jobs/j/artifacts/a", 3, SHA)},
    values={"x": 1},
)
MANIFEST = Manifest("j", 1.0, "all", {"jobs/j/log": Kept(SHA, 3)})
PARSERS = [
    (JobState.from_json, STATE.to_json()),
    (JobSpec.from_json, JobSpec("j", "train", SHA).to_json()),
    (Manifest.from_json, MANIFEST.to_json()),
    (
        lambda text: Evidence.from_json(untrusted_json.loads_object(text)),
        json.dumps(Evidence(STATE, "r", 1.0, 2.0, ["line"]).to_json()),
    ),
]
parsers = pytest.mark.parametrize(
    ("parse", "whole"), PARSERS, ids=["state", "spec", "manifest", "evidence"]
)


@parsers
@given(st.data())
@at_leisure
def test_a_document_with_anything_in_any_place(parse, whole, data):
    changed = json.loads(whole)
    place, key = changed, data.draw(st.sampled_from(sorted(changed)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place, key = place[key], data.draw(st.sampled_from(sorted(place[key])))
    if data.draw(st.booleans()):
        place[key] = data.draw(values)
    else:
        del place[key]
    _reads_or_refuses(parse, json.dumps(changed))


@parsers
@given(st.data())
@at_leisure
def test_a_document_with_any_bytes_in_it(parse, whole, data):
    at = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 8))
    _reads_or_refuses(parse, whole[:at] + data.draw(st.text(max_size=8)) + whole[at + cut :])


@parsers
def test_a_document_that_is_deep(parse, whole):
    began = time.monotonic()
    for text in (DEEP, whole.replace('"j"', DEEP, 1), '{"a":' * 30_000 + "1" + "}" * 30_000):
        with pytest.raises((ValueError, KeyError, TypeError)):
            parse(text)
    assert time.monotonic() - began < 5


def _reads_or_refuses(parse, text):
    try:
        parse(text)
    except (ValueError, KeyError, TypeError) as error:
        assert len(str(error)) < 2000


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact("jobs/j/a", 3, "/etc/passwd"),
        Artifact("jobs/j/a", 3, f"{'../' * 21}a"),
        Artifact("/etc/passwd", 3, SHA),
        Artifact("jobs/../../x", 3, SHA),
        Artifact("jobs/j/..", 3, SHA),
        Artifact("..", 3, SHA),
        Artifact("", 3, SHA),
        Artifact("jobs/j/a\0b", 3, SHA),
        Artifact("jobs/j/a", -1, SHA),
        Artifact("jobs/j/a", 1 << 60, SHA),
        Artifact("a" * 5000, 3, SHA),
    ],
)
def test_an_artifact_that_cannot_be(artifact):
    with pytest.raises(ValueError, match=r"SHA-256|name|size"):
        JobState.from_json(JobState("j", "train", artifacts={"a": artifact}).to_json())


def test_an_artifact_outside_of_the_root_is_one():
    JobState.from_json(
        JobState("j", "train", artifacts={"a": Artifact("../../data/made", 3, SHA)}).to_json()
    )


@pytest.mark.parametrize("job_id", ["", ".", "..", "a/b", "a\0b", "x" * 1000])
def test_a_manifest_of_no_job(job_id):
    with pytest.raises(ValueError, match="name"):
        Manifest.from_json(Manifest(job_id, 0.0, "x").to_json())


@pytest.mark.parametrize(
    "files",
    [
        {"jobs/j": Kept(SHA, 1), "jobs/j/log": Kept(SHA, 1)},
        {f"jobs/j/{n}": Kept(SHA, 3 << 40) for n in range(2)},
    ],
)
def test_a_manifest_that_does_not_fit_together(files):
    with pytest.raises(ValueError, match=r"at once|a size of"):
        Manifest.from_json(Manifest("j", 0.0, "x", files).to_json())


# ---- frames ----


@at_leisure
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_are_frames_or_a_value_error(content, cuts):
    """However they are cut, the same comes out."""
    assert _frames([content]) == _frames(
        [content[start:end] for start, end in _between(cuts, len(content))]
    )


@at_leisure
@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.text(max_size=4).filter(lambda key: key != "size"), values, max_size=3
            ),
            st.binary(max_size=50),
        )
    ),
    st.lists(st.integers(0, 400), max_size=5),
)
def test_what_was_encoded_comes_out(frames, cuts):
    content = b"".join(encode(header, more) for header, more in frames)
    found = _frames([content[start:end] for start, end in _between(cuts, len(content))])
    assert [more for _, more in found] == [more for _, more in frames]


def _between(cuts, size):
    places = sorted({0, size, *(min(cut, size) for cut in cuts)})
    return list(zip(places, [*places[1:], size], strict=True))


def _frames(chunks):
    reader, found = FrameReader(), []
    try:
        for chunk in chunks:
            for header, content in reader.feed(chunk):
                found.append((repr(header), content))
    except ValueError:
        found.append("refused")
    return found


@pytest.mark.parametrize(
    "header",
    [
        DEEP.encode(),
        b"[]",
        b'{"size": true}',
        b'{"size": -1}',
        b'{"size": 1e99}',
        b'{"size": "1"}',
        b'{"size": 1099511627776}',
    ],
)
def test_a_frame_that_is_none(header):
    with pytest.raises(ValueError, match=r"JSON|a frame of"):
        list(FrameReader().feed(header + b"\n"))


def test_a_header_without_an_end_is_bounded_however_slowly_it_comes():
    reader, began = FrameReader(), time.monotonic()
    tracemalloc.start()
    with pytest.raises(ValueError, match="does not end"):
        for _ in range(2 * MAX_HEADER_BYTES // 64):
            list(reader.feed(b"x" * 64))
    assert (
        tracemalloc.get_traced_memory()[1] < 4 * MAX_HEADER_BYTES and time.monotonic() - began < 10
    )
    tracemalloc.stop()


@given(st.text(max_size=60))
def test_a_question_or_a_refusal(text):
    try:
        LogQuery.from_json(text)
    except (ValueError, TypeError):
        return
