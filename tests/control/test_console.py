"""Progress without a terminal; tables on a narrow one."""

import re

import pytest

from remote.control import console


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_a_line_each_ten_seconds_with_rate_and_time_left(clock, capsys):
    console.console.cache_clear()
    with console.bytes_progress("adapter", 170_000_000) as done:
        for second in range(26):
            done(50_000_000 + second * 2_000_000)
            clock[0] += 1
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"  adapter: 41 % of 170\.0 MB, 2\.0 MB/s, 0:00:50 left", first)
    assert re.fullmatch(r"  adapter: 53 % of 170\.0 MB, 2\.0 MB/s, 0:00:40 left", second)


def test_nothing_moves_and_nothing_is_known(clock, capsys):
    console.console.cache_clear()
    with console.bytes_progress("adapter", 0) as done:
        done(5)
        clock[0] += 11
        done(5)
    assert capsys.readouterr().err == "  adapter: 5 bytes, 0 bytes/s\n"


@pytest.mark.parametrize("width", [80, 100])
def test_a_runs_id_can_be_copied_from_a_narrow_table(monkeypatch, capsys, width):
    console.console.cache_clear()
    monkeypatch.setattr(console.console(), "_width", width)
    run = "20261121-201254-haul-e598"
    row = ("sa", "base-32ef00a8", "pretrain", run, "PENDING, place 1 in line", "2026-11-21 20:16", "37 s", "waits for train of another run")
    console.print_table("", ("box", "job", "stage", "run", "status", "began", "took", "why"), [row])
    console.console.cache_clear()
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= width and sum(run in line for line in lines) == 1 and len(lines) <= 7
