import json

import pytest

import tasks
from remote.contract.logs.query import LogQuery, label_of
from remote.contract.telemetry.timeline import Event
from remote.control.logs import archive
from remote.control.logs.archive import ArchivedLog
from remote.control.logs.mirror import FileLog
from remote.control.logs.record import LogSink
from tests.integration.typed import in_process


@pytest.fixture
def copy(tmp_path):
    """A copy of a log with a hole from byte 8 to byte 20."""
    path = tmp_path / "train.log"
    path.write_bytes(b"one\ntwo\n" + b"\0" * 12 + b"e\nfour\nfive")
    (tmp_path / "train.log.holes").write_text("8 20\n")
    return FileLog(path)


class Taken(LogSink):
    def __init__(self):
        self.records = []

    def take(self, record):
        self.records.append(record)


def told(log, query=None, events=(), start=None):
    taken = Taken()
    archive.send(
        ArchivedLog("r-train-0123abcd", log, "here", "r", "train", events=events),
        "box",
        query or LogQuery(),
        taken,
        start,
    )
    return [each.dropped or each.content for each in taken.records]


def test_a_hole_is_told_and_passed(copy):
    assert told(copy) == [b"one\ntwo\n", 12, b"e\nfour\n", b"five"]


def test_it_goes_on_where_the_box_was_heard_last(copy):
    assert told(copy, start=22) == [b"four\n", b"five"]


def test_words_narrow_it(copy):
    assert told(copy, LogQuery(tail=2)) == [b"four\n", b"five"]
    assert told(copy, LogQuery(grep="^t")) == [b"two\n", 12]


def test_what_happened_comes_in_between_or_in_the_end(copy):
    events = (Event(5.0, "kernel", "error", "Xid 79"), Event(6.0, "gpu", "info", "cool"))
    assert told(copy, LogQuery(grep="Xid|^one"), events) == [b"one\n", 12, b"Xid 79"]


def test_labels():
    assert label_of("r-1-my-train-0123abcd", "r-1", "train") == "my-train"
    assert label_of("job-1", "", "count") == "count" and label_of("r-1-train", "r-1", "x") == "x"


def test_a_finished_run_of_this_laptop_needs_no_box(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    folder = tmp_path / "runs/20260101-x-ab12"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs/train.log").write_text("step 1\nstep 2\nWARNING late\n")
    plan = {"name": "p", "stages": [{"label": "train", "uses": "count"}], "finally_": []}
    job = {
        "label": "train",
        "key": "k",
        "job_id": "20260101-x-ab12-train-0123abcd",
        "box": "nowhere",
    }
    events = [
        {"event": "run_created", "time": 1.0, "plan": plan, "box": "nowhere"},
        {"event": "stage_started", "time": 2.0, **job},
        {"event": "stage_finished", "time": 3.0, "label": "train", "status": "SUCCEEDED"},
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "inventory.yaml").write_text(
        "default_box: a\nboxes:\n  a: {provider: static, host: 127.0.0.1, user: me}\n"
    )
    for words, expected in (
        ("", "step 1\nstep 2\nWARNING late\n"),
        ("--tail 1", "WARNING late\n"),
        ("--grep 2", "step 2\n"),
    ):
        assert in_process(capsys, tasks.ns, f"logs ab12 {words}")[:2] == (0, expected)
    (tmp_path / "inventory.yaml").write_text("boxes: [\n")  # nor an inventory
    assert in_process(capsys, tasks.ns, f"logs {folder.name} --tail 1")[:2] == (0, "WARNING late\n")
    code, told, said = in_process(capsys, tasks.ns, f"why {folder.name}")
    assert code == 0 and "WARNING late" in told and "not asked: box nowhere: " in said
