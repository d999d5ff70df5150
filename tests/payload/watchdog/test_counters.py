"""Counting: monotonic time in, seconds left out."""

from dataclasses import replace

import pytest

from remote.contract.job.clocks import Limits
from remote.payload.watchdog import counters
from remote.payload.watchdog.counters import Counters

LIMITS = Limits(idle=60, lifetime=1000, dollars=1, stopped=1, stuck=30, stuck_grace=20, grace=5)


def counted(last=None, signs=None, seconds=(), is_busy=False, tick=10.0):
    found = last or Counters(session="1", boot="b", at=100.0)
    for passed in seconds:
        counters.count(found, found.at + passed, signs or {}, is_busy, tick)
    return found


def test_idle_time_adds_up_until_something_goes_on():
    found = counted(seconds=[10, 10])
    assert (found.idle_for, found.elapsed) == (20, 20)
    counted(found, seconds=[10], is_busy=True)
    assert (found.idle_for, found.elapsed) == (0, 30)


def test_a_pause_counts_for_life_and_money_but_hardly_for_idleness():
    found = counted(seconds=[500])
    assert found.elapsed == 500
    assert found.idle_for == 25


def test_time_never_runs_backwards():
    assert counted(seconds=[10, -50]).elapsed == 10


@pytest.mark.parametrize(
    "last, session, boot, elapsed",
    [
        (None, "1", "b", 0),
        (Counters("1", "b", at=50, elapsed=7), "1", "b", 57),  # the watchdog was started again
        (
            Counters("1", "b", at=50, elapsed=7),
            "1",
            "c",
            107,
        ),  # the box was rebooted: it has been up for 100 s
        (Counters("1", "b", at=50, elapsed=7), "2", "b", 0),  # stopped and started
        (
            Counters("1", "b", at=50, elapsed=7),
            "",
            "c",
            107,
        ),  # nobody tells: taken for the same start
        (
            Counters("1", "b", at=50, elapsed=7, ended_by="idle"),
            "",
            "c",
            0,
        ),  # but not after a clock stopped it
        (Counters("", "b", at=50, elapsed=7), "2", "b", 57),
    ],
)
def test_the_same_start_goes_on_counting_and_another_begins_anew(last, session, boot, elapsed):
    found = counters.resumed(last, session, boot, 100.0)
    assert (found.elapsed, found.at, found.ended_by) == (elapsed, 100.0, "")


def test_a_job_is_quiet_from_its_last_sign_of_life():
    found = counted(signs={"a": "1"}, seconds=[10, 10])
    assert counters.most_quiet(found) == ("a", 10)
    counted(found, signs={"a": "2", "b": "1"}, seconds=[10])
    counted(found, signs={"a": "2", "b": "2"}, seconds=[10])
    assert counters.most_quiet(found) == ("a", 10)
    assert counters.least_quiet(found) == 0
    counted(found, seconds=[10])
    assert counters.most_quiet(found) == ("", 0)


def test_only_clocks_that_run_have_time_left():
    assert counters.left(counted(seconds=[10]), LIMITS, is_busy=True) == {"lifetime": 990}
    assert counters.left(counted(seconds=[10]), LIMITS, is_busy=False) == {
        "lifetime": 990,
        "idle": 50,
    }
    priced = replace(LIMITS, hourly_usd=36.0)
    found = counted(seconds=[10])
    assert counters.left(found, priced, is_busy=True) == {"lifetime": 990, "dollars": 90}
    assert counters.spent_usd(found, priced) == pytest.approx(0.1)


def test_one_lively_job_holds_up_the_stuck_clock_of_all():
    found = counted(signs={"a": "1"}, seconds=[10] * 5, is_busy=True)
    assert counters.left(found, LIMITS, is_busy=True)["stuck"] == 10
    counted(found, signs={"a": "1", "b": "1"}, seconds=[10], is_busy=True)
    assert "stuck" not in counters.left(found, LIMITS, is_busy=True)
