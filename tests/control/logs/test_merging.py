import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as some

from remote.control.logs import merging
from remote.control.logs.merging import Merging
from remote.control.logs.record import LogRecord
from tests.integration.boxes import await_true


def told(box, at, content=b"x\n"):
    return LogRecord(float(at), box, content=content)


@settings(max_examples=25, deadline=None)
@given(some.lists(some.lists(some.integers(1, 50)).map(sorted), min_size=1, max_size=4))
def test_all_of_all_streams_by_time(streams):
    merged = Merging([str(number) for number in range(len(streams))])

    def feed(name, times):
        for at in times:
            merged.put(name, told(name, at))
        merged.end(name)

    for number, times in enumerate(streams):
        threading.Thread(target=feed, args=(str(number), times), daemon=True).start()
    assert [each.at for each in merged] == sorted(at for times in streams for at in times)


def test_a_stream_that_is_silent_holds_up_nobody_for_long():
    merged = Merging(["a", "b"])
    merged.live("b")
    merged.put("a", told("a", 5.0))
    assert next(iter(merged)).box == "a"


def test_older_lines_that_come_late_by_less_than_the_delay_go_first(monkeypatch):
    monkeypatch.setattr(merging, "LIVE_SECONDS", 5.0)
    merged = Merging(["a", "b"])
    merged.live("a"), merged.live("b")
    merged.put("a", told("a", 5.0))
    threading.Timer(0.1, lambda: merged.put("b", told("b", 4.0))).start()
    threading.Timer(0.2, lambda: merged.end("b")).start()
    lines = iter(merged)
    assert [next(lines).box, next(lines).box] == ["b", "a"]


def test_a_clock_that_is_set_back_loses_and_reorders_nothing_of_its_box():
    merged = Merging(["a"])
    for at in (50, 10, 60):
        merged.put("a", told("a", at))
    merged.end("a")
    assert [each.at for each in merged] == [50, 10, 60]


def test_a_stream_far_ahead_waits(monkeypatch):
    monkeypatch.setattr(merging, "HELD_BYTES", 100)
    monkeypatch.setattr(merging, "_OVERHEAD_BYTES", 0)
    merged = Merging(["a"])
    put = []

    def feed():
        for number in range(10):
            merged.put("a", told("a", number + 1, b"x" * 60))
            put.append(number)
        merged.end("a")

    threading.Thread(target=feed, daemon=True).start()
    await_true(lambda: len(put) == 2)
    time.sleep(0.1)
    assert len(put) == 2
    assert len(list(merged)) == 10
