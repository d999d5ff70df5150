"""What goes on, seen in real processes, connections and files."""

import json
import os
import socket
import subprocess
import sys

import pytest

from remote.payload import process
from remote.payload.watchdog import activity


def record(root, name, **changes):
    folder = root / "jobs" / name
    folder.mkdir(parents=True)
    state = {
        "job_id": name,
        "stage": "train",
        "status": "RUNNING",
        "pid": os.getpid(),
        "start_ticks": process.start_ticks(os.getpid()),
        "boot_id": process.boot_id(),
        "a key of tomorrow": 1,
    }
    (folder / "state.json").write_text(json.dumps({**state, **changes}))
    return folder


def test_a_job_runs_while_its_supervisor_lives(tmp_path):
    record(tmp_path, "lives")
    record(tmp_path, "ended", status="SUCCEEDED")
    record(tmp_path, "reused-pid", start_ticks=1)
    record(tmp_path, "before-the-reboot", boot_id="another")
    (record(tmp_path, "half-written") / "state.json").write_text('{"status": "RUN')
    (tmp_path / "jobs" / "empty").mkdir()
    assert [job.id for job in activity.jobs(tmp_path)] == ["lives"]
    assert activity.jobs(tmp_path / "nowhere") == []


def test_a_job_that_waits_in_line_keeps_the_box_up_and_is_never_stuck(tmp_path):
    record(tmp_path, "waits", status="PENDING")
    record(tmp_path, "never-started", status="PENDING", pid=0)
    (first,) = activity.jobs(tmp_path)
    (second,) = activity.jobs(tmp_path)
    assert first.id == "waits" and first.sign != second.sign


@pytest.mark.parametrize("place", ["log", "metrics.jsonl", "checkpoints/step-1"])
def test_log_metrics_and_checkpoints_are_signs_of_life(tmp_path, place):
    folder = record(tmp_path, "job")
    (folder / "checkpoints").mkdir()
    for name in ("log", "metrics.jsonl"):
        (folder / name).touch()

    def sign():
        (job,) = activity.jobs(tmp_path)
        return job.sign

    before = sign()
    assert sign() == before
    (folder / place).write_text("more")
    os.utime(
        folder / place, ns=(0, 10**18)
    )  # the clock may have been set back since the others changed
    assert sign() != before


def test_established_connections_to_the_ssh_port_are_sessions():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert len(activity.ssh_sessions(port)) == 0
        with socket.create_connection(("127.0.0.1", port)) as client:
            there, _ = server.accept()
            assert len(activity.ssh_sessions(port)) == 1
            assert len(activity.ssh_sessions(port, "127.0.0.1")) == 1
            assert len(activity.ssh_sessions(port, "127.9.9.9")) == 0
            assert (
                len(activity.ssh_sessions(port, "10.0.0.5")) == 1
            )  # a box's own address is no reason to overlook its others
            assert len(activity.ssh_sessions(client.getsockname()[1])) == 1
            there.close()


def stand_in(folder, monkeypatch, body):
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!{sys.executable}\n{body}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    "body, percent",
    [
        ("print('3\\n97')", 97),
        ("print('[N/A]')", 0),
        ("raise SystemExit(9)", 0),
        ("import time; time.sleep(60)", 0),
    ],
)
def test_the_busiest_gpu_counts_and_a_driver_that_hangs_does_not(
    tmp_path, monkeypatch, body, percent
):
    monkeypatch.setattr(activity, "_GPU_SECONDS", 1.0)
    stand_in(tmp_path, monkeypatch, body)
    assert activity.gpu_percent() == percent


def test_without_a_driver_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert activity.gpu_percent() == 0


def test_in_words(tmp_path):
    record(tmp_path, "train-1")
    assert activity.describe(activity.jobs(tmp_path), 2, 50) == [
        "job train-1",
        "2 SSH sessions",
        "GPU 50 %",
    ]
    assert activity.describe([], 1, 4) == ["1 SSH session"]
    assert activity.describe([], 0, 0) == []


def test_it_reads_a_real_supervisors_record(tmp_path):
    """The keys are those of JobState."""
    from remote.contract.job.jobs import JobState, Status

    child = subprocess.Popen(["sleep", "60"])
    try:
        folder = tmp_path / "jobs" / "real"
        folder.mkdir(parents=True)
        state = JobState(
            "real",
            "train",
            Status.RUNNING,
            child.pid,
            process.start_ticks(child.pid),
            process.boot_id(),
        )
        (folder / "state.json").write_text(state.to_json())
        assert [(job.id, job.stage, job.pid) for job in activity.jobs(tmp_path)] == [
            ("real", "train", child.pid)
        ]
    finally:
        child.kill()
        child.wait()
    assert activity.jobs(tmp_path) == []
