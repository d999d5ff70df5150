"""Why a job ended, as it is recorded: by what the kernel said, on a full disk, with a secret in its
words, and on the box's timeline."""

import contextlib
import json
import os
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry import timeline
from remote.control.errors import JobFailed
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.jobs.state import read_state
from remote.payload.telemetry import kernel
from remote.payload.transfer.upload import cargo_of
from tests.integration import boxes
from tests.integration.boxes import FakeTransport, await_true, spec

ROOT = "windlass"
XID = "NVRM: Xid (PCI:0000:3b:00): {}, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


@pytest.fixture
def said(box, tmp_path, monkeypatch):
    """What the box's kernel says from now on: a function that has it say a line."""
    path = tmp_path / "kernel.log"
    path.write_text("2020-01-01T00:00:00+00:00 Out of memory: Killed process 1 (long ago)\n")
    box._environment[kernel.STAND_IN] = str(path)

    def say(line):
        with path.open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat()} {line}\n")

    return say


@pytest.fixture
def ended(box):
    """The final state of a job."""

    def wait(job_id="job-1"):
        await_true(lambda: read_state(box, ROOT, job_id).status.is_final)
        return read_state(box, ROOT, job_id)

    return wait


@pytest.fixture
def paths(box):
    return BoxPaths(box.home / ROOT).job("job-1")


def kill_stage(paths):
    await_true(lambda: paths.log.exists() and "worker" in paths.log.read_text())
    pid = json.loads((paths.folder / "stage.json").read_text())["pid"]
    return pid, lambda: os.kill(pid, signal.SIGKILL)


def test_the_kernels_word_that_it_killed_the_stage_for_memory_is_enough(
    box, digest, said, paths, ended
):
    start(box, ROOT, spec(digest, "endless"))
    pid, kill = kill_stage(paths)
    said(f"Out of memory: Killed process {pid} (python3) total-vm:9000kB")
    kill()
    state = ended()
    assert (state.status, state.cause) == (Status.FAILED, Cause.OUT_OF_MEMORY)
    assert (
        "because the box's memory ran out" in state.why
        and f"Killed process {pid} " in state.why
        and "long ago" not in state.why
    )
    assert "a larger box" in state.remedy


def test_a_kill_of_another_process_for_memory_is_told_but_is_no_cause(
    box, digest, said, paths, ended
):
    start(box, ROOT, spec(digest, "endless"))
    _, kill = kill_stage(paths)
    said("Out of memory: Killed process 1 (systemd) total-vm:9000kB")
    kill()
    state = ended()
    assert (
        state.cause is Cause.CODE
        and "meanwhile the kernel said: Out of memory: Killed process 1 " in state.why
    )


@pytest.fixture
def pen(tmp_path):
    """A control group that may use 64 MB, as the kernel makes it here: version 1 or 2."""
    lines = dict(
        line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()
    )
    parent = (
        Path(f"/sys/fs/cgroup/memory{lines['memory']}")
        if "memory" in lines
        else Path(f"/sys/fs/cgroup{lines.get('', '/')}")
    )
    pen = parent / f"windlass-test-{os.getpid()}"
    try:
        pen.mkdir()
        limit = next(
            pen / name for name in ("memory.limit_in_bytes", "memory.max") if (pen / name).exists()
        )
        limit.write_text(str(64 * 1024 * 1024))
    except (OSError, StopIteration):
        pytest.skip("needs the right to make a control group for memory")
    yield pen
    await_true(lambda: not (pen / "cgroup.procs").read_text())
    pen.rmdir()


def test_a_stage_that_the_kernel_ends_for_memory_ran_out_of_memory(box, digest, paths, ended, pen):
    state = start(box, ROOT, spec(digest, "hungry"))
    stage = json.loads((paths.folder / "stage.json").read_text())["pid"]
    for pid in (state.pid, stage):
        (pen / "cgroup.procs").write_text(str(pid))
    (paths.folder / "go").touch()
    state = ended()
    assert (state.cause, state.exit_code) == (Cause.OUT_OF_MEMORY, -signal.SIGKILL)
    assert "because the box's memory ran out" in state.why and "a larger box" in state.remedy


@pytest.mark.parametrize(
    ("number", "cause", "remedy"),
    [(79, Cause.GPU_FAULT, "other hardware"), (31, Cause.CODE, "`./inv logs`")],
)
def test_an_xid_of_the_card_is_the_cause_one_of_the_program_is_told(
    box, digest, said, ended, number, cause, remedy
):
    start(box, ROOT, spec(digest, "failing", how="bug in a while"))
    said(XID.format(number))
    state = ended()
    assert (state.cause, state.cause.exit_code) == (
        cause,
        {79: Exit.GPU_FAULT, 31: Exit.JOB_FAILED}[number],
    )
    assert f"Xid (PCI:0000:3b:00): {number}" in state.why and remedy in state.remedy


def test_an_xid_is_nothing_to_a_job_that_succeeds(box, digest, said, ended):
    start(box, ROOT, spec(digest, "count", lines=3, pause=0.2))
    said(XID.format(79))
    assert (ended().status, ended().why) == (Status.SUCCEEDED, "")


def test_what_happens_to_a_job_stands_on_the_timeline(box, digest, ended):
    start(box, ROOT, spec(digest, "count"))
    ended()
    start(box, ROOT, spec(digest, "failing", "job-2", how="told"))
    ended("job-2")
    events = [
        event
        for event in timeline.read(BoxPaths(box.home / ROOT).timeline)
        if event.source == "job"
    ]
    assert [(event.job, event.level, event.text) for event in events] == [
        ("job-1", "info", "count began"),
        ("job-1", "info", "count is SUCCEEDED"),
        ("job-2", "info", "failing began"),
        ("job-2", "warning", "failing is FAILED (nan): the loss is not a number"),
    ]


def test_a_secret_reaches_the_stage_and_nothing_else(box, digest, paths, ended):
    token = "s3cr3t-value-of-a-token"
    start(box, ROOT, spec(digest, "telling"), secrets={"TOKEN": token})
    state = ended()
    assert (state.cause, state.why) == (Cause.DATA, "with ***")
    assert "the token is ***" in paths.log.read_text()
    await_true(lambda: not any((box.home / ROOT / "secrets").iterdir()))
    kept = [
        path
        for path in (box.home / ROOT).rglob("*")
        if path.is_file() and token.encode() in path.read_bytes()
    ]
    assert kept == []
    assert token not in "".join(box.commands)


def test_while_a_job_runs_its_secrets_are_in_the_surroundings_of_its_stage_alone(
    box, digest, paths, ended
):
    token = f"s3cr3t-value-{os.getpid()}"
    start(box, ROOT, spec(digest, "telling", patient=True), secrets={"TOKEN": token})
    await_true(lambda: paths.log.exists() and "***" in paths.log.read_text())
    await_true(lambda: BoxPaths(box.home / ROOT).telemetry.exists())
    stage = json.loads((paths.folder / "stage.json").read_text())["pid"]
    assert read_state(box, ROOT, "job-1").status is Status.RUNNING
    assert processes_with(token, "cmdline") == set()
    assert processes_with(token, "environ") == {stage}
    root = box.home / ROOT
    holding = {
        path.relative_to(root)
        for path in root.rglob("*")
        if path.is_file() and token.encode() in path.read_bytes()
    }
    assert holding == {Path("secrets/job-1")}
    cargo = cargo_of(BoxPaths(root), paths, "bucket")
    assert token.encode() not in b"".join(
        [*cargo.records.values(), *(path.read_bytes() for path in cargo.files.values())]
    )
    (paths.folder / "go").touch()
    assert ended().cause is Cause.DATA and processes_with(token, "environ") == set()


def test_a_supervisor_and_what_it_starts_have_nothing_of_who_started_it(code, tmp_path):
    token = f"t0ken-of-the-login-{os.getpid()}"
    box = FakeTransport(
        tmp_path / "home", environment={"HF_TOKEN": token, "MY_OWN": token, "OMP_NUM_THREADS": "1"}
    )
    digest = boxes.deploy_stages(box, code)
    paths = BoxPaths(box.home / ROOT).job("job-1")
    start(box, ROOT, spec(digest, "telling", patient=True), secrets={"TOKEN": "s3cr3t-value"})
    await_true(
        lambda: (
            (paths.folder / "stage.json").exists() and BoxPaths(box.home / ROOT).telemetry.exists()
        )
    )
    stage = json.loads((paths.folder / "stage.json").read_text())["pid"]
    assert processes_with(token, "environ") == set()
    assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{stage}/environ").read_bytes()
    (paths.folder / "go").touch()
    await_true(lambda: read_state(box, ROOT, "job-1").status.is_final)


def processes_with(value, place):
    """Every process of this machine that has the value in its arguments or its surroundings."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if value.encode() in (process / place).read_bytes():
                found.add(int(process.name))
    return found


# ---- a full disk ----


@pytest.fixture
def small(tmp_path, code):
    """A box whose disk has room for a release and little more."""
    home = tmp_path / "small"
    home.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(home)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    box = boxes.folder_box(home)
    yield box, boxes.deploy_stages(box, code)
    subprocess.run(
        ["umount", "-l", str(home)], check=True
    )  # the sampler looks at it for some seconds more


def filled(home):
    """Leave not a byte free."""
    with (home / "filling").open("wb", buffering=0) as filling:
        for size in (65536, 4096, 1):
            try:
                while True:
                    filling.write(bytes(size))
            except OSError:
                continue


def test_a_job_that_fills_the_disk_is_recorded_as_what_it_is(small):
    box, release = small
    start(box, ROOT, spec(release, "hoarding"))
    await_true(lambda: read_state(box, ROOT, "job-1").status.is_final)
    state = read_state(box, ROOT, "job-1")
    assert (state.status, state.cause, state.exit_code) == (
        Status.FAILED,
        Cause.DISK_FULL,
        Exit.DISK_FULL,
    )
    assert "df -h" in state.remedy or "free space" in state.remedy


def test_a_disk_that_fills_under_a_job_cannot_destroy_its_state(small):
    box, release = small
    started = start(box, ROOT, spec(release, "endless"))
    paths = BoxPaths(box.home / ROOT).job("job-1")
    await_true(lambda: "worker" in paths.log.read_text())
    filled(box.home)
    os.kill(json.loads((paths.folder / "stage.json").read_text())["pid"], signal.SIGSEGV)
    await_true(lambda: json.loads(paths.state.read_text())["status"] == "FAILED")
    state = read_state(box, ROOT, "job-1")
    assert (state.pid, state.cause, state.exit_code) == (
        started.pid,
        Cause.DISK_FULL,
        -signal.SIGSEGV,
    )
    (box.home / "filling").unlink()


def test_on_a_full_disk_nothing_is_started_and_that_is_said(small):
    box, release = small
    filled(box.home)
    with pytest.raises(JobFailed, match="the box's disk is full") as caught:
        start(box, ROOT, spec(release, "count"))
    assert caught.value.cause is Cause.DISK_FULL and "df -h" in caught.value.remedy
    (box.home / "filling").unlink()
    start(box, ROOT, spec(release, "count"))
    await_true(lambda: read_state(box, ROOT, "job-1").status is Status.SUCCEEDED)


def test_a_job_cancelled_on_a_full_disk_is_cancelled(small):
    box, release = small
    start(box, ROOT, spec(release, "endless", stubborn=True))
    await_true(lambda: "worker" in BoxPaths(box.home / ROOT).job("job-1").log.read_text())
    filled(box.home)
    state = cancel(box, ROOT, "job-1", 0.2)
    assert (state.status, state.exit_code) == (Status.CANCELLED, -signal.SIGKILL), (
        "after the patience that was asked for"
    )
