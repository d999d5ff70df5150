"""The local copy of a box's log: exact wherever it has bytes, and readable whatever those are."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.logs.frames import mark
from remote.contract.logs.query import LOG, LogQuery
from remote.control.errors import JobFailed
from remote.control.logs import archive
from remote.control.logs.archive import ArchivedLog
from remote.control.logs.mirror import CopySink, FileLog, Mirror, holes
from remote.control.logs.record import LogRecord, LogSink, last_state
from remote.control.secrets import mask


@pytest.fixture
def copy(tmp_path):
    made = Mirror(tmp_path / "log")
    yield made
    made.close()


class Texts(LogSink):
    def __init__(self):
        self.texts = []

    def take(self, record):
        self.texts += record.text(mask()).split("\n")

    def notice(self, text):
        self.texts.append(text)


def texts_of(path, start=None):
    taken = Texts()
    archive.send(ArchivedLog("job", FileLog(path), "here"), "box", LogQuery(), taken, start)
    return taken.texts


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain", b"plain"),
        (b"windows\r", b"windows"),
        (b"\r 10%\r 20%", b" 20%"),
        (b"10%\r20%\r\r", b"20%"),
        (b"\r", b""),
        (b"", b""),
    ],
)
def test_a_progress_bar_is_shown_as_its_last_state(line, shown):
    assert last_state(line) == shown


CONTENT = st.binary(max_size=60) | st.text(alphabet="aä\n\r日", max_size=30).map(str.encode)


@settings(max_examples=150)
@given(
    content=CONTENT,
    sizes=st.lists(st.integers(1, 25), min_size=1),
    overlaps=st.lists(st.integers(0, 9), min_size=1),
)
def test_a_copy_is_exact_for_any_pieces_and_overlaps(tmp_path_factory, content, sizes, overlaps):
    path = tmp_path_factory.mktemp("mirror") / "log"
    at, number = 0, 0
    while at < len(content):
        copy = Mirror(path)  # a new command each time
        begin = max(0, copy.offset - overlaps[number % len(overlaps)])
        copy.take(begin, content[begin : at + sizes[number % len(sizes)]])
        at, number = copy.offset, number + 1
        copy.close()
    assert path.exists() is bool(content) and (not content or path.read_bytes() == content)


def test_the_unfinished_line_of_an_earlier_command_is_read_whole(tmp_path):
    (tmp_path / "log").write_bytes(b"whole\n" + b"x" * 200_000)
    taken = Texts()
    sink = CopySink({LOG: tmp_path / "log"}, taken)
    sink.take(LogRecord(0.0, "gpu", content=b"y\nnext\n", next=200_013))
    sink.close()
    assert taken.texts == ["x" * 200_000 + "y", "next"]
    assert (tmp_path / "log").read_bytes() == b"whole\n" + b"x" * 200_000 + b"y\nnext\n"


def test_lines_are_shown_without_secrets_and_the_file_stays_exact(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    copy = Mirror(tmp_path / "log")
    copy.take(0, b"token hf_0123456789")
    copy.take(19, b"abcdef!\n")
    copy.close()
    assert (tmp_path / "log").read_bytes() == b"token hf_0123456789abcdef!\n"
    assert texts_of(tmp_path / "log") == ["token ***!"]


def test_a_hole_takes_no_room_is_shown_and_is_remembered(copy, tmp_path):
    copy.take(0, b"one\nunfinished")
    copy.skip(14, 50_000_014)
    copy.take(50_000_014, b"two\nthree\n")
    assert texts_of(copy.path) == [
        "one",
        "unfinished",
        "[50,000,000 bytes were dropped on the box]",
        "two",
        "three",
    ]
    assert (
        copy.offset == copy.path.stat().st_size == 50_000_024
        and copy.path.stat().st_blocks * 512 < 1_000_000
    )
    assert holes(copy.path) == [(14, 50_000_014)]
    assert texts_of(copy.path, 50_000_014) == ["two", "three"]


def test_a_copy_with_a_hole_is_known_by_the_bytes_behind_it(copy, tmp_path):
    copy.take(0, b"before")
    copy.skip(6, 1000)
    assert copy.position() == (1000, mark(1000, b""))
    copy.take(1000, b"behind\n")
    assert copy.position() == (1007, mark(1007, b"behind\n"))
    again = Mirror(copy.path)
    assert again.position() == (1007, mark(1007, b"behind\n"))
    again.close()


def test_what_another_command_has_brought_is_no_hole(copy, tmp_path):
    slower = Mirror(copy.path)
    copy.take(0, b"0123456789")
    slower.take(0, b"012")
    slower.skip(3, 8)
    assert slower.offset == 8 and holes(copy.path) == [] and copy.path.read_bytes() == b"0123456789"
    slower.skip(8, 20)
    assert holes(copy.path) == [(10, 20)] and copy.path.stat().st_size == 20
    slower.close()


def test_gaps_are_refused(copy):
    for gap in (lambda: copy.take(1, b"x"), lambda: copy.skip(1, 9), lambda: copy.take(-1, b"x")):
        with pytest.raises(ValueError, match="byte 0 is next"):
            gap()


def test_a_hole_larger_than_any_log_is_not_believed(copy):
    with pytest.raises(ValueError, match="more than any log"):
        copy.skip(0, 1 << 63)
    assert copy.path.stat().st_size == 0


def test_a_hole_set_aside_takes_no_room(copy, tmp_path):
    copy.skip(0, 1 << 28)
    copy.take(1 << 28, b"behind\n")
    aside = copy.restart()
    assert aside.stat().st_size == (1 << 28) + 7 and aside.stat().st_blocks * 512 < 1 << 20
    assert texts_of(aside)[-1] == "behind"


def test_beginning_anew_sets_the_old_one_aside_with_its_holes(tmp_path):
    taken = Texts()
    sink = CopySink({LOG: tmp_path / "log"}, taken)
    sink.take(LogRecord(0.0, "gpu", content=b"unfinished", next=10))
    sink.take(LogRecord(0.0, "gpu", next=100, dropped=90))
    sink.restart("job-1", LOG)
    sink.take(LogRecord(0.0, "gpu", content=b"new\n", next=4))
    sink.close()
    assert taken.texts[-2:] == [
        "the box's log is another file now: beginning anew, the old one is kept as log.1",
        "new",
    ]
    assert (tmp_path / "log").read_bytes() == b"new\n" and holes(tmp_path / "log") == []
    assert (tmp_path / "log.1").stat().st_size == 100 and holes(tmp_path / "log.1") == [(10, 100)]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    sink = CopySink({LOG: tmp_path / "logs" / "log"}, LogSink())
    with pytest.raises(JobFailed, match="laptop's disk is full"):
        sink.take(LogRecord(0.0, "gpu", content=b"x\n", next=2))
    sink.close()
