from pathlib import Path

import pytest

from remote.contract.telemetry import timeline
from remote.contract.telemetry.timeline import Event, append
from remote.payload.telemetry.box_events import BoxEvents


@pytest.fixture
def box(tmp_path):
    (tmp_path / "watchdog").mkdir()
    return tmp_path


def happenings(box: Path, seen=None, since=0.0) -> BoxEvents:
    return BoxEvents(box / "timeline.jsonl", [box / "watchdog", box / "nowhere"], since, seen or {})


def texts(found):
    return [each.event.text for each in found]


def test_both_files_by_time(box):
    append(box / "timeline.jsonl", Event(1_700_000_005.0, "kernel", "error", "Xid 79"))
    (box / "watchdog/log").write_text(
        "2023-11-14 22:13:20 watching\n2023-11-14 22:13:26 a round failed:\nTraceback\n2023-11-14"
        " 22:13:30 box gpu is taken back: the cloud will terminate this spot instance in 120"
        " s\n2023-11-14 22:13:31 torn"
    )
    found = happenings(box).new()
    assert [(each.event.source, each.event.level) for each in found] == [
        ("watchdog", "info"),
        ("kernel", "error"),
        ("watchdog", "warning"),
        ("watchdog", "warning"),
        ("spot", "warning"),
    ]
    assert texts(happenings(box, since=1_700_000_006.0).new()) == texts(found)[2:]


def test_each_once_over_a_resumption_at_any_event_and_over_rotation(box, monkeypatch):
    monkeypatch.setattr(timeline, "KEPT_BYTES", 700)
    path, told, seen = box / "timeline.jsonl", [], {}
    for number in range(20):
        append(path, Event(float(number), "gpu", "info", f"event {number}"))
        found = happenings(box, seen).new()
        for each in found[:1]:  # the connection is lost after the first
            told.append(each.event.text)
            seen[each.file] = each.seen
    assert (box / "timeline.jsonl.1").exists()
    told += texts(happenings(box, seen).new())
    assert told == [f"event {number}" for number in range(20)]


def test_one_reader_sees_each_once_whatever_the_clock_does(box):
    reader = happenings(box)
    for time in (50.0, 10.0, 60.0):
        append(box / "timeline.jsonl", Event(time, "job", "info", f"{time}"))
    assert texts(reader.new()) == ["50.0", "10.0", "60.0"] and reader.new() == []


def test_what_comes_after_the_clock_was_set_back_is_no_less_new(box):
    reader = happenings(box, since=100.0)
    for time in (50.0, 150.0):
        append(box / "timeline.jsonl", Event(time, "job", "info", f"{time}"))
    (first,) = reader.new()
    append(box / "timeline.jsonl", Event(60.0, "job", "info", "later"))
    assert (first.event.text, texts(reader.new())) == ("150.0", ["later"])
    assert texts(happenings(box, {first.file: first.seen}, since=100.0).new()) == ["later"]


def test_a_line_that_is_torn_is_waited_for(box):
    reader = happenings(box)
    with (box / "timeline.jsonl").open("a") as file:
        file.write('{"time": "torn')
    assert reader.new() == []
