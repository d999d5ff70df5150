"""The scribe: whatever a stage says is in the log, masked and in parts; and the stage never waits
for it, nor dies of it."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote.contract.logs import job_log
from remote.payload import process
from remote.payload.logs import writer as scribe
from remote.payload.logs.writer import Log, Scribe
from tests.integration.boxes import await_true, code_tree, with_small_parts

SECRET = "hf_" + "aB3dE6" * 5
PARTS = 100_000


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return with_small_parts(code_tree(tmp_path_factory.mktemp("code")), PARTS)


@pytest.fixture(autouse=True)
def _in_a_release(code, monkeypatch):
    monkeypatch.chdir(code)


def said_by(folder: Path, script: str, secrets=(), look=None) -> subprocess.CompletedProcess[bytes]:
    """Run a stage of one script under a scribe, to the end of both."""
    writer = Scribe(folder, secrets)
    with writer.stdout_fd() as stdout_fd:
        stage = subprocess.Popen(
            [sys.executable, "-u", "-c", script],
            stdout=stdout_fd,
            stderr=stdout_fd,
            stdin=subprocess.PIPE,
        )
    if look:
        look(writer, stage)
    stage.communicate()
    writer.end()
    assert stage.returncode == 0
    return writer


def whole(folder: Path) -> bytes:
    found = job_log.parts(folder)
    assert all(here.end == there.start for here, there in itertools.pairwise(found))
    return b"".join(part.path.read_bytes() for part in found)


def test_everything_is_there_in_parts_and_masked(tmp_path):
    said_by(
        tmp_path,
        f"import sys\nfor n in range(5000): print(n, {SECRET!r}, file=(sys.stdout, sys.stderr)[n %"
        " 2], flush=True)",
        [SECRET],
    )
    assert whole(tmp_path) == b"".join(b"%d ***\n" % number for number in range(5000))


def test_parts_have_their_size_and_the_oldest_go(tmp_path):
    script = "import sys\nfor n in range(400): sys.stdout.buffer.write(bytes(range(256)) * 100)"
    said_by(tmp_path, script)
    found = job_log.parts(tmp_path)
    assert len(found) == job_log.KEPT_PARTS + 1 and all(
        part.end - part.start == PARTS for part in found[:-1]
    )
    assert (
        found[-1].end == 400 * 25600
        and found[0].start == found[-1].start - job_log.KEPT_PARTS * PARTS
    )


def test_a_secret_cut_by_two_writes_is_masked(tmp_path):
    half = len(SECRET) // 2
    script = (
        f"import os, time\nos.write(1, {SECRET[:half]!r}.encode())\ntime.sleep(0.2)\nos.write(1,"
        f" {SECRET[half:]!r}.encode() + b' end')"
    )
    said_by(tmp_path, script, [SECRET])
    assert whole(tmp_path) == b"*** end"


def test_no_secret_stands_in_arguments_or_surroundings(tmp_path):
    def look(writer, stage):
        pid = writer._process.pid
        seen = [
            Path(f"/proc/{each}/{name}").read_bytes()
            for each in (pid, os.getpid())
            for name in ("cmdline", "environ")
        ]
        assert not any(SECRET.encode() in each for each in seen)

    said_by(
        tmp_path,
        "input()",
        [SECRET],
        look=lambda writer, stage: (look(writer, stage), stage.stdin.write(b"\n")),
    )


def test_times_say_when_bytes_were_written(tmp_path):
    def answer(writer, stage):
        await_true(lambda: (tmp_path / "log").exists() and whole(tmp_path) == b"one\n")
        time.sleep(scribe.TIMES_EVERY_SECONDS)
        stage.stdin.write(b"\n")

    before = time.time()
    said_by(tmp_path, "print('one')\ninput()\nprint('two')", look=answer)
    (first, one), (second, two) = job_log.times(tmp_path)
    assert (first, second) == (0, 4) and before - 0.01 <= one <= two - 0.2 and two <= time.time()


def test_long_times_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(scribe, "TIMES_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(scribe, "TIMES_BYTES", 2000)
    log = Log(tmp_path)
    for _ in range(400):
        log.write(b"0123456789")
    kept = list(job_log.times(tmp_path))
    assert (tmp_path / job_log.TIMES).stat().st_size < 2100 and len(kept) > 40
    assert [offset for offset, _ in kept] == sorted({offset for offset, _ in kept}) and kept[-1][
        0
    ] == 3990


def test_a_process_that_outlives_the_stage_is_not_waited_for(tmp_path):
    script = (
        "import subprocess\nprint(subprocess.Popen(['sleep', '60'], start_new_session=True).pid,"
        " flush=True)"
    )
    began = time.monotonic()
    said_by(tmp_path, script)
    left = int(whole(tmp_path))
    assert time.monotonic() - began < 20 and process.start_ticks(left)
    os.kill(left, signal.SIGKILL)


def test_the_scribe_outlives_the_supervisor_until_the_last_line(tmp_path):
    supervisor = f"""
import os, subprocess, sys
from pathlib import Path
from remote.payload.logs.writer import Scribe
writer = Scribe(Path({str(tmp_path)!r}), [{SECRET!r}])
with writer.stdout_fd() as stdout_fd:
    subprocess.Popen([sys.executable, "-uc", "import time; print('first'); time.sleep(0.7); print('{SECRET}')"], stdout=stdout_fd)
print(writer._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", supervisor], capture_output=True, check=False)
    assert killed.returncode == -9
    await_true(lambda: not process.start_ticks(int(killed.stdout)))
    assert whole(tmp_path) == b"first\n***\n"


def test_a_killed_scribe_is_replaced_and_the_stage_does_not_notice(tmp_path):
    def kill(writer, stage):
        await_true(lambda: (tmp_path / "log").exists() and whole(tmp_path).endswith(b"1\n"))
        writer._process.kill()
        writer._process.wait()
        stage.stdin.write(b"\n")
        stage.stdin.flush()
        time.sleep(0.3)
        writer.look()

    said_by(
        tmp_path,
        f"print(1)\ninput()\nfor n in range(20000): print({SECRET!r})",
        [SECRET],
        look=kill,
    )
    lines = whole(tmp_path).decode().splitlines()
    assert lines[0] == "1" and "another goes on" in lines[1] and lines[2:] == ["***"] * 20000


def test_where_no_scribe_can_work_the_stage_loses_its_log_and_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(scribe, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.chdir(tmp_path)

    def look(writer, stage):
        while stage.poll() is None:
            writer.look()
            time.sleep(0.02)

    said_by(tmp_path, "for n in range(300000): print(n)", look=look)
    assert "the log is discarded" in capfd.readouterr().err


def test_sigterm_does_not_end_it(tmp_path):
    def look(writer, stage):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            writer._process.send_signal(number)
        stage.stdin.write(b"\n")

    said_by(tmp_path, "input()\nprint('after')", look=look)
    assert whole(tmp_path) == b"after\n"


def test_a_scribe_of_an_earlier_attempt_makes_room(tmp_path):
    listened = Scribe(tmp_path)
    with listened.stdout_fd() as stdout_fd:
        left = subprocess.Popen(["sh", "-c", "echo early; sleep 60"], stdout=stdout_fd)
    await_true(lambda: (tmp_path / "log").exists() and whole(tmp_path) == b"early\n")
    said_by(tmp_path, "print('late')")
    assert whole(tmp_path) == b"early\nlate\n"
    left.kill()
    left.wait()
    listened.end()


def test_a_full_disk_drops_bytes_and_says_so_and_never_blocks(tmp_path):
    """`ulimit -f` refuses like a full disk: with EFBIG."""

    def limited(size):
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )

    log = Log(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        limited(1000)
        for number in range(100):
            log.write(b"%019d\n" % number)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    time.sleep(scribe.RETRY_SECONDS + 0.05)
    log.write(b"there is room again\n")
    log.close()
    lines = whole(tmp_path).decode().splitlines()
    assert lines[:50] == [f"{number:019}" for number in range(50)]
    assert lines[50:] == [
        "[windlass: 1,000 bytes of the log were dropped: File too large]",
        "there is room again",
    ]


def test_what_was_dropped_to_the_end_is_told_in_the_end(tmp_path):
    log = Log(tmp_path)
    log.write(b"no end")
    log._dropped, log._why = 7, "No space left on device"
    log.close()
    assert (
        whole(tmp_path)
        == b"no end\n[windlass: 7 bytes of the log were dropped: No space left on device]\n"
    )


def test_a_folder_that_is_gone_is_no_reason_to_stop(tmp_path):
    log = Log(tmp_path / "nowhere")
    log.write(b"x")
    log.close()
    assert not (tmp_path / "nowhere").exists()


def test_a_log_goes_on_where_an_earlier_attempt_ended(tmp_path):
    (tmp_path / "log.000000000000000").write_bytes(b"a" * 10)
    (tmp_path / "log").write_bytes(b"b" * 5)
    log = Log(tmp_path, part_bytes=8)
    log.write(b"c" * 10)
    log.close()
    assert [(part.start, part.end) for part in job_log.parts(tmp_path)] == [
        (0, 10),
        (10, 18),
        (18, 25),
    ]
    assert whole(tmp_path) == b"a" * 10 + b"b" * 5 + b"c" * 10


def test_the_question_is_one_line_of_json(tmp_path):
    read, write = os.pipe()
    os.write(write, b"said\n")
    os.close(write)
    words = [sys.executable, "-m", "remote.payload.logs.writer", str(tmp_path), str(read)]
    subprocess.run(words, input=json.dumps({"secrets": []}).encode(), pass_fds=[read], check=True)
    os.close(read)
    assert whole(tmp_path) == b"said\n"
