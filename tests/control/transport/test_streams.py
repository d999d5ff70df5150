"""Streaming through the folder transport; the same promises over SSH are in
tests/integration/test_transport.py."""

import io
import os

import pytest

from remote.control.errors import BoxUnreachable
from remote.control.output.sanitize import last_lines
from remote.control.transport.base import Result


def test_exec_gives_both_streams_and_the_code(box):
    result = box.exec("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_commands_run_in_the_home_of_the_box(box):
    assert box.exec('echo "$HOME $PWD"').text.split() == [str(box.home)] * 2


def test_stdin_is_binary_safe(box):
    content = bytes(range(256)) * 5000
    assert box.exec("cat", content).stdout == content
    assert box.exec("cat", io.BytesIO(content)).stdout == content


def test_both_directions_full_do_not_deadlock(box):
    content = os.urandom(4_000_000)
    result = box.exec("tee /dev/stderr", io.BytesIO(content))
    assert result.stdout == content
    assert content.endswith(result.stderr)


def test_a_command_may_ignore_its_input(box):
    assert box.exec("exec 0<&-; echo done", b"x" * 3_000_000).stdout == b"done\n"


def test_a_source_that_breaks_is_an_error(box):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        box.exec("cat", Broken())


def test_leaving_early_ends_the_command(box):
    with box.open("echo $$; exec sleep 600") as stream:
        pid = int(next(iter(stream)))
    assert not os.path.exists(f"/proc/{pid}")


def test_timeout(box):
    with pytest.raises(BoxUnreachable):
        box.exec("sleep 600", timeout=0.05)


def test_killed_by_a_signal(box):
    assert box.exec("kill -9 $$").exit_code == -1


def test_counts_round_trips_and_bytes(box):
    box.exec("cat", b"12345")
    assert (box.round_trips, box.bytes_sent) == (1, len("cat") + 5)


def test_last_lines():
    assert last_lines(b"one\n\ntwo\nthree\nfour\n\n") == "two | three | four"
    assert Result(1, b"", b"why\n", 0.1).complaint == "why"
