import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from remote.contract.logs import lines as log_lines
from remote.contract.logs.job_log import part_name
from remote.contract.logs.lines import (
    Filter,
    FolderLog,
    Levels,
    Moments,
    Scan,
    line_start,
    start_of,
)

LINES = some.lists(
    some.binary(max_size=30).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=30
)


class Bytes:
    """A log in memory that gives a few bytes at a time, and whose first bytes may be gone, or some
    in the midst."""

    def __init__(self, content, at_once=7, gone=0, hole=(0, 0)):
        self.content, self.at_once, self.gone, self.hole = content, at_once, gone, hole

    def bounds(self):
        return min(self.gone, len(self.content)), len(self.content)

    def read(self, offset, size):
        start = max(offset, self.gone)
        if start < self.hole[0]:
            return (
                start,
                self.content[start : min(start + size, start + self.at_once, self.hole[0])],
            )
        start = max(start, self.hole[1])
        return start, self.content[start : start + min(size, self.at_once)]

    def times(self):
        return ()


def lines_of(scan):
    return b"".join(piece.content for piece in (*scan.pieces(), *scan.finish()))


@given(
    LINES, some.binary(max_size=10).map(lambda rest: rest.replace(b"\n", b"")), some.integers(1, 50)
)
def test_every_byte_once_however_it_comes(lines, rest, at_once):
    whole = b"".join(lines) + rest
    scan = Scan(Bytes(whole, at_once), 0, Filter(), Moments(()))
    assert lines_of(scan) == whole and scan.next == len(whole)


@given(LINES, some.integers(0, 400))
def test_it_goes_on_after_any_line(lines, cut):
    whole = b"".join(lines)
    first = Scan(Bytes(whole[:cut]), 0, Filter(), Moments(()))
    before = b"".join(piece.content for piece in first.pieces())
    assert (
        before == whole[: first.next]
        and before + lines_of(Scan(Bytes(whole), first.next, Filter(), Moments(()))) == whole
    )


@settings(deadline=None)
@given(LINES, some.integers(0, 12), some.sampled_from(["", "a", "^.?$", "\\d"]))
def test_the_tail_is_the_end_of_what_is_wanted(lines, count, grep):
    log = Bytes(b"".join(lines), 11)
    wanted = [line for line in lines if re.search(grep, line.decode(errors="replace")[:-1])]
    start = start_of(log, Moments(()), Filter(grep), None, count)
    assert lines_of(Scan(log, start, Filter(grep), Moments(()))) == b"".join(
        wanted[-count:] if count else []
    )


@given(LINES, some.integers(1, 40))
def test_it_may_be_read_in_rounds(lines, at_most):
    whole = b"".join(lines)
    scan, told = Scan(Bytes(whole), 0, Filter(), Moments(())), b""
    while scan.next + len(scan.unfinished()) < len(whole):
        told += b"".join(piece.content for piece in scan.pieces(1.0, at_most))
    assert told == whole


def test_what_was_dropped_is_told_and_reading_goes_on():
    log = Bytes(b"0123\n5678\nrest\n", gone=7)
    pieces = list(Scan(log, 0, Filter(), Moments(())).pieces())
    assert (pieces[0].dropped, pieces[0].next) == (7, 7) and b"".join(
        piece.content for piece in pieces
    ) == b"78\nrest\n"


@settings(deadline=None)
@given(LINES, some.integers(0, 200), some.integers(1, 100), some.integers(1, 8))
def test_the_tail_is_found_over_a_gap(lines, first, size, count):
    whole = b"".join(lines)
    log = Bytes(whole, 11, hole=(min(first, len(whole)), min(first + size, len(whole))))
    left = [whole[: log.hole[0]], whole[log.hole[1] :]]
    pieces = (
        [line for part in left for line in part.splitlines(keepends=True) if line]
        if b"\r" not in whole
        else None
    )
    start = start_of(log, Moments(()), Filter(), None, count)
    assert log.hole[1] <= start or start <= log.hole[0]
    told = lines_of(Scan(log, start, Filter(), Moments(()))).count(b"\n")
    assert pieces is None or min(count, len(pieces)) >= told >= min(count, len(pieces)) - 1


def test_times_and_rotation(tmp_path):
    (tmp_path / part_name(0)).write_bytes(b"aaaa\nbb")
    (tmp_path / "log").write_bytes(b"bb\ncccc\ndd")
    (tmp_path / "log.times").write_text("0 100.0\n5 110.0\n10 120.0\ntorn")
    log = FolderLog(tmp_path)
    moments = Moments(log.times())
    told = [(piece.at, piece.content) for piece in Scan(log, 0, Filter(), moments).pieces()]
    assert told == [(100.0, b"aaaa\n"), (110.0, b"bbbb\n"), (120.0, b"cccc\n")]
    assert [
        start_of(log, moments, Filter(), since, None)
        for since in (90.0, 105.0, 110.0, 115.0, 500.0)
    ] == [0, 5, 5, 10, 17]
    assert line_start(log, 8) == 5 and line_start(log, 10) == 10


def test_a_clock_that_was_set_back_brings_nothing_old_and_hides_nothing_new():
    ten, eleven = 36000.0, 39600.0
    moments = Moments(
        [(0, ten), (5, ten + 1800), (10, ten - 1800), (15, ten - 600)]
    )  # set back by an hour at half past ten
    assert [moments.since(since, 20) for since in (ten - 600, ten - 1700, ten - 1800, eleven)] == [
        15,
        15,
        0,
        20,
    ]


def test_without_times_nothing_is_left_out_for_its_age():
    assert start_of(Bytes(b"a\nb\n"), Moments(()), Filter(), 500.0, None) == 0


def test_a_line_without_an_end_is_shared_out(monkeypatch):
    monkeypatch.setattr(log_lines, "LINE_BYTES", 100)
    whole = b"x" * 950
    scan = Scan(Bytes(whole, 30), 0, Filter(), Moments(()))
    pieces = list(scan.pieces())
    assert (
        all(len(piece.content) <= 130 for piece in pieces)
        and b"".join(piece.content for piece in pieces) + scan.unfinished() == whole
    )


TRACEBACK = """\
step 1
Traceback (most recent call last):
  File "a.py", line 1, in main
    fail()
torch.OutOfMemoryError: CUDA out of memory
step 2
UserWarning: this is old
[WARN] disk is slow
E0101 ERROR of a kind
oom: {"what": "memory ran out"}
{"error": 1}
"""


def test_how_much_a_line_weighs():
    levels = Levels()
    weights = [levels.of(line) for line in TRACEBACK.splitlines()]
    assert weights == [
        "info",
        *["error"] * 4,
        "info",
        "warning",
        "warning",
        "error",
        "error",
        "info",
    ]


@pytest.mark.parametrize("at_once", [3, 10_000])
def test_a_traceback_is_told_as_a_whole(at_once):
    whole = TRACEBACK.encode()
    scan = Scan(Bytes(whole, at_once), 0, Filter("", "error"), Moments(()))
    assert len(lines_of(scan).splitlines()) == 6
    inside = whole.index(b"    fail")
    again = Scan(Bytes(whole, at_once), inside, Filter("", "error"), Moments(()))
    assert lines_of(again).startswith(b"    fail()\ntorch.Out")
