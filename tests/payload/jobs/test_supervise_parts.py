"""The supervisor's parts; its whole life is in tests/control/jobs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remote.contract.job.jobs import Artifact, Cause, JobSpec, JobState, Status
from remote.contract.job.notices import Notice
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.payload import process
from remote.payload.jobs import outcome, secrets, states, supervise, supervisor
from remote.payload.jobs.outcome import Ending


@pytest.fixture
def paths(tmp_path):
    job = JobPaths(tmp_path / "jobs" / "j")
    job.folder.mkdir(parents=True)
    job.log.write_text("one\ntwo\nlast words\n")
    return job


def concluded(paths, code, was_told=False, was_cancelled=False, memory_ran_out=False):
    return outcome.conclude(
        paths,
        JobState("j", "train", Status.RUNNING),
        Ending(code, was_told, was_cancelled, memory_ran_out),
    )


@pytest.mark.parametrize(
    ("ending", "status", "cause"),
    [
        ({"code": 0}, Status.SUCCEEDED, None),
        ({"code": 0, "was_cancelled": True, "was_told": True}, Status.SUCCEEDED, None),
        ({"code": 143, "was_cancelled": True, "was_told": True}, Status.CANCELLED, Cause.CANCELLED),
        ({"code": -9, "was_cancelled": True, "was_told": True}, Status.CANCELLED, Cause.CANCELLED),
        ({"code": 143, "was_told": True}, Status.INTERRUPTED, None),
        ({"code": -15}, Status.INTERRUPTED, None),
        ({"code": 56}, Status.INTERRUPTED, None),
        ({"code": -9, "memory_ran_out": True}, Status.FAILED, Cause.OUT_OF_MEMORY),
        (
            {"code": -9, "memory_ran_out": True, "was_told": True},
            Status.FAILED,
            Cause.OUT_OF_MEMORY,
        ),
        ({"code": 1, "memory_ran_out": True}, Status.FAILED, Cause.CODE),
        ({"code": -9}, Status.FAILED, Cause.CODE),
        ({"code": -11}, Status.FAILED, Cause.CODE),
        ({"code": 51}, Status.FAILED, Cause.OUT_OF_MEMORY),
        ({"code": 53}, Status.FAILED, Cause.DISK_FULL),
        ({"code": 1}, Status.FAILED, Cause.CODE),
    ],
)
def test_how_it_ended(paths, ending, status, cause):
    state = concluded(paths, **ending)
    assert (state.status, state.cause, state.exit_code) == (status, cause, ending["code"])
    assert state.ended_at > 0 and (status is Status.SUCCEEDED or state.what)


@pytest.mark.parametrize(
    ("kind", "code", "status", "cause"),
    [
        ("spot", 143, Status.INTERRUPTED, Cause.SPOT),
        ("spot", -9, Status.INTERRUPTED, Cause.SPOT),
        ("spot", 56, Status.INTERRUPTED, Cause.SPOT),
        ("deadman", -15, Status.INTERRUPTED, Cause.DEADMAN),
        ("deadman", 0, Status.SUCCEEDED, None),
    ],
)
def test_a_notice_is_the_cause(paths, kind, code, status, cause):
    state = JobState("j", "train", Status.RUNNING)
    state = outcome.conclude(
        paths, state, Ending(code, True, False, False, Notice(kind, 9e9, "because"))
    )
    assert (state.status, state.cause) == (status, cause)
    assert status is Status.SUCCEEDED or (
        state.why == "because" and "`./inv resume`" in state.remedy
    )


def test_a_cancelled_job_is_cancelled_also_under_a_notice(paths):
    state = outcome.conclude(
        paths,
        JobState("j", "train", Status.RUNNING),
        Ending(143, True, True, False, Notice("spot", 9e9, "because")),
    )
    assert (state.status, state.cause) == (Status.CANCELLED, Cause.CANCELLED)


def test_why_in_words(paths):
    assert (
        concluded(paths, -11).why == "killed by SIGSEGV; the log ends with: one | two | last words"
    )
    assert "memory ran out" in concluded(paths, -9, memory_ran_out=True).why


def test_the_failure_file_has_the_word(paths):
    paths.failure.write_text(
        json.dumps({"cause": "xid", "what": "w", "why": "y", "remedy": "r", "kept": "k"})
    )
    state = concluded(paths, 1)
    assert (state.cause, state.what, state.why, state.remedy, state.kept) == (
        Cause.GPU_FAULT,
        "w",
        "y",
        "r",
        "k",
    )
    paths.failure.write_text("half a fi")
    assert concluded(paths, 54).cause is Cause.GPU_FAULT


def test_outputs_become_artifacts_and_values(paths):
    (paths.artifacts / "adapter").mkdir(parents=True)
    (paths.artifacts / "adapter/a").write_bytes(b"12345")
    paths.outputs.write_text(
        json.dumps({"adapter": {"path": "jobs/j/artifacts/adapter"}, "loss": {"value": 0.5}})
    )
    state = concluded(paths, 0)
    assert state.values == {"loss": 0.5}
    artifact = state.artifacts["adapter"]
    assert isinstance(artifact, Artifact) and (
        artifact.path,
        artifact.size,
        artifact.is_folder,
    ) == ("jobs/j/artifacts/adapter", 5, True)


def test_kept_is_the_newest_whole_checkpoint(paths):
    assert outcome.kept(paths) == ""
    for number, name in enumerate(("step-50", "step-100", ".step-150.partial", "step-200.tmp")):
        (paths.checkpoints / name).mkdir(parents=True)
        os.utime(paths.checkpoints / name, (number, number))
    assert outcome.kept(paths) == "checkpoint step-100"


def test_a_checkpoint_that_goes_while_it_is_looked_at(paths):
    (paths.checkpoints / "step-50").mkdir(parents=True)
    (paths.checkpoints / "step-100").symlink_to("gone")
    assert outcome.kept(paths) == "checkpoint step-50"


def test_a_signal_without_a_name_is_told_by_its_number(paths):
    assert "killed by signal 40" in concluded(paths, -40).why


def test_a_process_whose_name_is_no_text_is_known_too():
    script = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'\\xff) \\xfe', 0, 0, 0);"
        " print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert process.start_ticks(child.pid) > 0
        child.stdin.close()


def test_secrets_are_gone_before_the_end_can_be_seen(tmp_path, paths, monkeypatch):
    """Whoever sees it may start the next attempt, with secrets of its own."""
    box, seen = BoxPaths(tmp_path), []
    secrets.keep(box, "j", {"A_TOKEN": "something long"})
    monkeypatch.setattr(supervisor, "_run_stage", lambda *words: Ending(0, False, False, False))
    monkeypatch.setattr(
        states, "write_surely", lambda *words: seen.append(list(box.secrets.iterdir()))
    )
    supervisor._supervise(paths, JobSpec("j", "train", "0" * 64), sys.executable, set(), None)
    assert seen == [[]]


def test_a_supervisor_that_comes_up_late_finds_nothing_to_take_up(paths):
    with (paths.folder / ".supervisor.lock").open("w") as lock:
        for state, is_ours in (
            (JobState("j", "train"), True),
            (JobState("j", "train", Status.RUNNING, pid=1), False),
        ):
            states.write(paths, state)
            assert supervisor._take_up(paths, lock.fileno()) is is_ours


def test_a_process_is_known_by_more_than_its_pid():
    me, ticks, boot = os.getpid(), process.start_ticks(os.getpid()), process.boot_id()
    assert process.is_alive(me, ticks, boot)
    assert not process.is_alive(me, ticks + 1, boot)
    assert not process.is_alive(me, ticks, "another boot") and not process.is_alive(0, 0, boot)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.start_ticks(child.pid) == 0, "a zombie is no process"
    child.wait()
    assert process.start_ticks(child.pid) == 0
    process.signal_group(child.pid, signal.SIGTERM)
    process.signal_group(0, signal.SIGKILL)


def test_memory_kills_are_read_from_the_nearest_counter(tmp_path, monkeypatch):
    (tmp_path / "group").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    counters = [(tmp_path / name, "oom_kill") for name in ("none", "group", "vmstat")]
    monkeypatch.setattr(process, "_counters", lambda: counters)
    assert process.out_of_memory_kills() == 2
    (tmp_path / "group").unlink()
    assert process.out_of_memory_kills() == 7
    monkeypatch.undo()
    assert process.out_of_memory_kills() >= 0


def test_the_systemd_road():
    command = supervise.systemd_command(
        "run-1-train",
        Path("/home/ubuntu/windlass/releases/abc"),
        ["/usr/bin/python3", "-m", "x", "a b"],
    )
    assert command[:3] == ["sudo", "-n", "systemd-run"]
    assert command[command.index("--") + 1 :] == ["/usr/bin/python3", "-m", "x", "a b"]
    for word in (
        "--unit=windlass-job-run-1-train",
        f"--uid={os.getuid()}",
        "--collect",
        "--property=KillMode=mixed",
        "--property=TimeoutStopSec=120",
        "--property=OOMPolicy=continue",
        "--property=EnvironmentFile=-/etc/environment",
        "--setenv=PYTHONPATH=/home/ubuntu/windlass/releases/abc",
    ):
        assert word in command


def test_the_root_is_where_the_release_lies(tmp_path):
    release = tmp_path / "any root" / "releases" / ("d" * 64)
    (release / "remote/contract/job").mkdir(parents=True)
    source = Path(supervise.__file__).parents[2] / "contract"
    for name in ("__init__.py", "job/__init__.py", "job/paths.py"):
        (release / "remote/contract" / name).write_bytes((source / name).read_bytes())
    script = "from remote.contract.job.paths import BoxPaths; print(BoxPaths.of_release().root)"
    words = [sys.executable, "-c", script]
    answer = subprocess.run(
        words,
        cwd=release,
        env={"PYTHONPATH": str(release)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == str(tmp_path / "any root")
    assert BoxPaths.of_release() == BoxPaths.of_home(), "this checkout is no release"
