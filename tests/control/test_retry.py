"""Trying again: what ends it, what starts the patience anew, what is told."""

import pytest

from remote.control import retry
from remote.control.errors import (
    BoxUnreachable,
    CapacityError,
    HostKeyMismatch,
    LoginRefused,
    QuotaError,
)
from remote.control.retry import CapacityWait, retry_while_unreachable


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping and `pass_` move; gives the pauses."""
    return Clock(monkeypatch)


class Clock:
    def __init__(self, monkeypatch):
        self.now, self.pauses = 100.0, []
        monkeypatch.setattr(retry.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(retry.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def gone(why="no route to host", until_back=None):
    error = BoxUnreachable("box demo does not answer", where="box demo", why=why, remedy="wait")
    error.until_back = until_back
    return error


def failing(*errors):
    left = list(errors)

    def attempt():
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def test_pauses_double_and_one_line_tells_it(clock):
    told = []
    assert (
        retry_while_unreachable(failing(*[gone()] * 9), progress=lambda: 0, notice=told.append)
        == "done"
    )
    assert clock.pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
    assert told == [
        "connection lost (no route to host): trying again for 600 s; nothing that arrived is lost"
    ]


def test_another_reason_is_told_and_so_is_a_minute(clock):
    told = []
    retry_while_unreachable(
        failing(gone(), gone("refused"), *[gone("refused")] * 10),
        progress=lambda: 0,
        notice=told.append,
    )
    assert [line.split("(")[1].split(")")[0] for line in told] == [
        "no route to host",
        "refused",
        "refused",
    ]


def test_progress_starts_pauses_and_patience_anew(clock):
    arrived = iter(range(1000))
    count, tries = [0], [0]

    def attempt():
        tries[0] += 1
        if tries[0] % 5 == 0:
            count[0] = next(arrived) + 1
        if tries[0] < 200:
            raise gone()
        return "done"

    assert (
        retry_while_unreachable(
            attempt, progress=lambda: count[0], notice=lambda line: None, patience_seconds=5
        )
        == "done"
    )
    assert max(clock.pauses) == 3.2 and clock.now > 200


def test_patience_ends_and_the_error_says_what_the_caller_knows(clock):
    with pytest.raises(BoxUnreachable, match="lost sight of job 7") as caught:
        retry_while_unreachable(
            failing(*[gone()] * 99),
            progress=lambda: 0,
            notice=lambda line: None,
            patience_seconds=20,
            what="lost sight of job 7",
            kept="the job",
            remedy="`./inv ps`",
        )
    assert (caught.value.where, caught.value.kept, caught.value.remedy) == (
        "box demo",
        "the job",
        "`./inv ps`",
    )
    assert "no route to host; nothing came through for" in caught.value.why
    assert 20 < sum(clock.pauses) < 40


def test_an_attempt_that_was_connected_for_long_is_no_failure_to_get_through(clock):
    tries = []

    def attempt():
        tries.append(clock.now)
        if len(tries) == 8:
            return "done"
        clock.now += 90
        raise gone()

    assert (
        retry_while_unreachable(
            attempt, progress=lambda: 0, notice=lambda line: None, patience_seconds=20
        )
        == "done"
    )
    assert set(clock.pauses) == {0.2}


def test_a_pause_ends_when_the_error_finds_the_box_again(clock):
    looked = []
    retry_while_unreachable(failing(gone(until_back=looked.append), gone(until_back=looked.append)))
    assert looked == [0.2, 0.4] and clock.pauses == []


@pytest.mark.parametrize(
    "error",
    [LoginRefused("refused"), HostKeyMismatch("another"), ValueError("a bug"), KeyboardInterrupt()],
)
def test_what_no_patience_mends_comes_out_at_once(clock, error):
    with pytest.raises(type(error)) as caught:
        retry_while_unreachable(
            failing(gone(), error), progress=lambda: 0, notice=lambda line: None
        )
    assert caught.value is error and clock.pauses == [0.2]


def test_a_box_that_was_never_reached_is_given_up_by_the_time_that_it_took(clock):
    def attempt():
        clock.now += 10
        raise gone()

    with pytest.raises(BoxUnreachable, match="does not answer"):
        retry_while_unreachable(attempt, patience_seconds=3)
    assert clock.pauses == [] and clock.now == 110


def test_without_capacity_the_pauses_grow_and_the_last_error_comes_out_in_time(clock):
    told, full = [], CapacityError("none there")

    wait = CapacityWait("box demo has no capacity", told.append, wait_seconds=100, poll=3)
    with pytest.raises(CapacityError) as caught:
        for _ in range(4):
            wait.pause_or_raise(full)
    assert caught.value is full and clock.pauses == [15, 30, 55]
    assert told[0] == "box demo has no capacity; next try in 15 s, giving up in 1.7 min"
    with pytest.raises(QuotaError):
        CapacityWait("", told.append, 100, 3).pause_or_raise(QuotaError("refused"))
