"""A log in parts: an offset means the same byte for ever, also while the files are rotated."""

import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from remote.contract.logs import job_log
from remote.payload.logs.writer import Log


def filled(folder, size, part_bytes, kept=job_log.KEPT_PARTS):
    content = os.urandom(size)
    log = Log(folder, part_bytes, kept)
    for at in range(0, size, 700):
        log.write(content[at : at + 700])
    log.close()
    return content


def test_a_log_that_is_not_there_yet(tmp_path):
    (only,) = job_log.parts(tmp_path)
    assert (only.start, only.end, only.inode) == (0, 0, 0)
    assert (
        job_log.read(tmp_path, 0, 10) == (0, b"")
        and job_log.tail(tmp_path, 10) == b""
        and list(job_log.times(tmp_path)) == []
    )
    assert job_log.parts(tmp_path / "nowhere")[-1].end == 0


@given(offset=st.integers(0, 5200), size=st.integers(1, 3000))
def test_any_stretch_is_found_again(tmp_path_factory, offset, size):
    folder = tmp_path_factory.mktemp("log")
    content = filled(folder, 5000, part_bytes=1024)
    assert job_log.between(folder, min(offset, 5000), 5000) == content[offset:]
    start, piece = job_log.read(folder, offset, size)
    assert (
        start == offset
        and piece == content[offset : offset + len(piece)]
        and (piece or offset >= 5000)
    )
    assert job_log.tail(folder, size) == content[-size:]


def test_what_was_dropped_is_a_hole(tmp_path):
    content = filled(tmp_path, 10_000, part_bytes=1000, kept=3)
    first = job_log.parts(tmp_path)[0].start
    assert first == 7000 and len(job_log.parts(tmp_path)) == 4
    assert job_log.read(tmp_path, 10, 50) == (7000, content[7000:7050])
    assert (
        job_log.between(tmp_path, 6999, 7500) is None
        and job_log.tail(tmp_path, 9000) == content[7000:]
    )


def test_lines_that_are_no_times_are_left_out(tmp_path):
    (tmp_path / job_log.TIMES).write_text("0 1.5\n100 17\n120 1763 140 1763.5\nx y\n200 2.5\n")
    assert list(job_log.times(tmp_path)) == [(0, 1.5), (100, 17.0), (200, 2.5)]


def test_reading_while_it_rotates_gives_every_byte_once(tmp_path):
    content = os.urandom(300_000)

    def write():
        log = Log(tmp_path, part_bytes=2000, kept_parts=1000)
        for at in range(0, len(content), 137):
            log.write(content[at : at + 137])

    writer = threading.Thread(target=write)
    writer.start()
    read = b""
    while writer.is_alive() or len(read) < len(content):
        start, piece = job_log.read(tmp_path, len(read), 4096)
        assert start == len(read)
        read += piece
    writer.join()
    assert read == content


def test_another_file_in_the_place_of_a_part_is_noticed(tmp_path):
    filled(tmp_path, 2500, part_bytes=1000)
    found = job_log.parts(tmp_path)[-1]
    found.path.replace(tmp_path / job_log.part_name(found.start))
    found.path.write_bytes(b"new")
    try:
        with job_log.opened(found):
            raise AssertionError("another file was taken for the part")
    except FileNotFoundError:
        assert job_log.read(tmp_path, 2500, 10) == (2500, b"new")
