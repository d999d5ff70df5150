"""What a box of an older, newer or hostile Windlass tells: an error for people at worst, and never
a control character on the terminal."""

import contextlib
import copy
import json
import math
import re
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.job.clocks import Limits, Reading
from remote.contract.job.jobs import Artifact, Cause, JobState, Status
from remote.contract.logs.frames import encode
from remote.contract.logs.query import LogQuery
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.evidence import Evidence
from remote.contract.telemetry.samples import Gpu, Sample
from remote.contract.telemetry.timeline import Event
from remote.control.cloud.box import Box
from remote.control.commands.views.observe import top_tables
from remote.control.commands.views.observe.log_lines import Printer
from remote.control.commands.views.runs import jobs as job_rows
from remote.control.errors import BoxUnreachable, PreflightFailed, WindlassError
from remote.control.jobs import state, table
from remote.control.logs import follow
from remote.control.logs.client import LogClient
from remote.control.logs.record import LogSink
from remote.control.observe import diagnosis, find, records, show
from remote.control.observe.find import Found
from remote.control.observe.live import View, Watcher
from remote.control.output import console, json_text

NOW = 1795287672.25
METRIC = Metric(3, 9, NOW, 1.25, 0.1, 100.0, 2.0, 60.0)
SAMPLE = Sample(NOW, 0.5, 1.0, 2.0, 3.0, 4.0, gpus=[Gpu(0, "A10G", 0.5, 1.0, 2.0, 3.0, 4.0)])
STATE = JobState(
    "haul-1-train-01234567",
    "train",
    Status.FAILED,
    started_at=NOW - 90,
    ended_at=NOW,
    cause=Cause.OUT_OF_MEMORY,
    what="what",
    why="why",
    remedy="`./inv resume`",
    artifacts={"adapter": Artifact("a", 1, "0" * 64)},
)
TOLD_STATE = json.loads(STATE.to_json())
LIMITS = Limits(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.5)
TOP = {
    "at": NOW,
    "sample": asdict(SAMPLE),
    "gpu_silent": False,
    "clocks": json.loads(Reading(NOW, "busy", LIMITS, stops_in=60.0, stops_by="idle").to_json()),
    "jobs": [
        {
            "job_id": "haul-1-train-01234567",
            "run_id": "haul-1",
            "stage": "train",
            "status": "RUNNING",
            "started_at": NOW - 90,
            "ended_at": 0.0,
            "what": "",
            "place": 0,
            "metric": asdict(METRIC),
            "line": "step 3",
        }
    ],
}
WHY = Evidence(
    STATE,
    "haul-1",
    NOW,
    NOW + 5,
    ["a line"],
    NOW,
    [METRIC, METRIC],
    [SAMPLE, SAMPLE],
    [Event(NOW, "kernel", "error", "Xid")],
    "the box",
).to_json()
LOGS = [
    {
        "now": NOW,
        "jobs": [
            {
                "job": "haul-1-train-01234567",
                "run": "haul-1",
                "stage": "train",
                "status": "RUNNING",
                "next": 0,
            }
        ],
    },
    {"job": "haul-1-train-01234567", "at": NOW, "next": 6},
    {"job": "haul-1-train-01234567", "at": NOW, "next": 9, "dropped": 3},
    {"event": vars(Event(NOW, "kernel", "error", "Xid")), "seen": {"timeline.jsonl": [1, 2]}},
    {"live": True},
    {"job": "haul-1-train-01234567", "at": NOW, "partial": True},
    {"job": "haul-1-train-01234567", "at": 0.0, "next": 6, "file": "metrics"},
    {"restart": "haul-1-train-01234567", "file": "log"},
    {"waiting": "haul-1-train-01234567", "place": 1, "why": "another"},
    {"ended": "haul-1-train-01234567", "state": TOLD_STATE},
    {"end": True},
]

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 1e300, math.nan, math.inf, -math.inf]),
    st.floats(),
    st.text(),
    st.sampled_from(["\x1b]0;title\x07", "\x1b[2J", "\x9b2J\x00\x7f", "a\nb\r"]),
    st.sampled_from([[], {}, [{}], {"a": [1]}]),
)


def places(value, way=()):
    """Every way to something inside."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in inside:
        yield (*way, key)
        yield from places(each, (*way, key))


@st.composite
def mangled(draw, value):
    """The value with a few things gone or another."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        ways = list(places(value))
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        inner = value
        for key in way:
            inner = inner[key]
        if draw(st.booleans()):
            inner[last] = copy.deepcopy(draw(JUNK))
        else:
            del inner[last]
    return value


class Saying:
    """A box that answers so to whatever is asked."""

    where, stderr, exit_code = "box gpu (10.0.0.1)", b"", 0

    def __init__(self, content):
        self._content = content

    def open(self, *words, **more):
        return self

    def __iter__(self):
        return iter([self._content])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def done(value):
    return Saying(json.dumps({"done": value}).encode() + b"\n")


def box(name="gpu"):
    return Box(
        name,
        "ec2",
        "i-0",
        "running",
        "1.2.3.4",
        22,
        "u",
        None,
        "a",
        "g5.xlarge",
        "us-east-1",
        "windlass",
        None,
        NOW - 7200,
        1.0,
    )


def require_tame(*texts):
    for text in texts:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), repr(text)


def in_people_s_words(call):
    """What it returns, or None where it ended in an error for people."""
    try:
        return call()
    except WindlassError as error:
        require_tame("\n".join(error.lines()).replace("\r", "?"))
        return None


def drawn(views):
    screen_ = console._plain_console()(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with screen_.file:
        screen_.print(top_tables.tables(views, 200))
    return screen_.export_text()


def taken(line):
    watcher = Watcher([], lambda box: None)
    watcher._views["gpu"] = View(box())
    return watcher._take("gpu", line)


@settings(max_examples=150, deadline=None)
@given(mangled(TOP) | JUNK)
def test_top(told):
    view = taken(json.dumps(told).encode())
    text = json_text.line(records.records([view]))
    json.loads(text)
    require_tame(drawn([view]), text)


def test_top_says_what_to_do_about_a_box_that_tells_otherwise():
    older = copy.deepcopy(TOP)
    del older["jobs"][0]["place"]
    view = taken(json.dumps(older).encode())
    assert "tells in another way: `./inv deploy gpu`" in drawn([view]) and "haul-1" in drawn([view])
    for line in (b"{", b"[]", b"7", json.dumps({**TOP, "sample": {}}).encode()):
        assert "./inv deploy gpu" in drawn([taken(line)])
    assert "another way" not in drawn([taken(json.dumps(TOP).encode())])


@settings(max_examples=150, deadline=None)
@given(mangled(WHY) | JUNK)
def test_why_and_bundle(told):
    evidence = in_people_s_words(lambda: of_box(done(told)))
    if evidence is not None:
        tale = diagnosis.account(Found(evidence, "gpu", "train"))
        written = json_text.document(tale.record)
        json.loads(written, parse_constant=pytest.fail)
        require_tame(show.text(tale, diagnosis.span(evidence)), written)


def of_box(transport):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("remote.control.transport.connect.connect", lambda box, say: transport)
        return find.of_box(box(), "haul-1-train-01234567", 30, print)


def test_why_names_the_command_that_mends_it():
    with pytest.raises(PreflightFailed) as caught:
        of_box(done({**WHY, "state": {}}))
    assert "./inv deploy gpu" in caught.value.remedy


@settings(max_examples=100, deadline=None)
@given(mangled({"jobs": [{**TOLD_STATE, "run_id": "haul-1"}]}) | JUNK)
def test_ps(told):
    jobs = in_people_s_words(lambda: state.jobs_on(done(told), "windlass", "gpu", print))
    for job in jobs or ():
        assert [str(cell) for cell in job_rows.rows([job])[0]] and json.loads(
            json_text.document(table.record(job))
        )
        require_tame(job.run_id, job.state.job_id)


class Paper(LogSink):
    def __init__(self):
        self.printer = Printer("lines", 1)
        self.printer._is_terminal, self.texts = True, []

    def introduce(self, job):
        self.printer.introduce("gpu", job.stage, job.run or job.job)

    def take(self, record):
        self.texts.append("".join(self.printer._text(record)))
        json.loads(self.printer._objects(record).splitlines()[0])


@settings(max_examples=150, deadline=None)
@given(mangled(LOGS), st.sampled_from([b"a\x1b]0;t\x07b\n", b"\xff\x9b\x00\n"]))
def test_logs(frames, content):
    frames = [frame if isinstance(frame, dict) else {"beat": True} for frame in frames]
    sent = b"".join(
        encode(frame, content if "job" in frame and "dropped" not in frame else b"")
        for frame in frames
    )
    paper = Paper()
    client = LogClient("gpu", "windlass", lambda: Saying(sent), LogQuery([]), paper)
    in_people_s_words(lambda: once(client))
    require_tame(re.sub(r"\x1b\[[0-9;]*m", "", "".join(paper.texts)))


def once(client):
    with contextlib.suppress(BoxUnreachable):  # asked again, and again
        client._attempt()


@settings(max_examples=60, deadline=None)
@given(
    frame=mangled({"ended": "haul-1-train-01234567", "state": TOLD_STATE})
    | mangled({"error": {"cause": "lost", "what": "w", "why": "y", "remedy": "r"}})
)
def test_a_job_that_is_followed(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    sent = encode(LOGS[0]) + encode(frame)
    words = (
        lambda: Saying(sent),
        "windlass",
        "job",
        folder / "logs" / "a.log",
        folder / "metrics" / "a.jsonl",
        None,
        print,
    )
    in_people_s_words(lambda: follow.follow(*words, patience_seconds=-1.0))
