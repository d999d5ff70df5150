"""The local copy of a box's log: exact wherever it has bytes, and readable whatever those are."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.frames import mark
from remote.control.jobs import mirror
from remote.control.jobs.mirror import Gap, Lines, Mirror, each_line, holes, last_state, read_texts


@pytest.fixture
def told():
    return []


@pytest.fixture
def copy(tmp_path, told):
    made = Mirror("log", tmp_path / "log", each_line(told.append), told.append)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("line", "shown"),
    [(b"plain", b"plain"), (b"windows\r", b"windows"), (b"\r 10%\r 20%", b" 20%"), (b"10%\r20%\r\r", b"20%"), (b"\r", b""), (b"", b"")],
)
def test_a_progress_bar_is_shown_as_its_last_state(line, shown):
    assert last_state(line) == shown


@given(pieces=st.lists(st.binary(max_size=30), max_size=12))
def test_lines_are_the_same_however_they_are_cut(pieces):
    told = []
    lines = Lines(each_line(told.append))
    for piece in pieces:
        lines.feed(piece)
    lines.finish()
    *whole, rest = b"".join(pieces).split(b"\n")
    assert told == [last_state(line).decode(errors="replace") for line in (*whole, *([rest] if rest else []))]


def test_a_bar_that_never_ends_takes_no_memory_and_a_line_that_never_ends_is_cut(monkeypatch, told):
    lines = Lines(each_line(told.append))
    for number in range(30_000):
        lines.feed(b"\r%5d of 30000" % number)
    assert lines._size < 2 * mirror._TIDY_BYTES
    lines.feed(b"\n")
    assert told == ["29999 of 30000"]
    monkeypatch.setattr(mirror, "LINE_BYTES", 1000)
    for _ in range(5):
        lines.feed(b"x" * 500)
    lines.finish()
    assert [len(line) for line in told[1:]] == [1500, 1000]


def test_lines_are_told_without_secrets_and_the_file_stays_exact(tmp_path, told, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    copy = Mirror("log", tmp_path / "log", each_line(told.append), print)
    copy.take(0, b"token hf_0123456789")
    copy.take(19, b"abcdef!\n")
    copy.close()
    assert told == ["token ***!"] and (tmp_path / "log").read_bytes() == b"token hf_0123456789abcdef!\n"
    assert [text for _, text in read_texts(tmp_path / "log")] == ["token ***!"]


def test_a_hole_takes_no_room_is_told_and_is_remembered(copy, told, tmp_path):
    copy.take(0, b"one\nunfinished")
    copy.skip(14, 50_000_014)
    copy.take(50_000_014, b"two\nthree\n")
    assert told == ["one", "unfinished", "[50,000,000 bytes were dropped on the box]", "two", "three"]
    assert copy.offset == copy.path.stat().st_size == 50_000_024 and copy.path.stat().st_blocks * 512 < 1_000_000
    assert holes(copy.path) == [(14, 50_000_014)]
    texts = list(read_texts(copy.path))
    assert "\n".join(text for _, text in texts).split("\n") == told
    assert texts[-1][0] == 50_000_024
    assert [text for _, text in read_texts(copy.path, 50_000_014)] == ["two\nthree"]


def test_a_copy_with_a_hole_is_known_by_the_bytes_behind_it(copy, tmp_path):
    copy.take(0, b"before")
    copy.skip(6, 1000)
    assert copy.arguments() == ("1000", mark(1000, b""))
    copy.take(1000, b"behind")
    assert copy.arguments() == ("1006", mark(1006, b"behind"))
    again = Mirror("log", copy.path, print, print)
    assert again.arguments() == ("1006", mark(1006, b"behind"))
    again.close()


def test_what_another_command_has_brought_is_no_hole(copy, tmp_path):
    slower = Mirror("log", copy.path, print, print)
    copy.take(0, b"0123456789")
    slower.take(0, b"012")
    slower.skip(3, 8)
    assert slower.offset == 8 and holes(copy.path) == [] and copy.path.read_bytes() == b"0123456789"
    slower.skip(8, 20)
    assert holes(copy.path) == [(10, 20)] and copy.path.stat().st_size == 20
    slower.close()


def test_gaps_are_refused(copy):
    for gap in (lambda: copy.take(1, b"x"), lambda: copy.skip(1, 9)):
        with pytest.raises(Gap, match="byte 0 is next"):
            gap()


def test_a_hole_larger_than_any_log_is_not_believed(copy):
    with pytest.raises(Gap, match="more than any log"):
        copy.skip(0, 1 << 63)
    assert copy.path.stat().st_size == 0


def test_a_hole_set_aside_takes_no_room(copy, tmp_path):
    copy.skip(0, 1 << 28)
    copy.take(1 << 28, b"behind\n")
    copy.restart()
    aside = tmp_path / "log.1"
    assert aside.stat().st_size == (1 << 28) + 7 and aside.stat().st_blocks * 512 < 1 << 20
    assert [text for _, text in read_texts(aside)][-1] == "behind"


def test_beginning_anew_sets_the_old_one_aside_with_its_holes(copy, told, tmp_path):
    copy.take(0, b"unfinished")
    copy.skip(10, 100)
    copy.restart()
    copy.take(0, b"new\n")
    assert told[-1] == "new" and copy.path.read_bytes() == b"new\n" and holes(copy.path) == []
    assert (tmp_path / "log.1").stat().st_size == 100 and holes(tmp_path / "log.1") == [(10, 100)]


def test_nobody_reading_along_costs_nothing(tmp_path):
    copy = Mirror("log", tmp_path / "log", None, print)
    copy.take(0, os.urandom(1000))
    copy.skip(1000, 2000)
    copy.finish()
    copy.close()
    assert copy.path.stat().st_size == 2000


def test_the_unfinished_line_of_an_earlier_command_is_told_whole(tmp_path, told):
    (tmp_path / "log").write_bytes(b"whole\n" + b"x" * 200_000)
    copy = Mirror("log", tmp_path / "log", each_line(told.append), print)
    copy.take(200_006, b"y\n")
    copy.close()
    assert told == ["x" * 200_000 + "y"]
