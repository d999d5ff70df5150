import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from remote.control import processes


@pytest.fixture
def mark():
    value = uuid.uuid4().hex
    yield value
    processes.end("WINDLASS_TEST", value)


@pytest.fixture
def run():
    """Runs a script with a mark; nothing is left of it, however the test ends."""
    begun = []

    def run(script, mark):
        environment = {**os.environ, "WINDLASS_TEST": mark}
        shell = subprocess.Popen(
            ["sh", "-c", script],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(shell)
        return shell

    yield run
    for shell in begun:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
        with shell:
            pass


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.01)


def test_finds_a_process_in_a_session_of_its_own_whose_parent_is_gone(mark, run):
    shell = run("setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!", mark)
    detached = int(shell.communicate()[0])
    until(lambda: processes.members("WINDLASS_TEST", mark) == {detached})


def test_finds_descendants_that_dropped_the_mark(mark, run):
    shell = run("env -i sleep 300 & echo $!; wait", mark)
    child = int(shell.stdout.readline())
    until(lambda: processes.members("WINDLASS_TEST", mark) == {shell.pid, child})
    processes.end("WINDLASS_TEST", mark)
    shell.communicate()


def test_finds_a_process_group_without_the_mark(mark):
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    assert processes.members("WINDLASS_TEST", mark, {other.pid}) == {other.pid}
    assert processes.end("WINDLASS_TEST", mark, {other.pid}) == set()
    assert other.wait() == -signal.SIGKILL


def test_leaves_other_marks_alone(mark, run):
    mine, others = run("sleep 300", mark), run("sleep 300", mark + "0")
    until(
        lambda: {mine.pid} <= processes.members("WINDLASS_TEST", mark)
    )  # a program that has only just begun shows no environment yet
    assert processes.end("WINDLASS_TEST", mark) == set()
    assert mine.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert others.poll() is None


def test_asks_first_and_lets_a_process_finish_within_the_grace(mark, run):
    shell = run("trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done", mark)
    assert shell.stdout.readline() == "ready\n"
    processes.end("WINDLASS_TEST", mark, grace_seconds=10)
    assert shell.communicate()[0] == "saved\n"
    assert shell.returncode == 0


def test_kills_what_does_not_listen(mark):
    ignoring = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready',"
                " flush=True); time.sleep(300)"
            ),
        ],
        env={**os.environ, "WINDLASS_TEST": mark},
        stdout=subprocess.PIPE,
    )
    assert ignoring.stdout.readline() == b"ready\n"
    assert processes.end("WINDLASS_TEST", mark, grace_seconds=0.1) == set()
    ignoring.communicate()
    assert ignoring.returncode == -signal.SIGKILL


def test_ps_tells_the_same_where_there_is_no_proc(mark, run):
    value = mark + "/with a blank"
    shell = run("echo ready; sleep 300", value)
    shell.stdout.readline()
    bare = b"\0WINDLASS_TEST=" + value.encode() + b"\0"
    found = {process.pid for process in processes._from_ps(bare) if process.has(bare)}
    assert shell.pid in found
    assert os.getpid() not in found
    processes.end("WINDLASS_TEST", value)
    with contextlib.suppress(subprocess.TimeoutExpired):
        shell.communicate(timeout=10)
