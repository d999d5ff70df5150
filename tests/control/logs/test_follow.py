"""Following by offset: nothing is lost or repeated, wherever it is cut."""

import os
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.files import atomic
from remote.contract.job.jobs import JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs import job_log
from remote.contract.logs.frames import FrameReader, encode, mark, marked_bytes
from remote.contract.logs.query import LOG, LogQuery
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.timeline import Event, append
from remote.control import retry
from remote.control.errors import BoxUnreachable, JobFailed, LoginRefused, PreflightFailed
from remote.control.jobs.start import start
from remote.control.logs.client import LogClient
from remote.control.logs.follow import follow
from remote.control.logs.mirror import holes
from remote.control.logs.record import LogSink
from remote.payload import process
from remote.payload.logs.writer import Log
from tests.control.jobs.cut import CutStream
from tests.integration.boxes import await_true, each_line, spec

ROOT = "windlass"
TEXT = "zwölf Ümlaute\n½\n\n日本語 line\nno end".encode()


@pytest.fixture
def ended(box, digest):
    """A job on the box that has ended, with a log to be filled in."""
    paths = BoxPaths(box.home / ROOT).job("job-1")
    paths.folder.mkdir(parents=True)
    paths.state.write_text(JobState("job-1", "count", Status.SUCCEEDED).to_json())
    return paths


class Flaky:
    """A transport that loses the connection after some bytes of each stream, or never answers."""

    def __init__(self, inner, cuts):
        self.inner, self.cuts, self.where = inner, cuts, inner.where

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def open(self, command, stdin=b"", timeout=None, silence=None):
        cut = self.cuts.pop(0) if self.cuts else None
        return (
            self.inner.open(command, stdin)
            if cut is None
            else CutStream(self.inner.open(command, stdin), cut)
        )


def run(transport, folder, lines, metrics=None, **options):
    on_metric = (metrics if metrics is not None else []).append
    return follow(
        lambda: transport,
        ROOT,
        "job-1",
        folder / "log",
        folder / "metrics",
        each_line(lines.append),
        on_metric,
        **options,
    )


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.0)


def test_log_and_metrics_arrive_whole(box, ended, tmp_path):
    ended.log.write_bytes(TEXT)
    ended.metrics.write_text(Metric(1, 2, 3.0, loss=0.5).to_line() + "broken\n")
    lines, metrics = [], []
    assert run(box, tmp_path, lines, metrics).status is Status.SUCCEEDED
    assert (tmp_path / "log").read_bytes() == TEXT
    assert lines == TEXT.decode().split("\n") and metrics == [Metric(1, 2, 3.0, loss=0.5)]


class Told:
    """A transport to a box that says what it likes."""

    where = "box hostile"

    def __init__(self, said):
        self.said = said

    def open(self, *words, **options):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def __iter__(self):
        yield self.said


FACTS = {"now": 1.0, "jobs": [{"job": "job-1", "stage": "count"}]}


@pytest.mark.parametrize(
    "header",
    [
        {"job": "job-1", "at": 0, "next": 1, "file": "../log"},
        {"job": "job-1", "at": 0, "next": 1, "file": ["log"]},
        {"job": "job-1", "at": 0, "next": "far", "dropped": 3},
        {"job": "job-1"},
        {"job": "job-2", "at": 0, "next": 1},
    ],
)
def test_what_a_box_makes_up_is_no_fault_of_ours(tmp_path, header):
    with pytest.raises(PreflightFailed, match="of another Windlass"):
        run(Told(encode(FACTS) + encode(header, b"x")), tmp_path, [], patience_seconds=0.0)
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize("header", [{"next": 9}, {"next": 900, "dropped": 3}, {"next": -5}])
def test_what_leaves_bytes_out_is_asked_for_again(tmp_path, header):
    with pytest.raises(BoxUnreachable, match="lost sight of job"):
        run(
            Told(encode(FACTS) + encode({"job": "job-1", "at": 0, **header}, b"x")),
            tmp_path,
            [],
            patience_seconds=-1.0,
        )
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize("cuts", [[1], [40], [60, 70, 80], [250, 0, 90], [130] * 5])
def test_every_cut_connection_goes_on_where_it_was(box, ended, tmp_path, cuts):
    ended.log.write_bytes(TEXT)
    lines, notices = [], []
    run(Flaky(box, list(cuts)), tmp_path, lines, notice=notices.append)
    assert (tmp_path / "log").read_bytes() == TEXT
    assert lines == TEXT.decode().split("\n")
    assert notices and all("connection lost (cut" in notice for notice in notices)


@pytest.mark.parametrize("have", range(0, len(TEXT) + 1, 3))
def test_a_new_command_goes_on_where_the_file_ends(box, ended, tmp_path, have):
    ended.log.write_bytes(TEXT)
    (tmp_path / "log").write_bytes(TEXT[:have])
    lines = []
    run(box, tmp_path, lines)
    assert (tmp_path / "log").read_bytes() == TEXT
    assert lines == TEXT.decode().split("\n")[TEXT[:have].count(b"\n") :]


@pytest.mark.parametrize(
    "theirs", [b"", b"shorter", b"another beginning of the file than ours, but a longer one"]
)
def test_another_file_on_the_box_begins_anew_and_says_so(box, ended, tmp_path, theirs):
    ended.log.write_bytes(theirs)
    (tmp_path / "log").write_bytes(b"what we had from before")
    lines, notices = [], []
    run(box, tmp_path, lines, notice=notices.append)
    assert (tmp_path / "log").read_bytes() == theirs
    assert (tmp_path / "log.1").read_bytes() == b"what we had from before"
    assert notices == [
        "the box's log is another file now: beginning anew, the old one is kept as log.1"
    ]


def test_without_waiting_it_fetches_what_there_is(box, digest, tmp_path):
    start(box, ROOT, spec(digest, "endless"))
    try:
        assert run(box, tmp_path, [], wait=False).status is Status.RUNNING
    finally:
        from remote.control.jobs.cancel import cancel

        cancel(box, ROOT, "job-1", 5)


def test_two_followers_into_one_file(box, digest, tmp_path):
    start(box, ROOT, spec(digest, "count", lines=40, pause=0.005))
    threads = [threading.Thread(target=run, args=(box, tmp_path, [])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "log").read_bytes() == BoxPaths(box.home / ROOT).job(
        "job-1"
    ).log.read_bytes()


def test_an_unknown_job_is_no_reason_to_wait(box, digest, tmp_path):
    with pytest.raises(JobFailed, match="there is no job job-1"):
        run(box, tmp_path, [])


def test_a_box_of_before_a_word_is_told_as_that_at_once(box, ended, tmp_path):
    module = box.home / ROOT / "current/remote/contract/logs/query.py"
    text = module.read_text()
    module.unlink()  # it shares its disk blocks with other releases
    module.write_text(text.replace("    metrics: bool = False\n", ""))
    with pytest.raises(PreflightFailed, match="of an older Windlass") as caught:
        run(box, tmp_path, [], patience_seconds=0.0)
    assert "`./inv deploy fake`" in caught.value.remedy


def test_patience_ends(box, ended, tmp_path):
    with pytest.raises(BoxUnreachable, match="lost sight of job job-1") as caught:
        run(Flaky(box, [0] * 1000), tmp_path, [], patience_seconds=1)
    assert (
        f"./inv logs {tmp_path.parent.name} -f" in caught.value.remedy
        and "goes on" in caught.value.kept
    )


def test_a_refused_login_is_told_at_once(tmp_path):
    def refused():
        raise LoginRefused("no")

    with pytest.raises(LoginRefused):
        follow(refused, ROOT, "job-1", tmp_path / "log", tmp_path / "metrics", print, print)


def test_a_full_laptop_is_told(box, ended, tmp_path, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    ended.log.write_bytes(TEXT)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(JobFailed, match="laptop's disk is full") as caught:
        run(box, tmp_path, [])
    assert "goes on on the box" in caught.value.kept


@given(contents=st.lists(st.binary(max_size=40), max_size=6), size=st.integers(1, 30))
def test_frames_survive_any_cutting(contents, size):
    frames = [
        ({"file": "log", "offset": number}, content) for number, content in enumerate(contents)
    ]
    wire = b"".join(encode(header, content) for header, content in frames)
    reader, found = FrameReader(), []
    for at in range(0, len(wire), size):
        found += reader.feed(wire[at : at + size])
    assert [content for _, content in found] == contents
    assert [header["offset"] for header, _ in found] == list(range(len(contents)))


@pytest.mark.parametrize("wire", [b"[]\n", b"no json\n"])
def test_what_is_no_frame_is_refused(wire):
    with pytest.raises(ValueError):
        list(FrameReader().feed(wire))


def test_marks_tell_files_apart():
    assert mark(20000, b"a" * 4096) == mark(20000, b"a" * 4096)
    assert (
        mark(20000, b"a" * 4096)
        != mark(20000, b"a" * 4095 + b"b")
        != mark(20001, b"a" * 4095 + b"b")
    )
    assert [marked_bytes(word) for word in (mark(9, b""), mark(9, b"abc"), "none", "", "-4:x")] == [
        0,
        3,
        -1,
        -1,
        -1,
    ]


def test_a_file_that_is_replaced_by_a_shorter_one_is_followed_from_its_beginning(
    box, ended, tmp_path
):
    me = os.getpid()
    ended.state.write_text(
        JobState(
            "job-1", "count", Status.RUNNING, me, process.start_ticks(me), process.boot_id()
        ).to_json()
    )
    ended.log.write_bytes(b"the first file\n")
    lines, notices = [], []
    follower = threading.Thread(target=lambda: run(box, tmp_path, lines, notice=notices.append))
    follower.start()
    await_true(lambda: lines)
    atomic.write_text(ended.log, "second\n")
    await_true(lambda: len(lines) == 2)
    atomic.write_text(ended.state, JobState("job-1", "count", Status.SUCCEEDED).to_json())
    follower.join()
    assert lines == ["the first file", "second"] and "another file now" in notices[0]
    assert (tmp_path / "log").read_bytes() == b"second\n" and (
        tmp_path / "log.1"
    ).read_bytes() == b"the first file\n"


def test_a_filter_holds_for_the_file_that_replaces_another(box, ended):
    me = os.getpid()
    ended.state.write_text(
        JobState(
            "job-1", "count", Status.RUNNING, me, process.start_ticks(me), process.boot_id()
        ).to_json()
    )
    ended.log.write_bytes(b"the first file: ERROR one\n")
    lines, query = [], LogQuery(jobs=["job-1"], level="error", follow=True)

    class Lines(LogSink):
        def take(self, record):
            if record.source == LOG:
                lines.append(record.content)

    client = LogClient("gpu", ROOT, lambda: box, query, Lines())
    follower = threading.Thread(target=client.run)
    follower.start()
    await_true(lambda: lines)
    atomic.write_text(ended.log, "fine\nERROR 2\n")
    await_true(lambda: len(lines) == 2)
    atomic.write_text(ended.state, JobState("job-1", "count", Status.SUCCEEDED).to_json())
    follower.join()
    assert lines == [b"the first file: ERROR one\n", b"ERROR 2\n"]


def in_parts(folder, content, part_bytes, kept=1000):
    log = Log(folder, part_bytes, kept)
    for at in range(0, len(content), 97):
        log.write(content[at : at + 97])
    log.close()


LONG = b"".join(b"line %d of a log in parts\n" % number for number in range(400))


@pytest.mark.parametrize("cuts", [[], [3000], [900] * 4])
def test_a_log_in_parts_arrives_as_one(box, ended, tmp_path, cuts):
    in_parts(ended.folder, LONG, 1000)
    lines = []
    run(Flaky(box, list(cuts)), tmp_path, lines)
    assert (tmp_path / "log").read_bytes() == LONG and lines == LONG.decode().split("\n")[:-1]
    assert holes(tmp_path / "log") == []


@pytest.mark.parametrize("have", [0, 30, 5000, 9500])
def test_what_the_box_has_dropped_is_a_hole_and_no_other_file(box, ended, tmp_path, have):
    in_parts(ended.folder, LONG, 1000, kept=4)
    first = job_log.parts(ended.folder)[0].start
    (tmp_path / "log").write_bytes(LONG[:have])
    lines, notices = [], []
    run(box, tmp_path, lines, notice=notices.append)
    run(box, tmp_path, lines, notice=notices.append)
    copy = (tmp_path / "log").read_bytes()
    assert (
        len(copy) == len(LONG)
        and copy[:have] == LONG[:have]
        and copy[first:] == LONG[first:]
        and not notices
    )
    assert holes(tmp_path / "log") == ([(have, first)] if have < first else [])
    assert (f"[{first - have:,} bytes were dropped on the box]" in lines) is (have < first)


def test_a_log_that_is_rotated_under_its_follower_arrives_whole(box, ended, tmp_path):
    content = os.urandom(6_000_000)
    me = os.getpid()
    ended.state.write_text(
        JobState(
            "job-1", "count", Status.RUNNING, me, process.start_ticks(me), process.boot_id()
        ).to_json()
    )

    def write():
        log = Log(ended.folder, 64_000, 1000)
        for at in range(0, len(content), 10_000):
            log.write(content[at : at + 10_000])
            time.sleep(0.001)
        log.close()
        atomic.write_text(ended.state, JobState("job-1", "count", Status.SUCCEEDED).to_json())

    writer = threading.Thread(target=write)
    writer.start()
    assert run(Flaky(box, [500_000, 1_000_000]), tmp_path, []).status is Status.SUCCEEDED
    writer.join()
    assert (tmp_path / "log").read_bytes() == content


def test_whoever_goes_on_writing_after_the_end_is_not_waited_for(box, ended, tmp_path):
    ended.log.write_bytes(TEXT)
    stop = threading.Event()

    def write():
        with ended.log.open("ab") as file:
            while not stop.is_set():
                file.write(b"still here\n" * 100)
                file.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert run(box, tmp_path, []).status is Status.SUCCEEDED
    finally:
        stop.set()
        writer.join()


def test_what_alarms_the_watchdog_is_heard_once(box, ended, tmp_path):
    began = time.time() - 100
    ended.state.write_text(
        JobState(
            "job-1", "count", Status.SUCCEEDED, started_at=began, ended_at=time.time()
        ).to_json()
    )
    ended.log.write_bytes(b"a line\n")
    (ended.folder / "log.times").write_text(f"0 {began}\n")
    folder = box.home / ".windlass-box"
    folder.mkdir()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began + 50))
    text = (
        "box gpu is stuck: job job-1 runs, but has shown no sign of life for 31 min; the box stops"
        " in 20 min"
    )
    (folder / "log").write_text(f"{stamp} watching: start 1\n{stamp} {text}\n")
    alerts = []
    assert run(box, tmp_path, [], notice=alerts.append).status is Status.SUCCEEDED
    assert len(alerts) == 1 and alerts[0].endswith(f"UTC watchdog] {text}")


def test_who_comes_back_hears_only_what_happened_since(box, ended, tmp_path):
    began = time.time() - 100
    ended.state.write_text(
        JobState(
            "job-1", "count", Status.SUCCEEDED, started_at=began, ended_at=began + 60
        ).to_json()
    )
    ended.log.write_bytes(b"one\ntwo\n")
    (ended.folder / "log.times").write_text(f"0 {began}\n4 {began + 30}\n")
    for after, source, level in (
        (10, "gpu", "warning"),
        (40, "kernel", "error"),
        (41, "gpu", "info"),
        (1000, "kernel", "error"),
    ):
        append(
            BoxPaths(box.home / ROOT).timeline, Event(began + after, source, level, f"at {after}")
        )
    heard = []
    run(box, tmp_path, [], notice=heard.append)
    assert [alert.rpartition("] ")[2] for alert in heard] == ["at 10", "at 40"], (
        "what came long after its end is not about it"
    )
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    again = []
    run(box, tmp_path, [], notice=again.append)
    assert [alert.rpartition("] ")[2] for alert in again] == ["at 40"]


def test_the_place_in_line_is_told(box, digest, tmp_path):
    from remote.control.jobs.cancel import cancel

    before = Event(time.time() - 3600, "kernel", "error", "long before it stood in line")
    append(BoxPaths(box.home / ROOT).timeline, before)
    start(box, ROOT, replace(spec(digest, "endless", "job-0"), exclusive=True))
    start(box, ROOT, replace(spec(digest, "count", lines=1), exclusive=True), queue=True)
    heard = []
    follower = threading.Thread(target=lambda: run(box, tmp_path, [], notice=heard.append))
    follower.start()
    await_true(lambda: heard)
    cancel(box, ROOT, "job-0", 5)
    follower.join()
    assert (
        "has place 1 in line for the box's GPU: " in heard[0]
        and "it is the turn of count" in heard[1]
    )
