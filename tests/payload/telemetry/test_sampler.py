"""The sampler: a process of its own, one a box, that ends with the jobs."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remote.contract.job.jobs import JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry import timeline
from remote.contract.telemetry.samples import Gpu, Sample
from remote.payload import process
from remote.payload.jobs import secrets
from remote.payload.telemetry import sampler
from remote.payload.telemetry.meter import Meter
from remote.payload.telemetry.sampler import Observer


@pytest.fixture
def root(tmp_path, monkeypatch):
    kernel_log = tmp_path / "kernel.log"
    kernel_log.touch()
    monkeypatch.setenv(
        "WINDLASS_KERNEL_LOG", str(kernel_log)
    )  # this machine's own may tell of anything
    yield tmp_path
    for pid in samplers(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def job(root):
    """What looks like a running job on the box: its supervisor is a sleeper."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        paths = BoxPaths(root).job("job-1")
        paths.folder.mkdir(parents=True)
        state = JobState(
            "job-1",
            "count",
            Status.RUNNING,
            sleeper.pid,
            process.start_ticks(sleeper.pid),
            process.boot_id(),
            time.time(),
        )
        paths.state.write_text(state.to_json())
        yield sleeper
        sleeper.kill()


def samplers(root):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"remote.payload.telemetry.sampler" in words and str(root).encode() in words:
                found.append(int(path.parent.name))
    return found


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_one_samples_while_a_job_runs_and_another_goes_on_when_it_is_killed(root, job):
    sampler.ensure(root)
    first = until(lambda: samplers(root))
    until(lambda: telemetry.read(BoxPaths(root).telemetry))
    sampler.ensure(root)
    both = until(lambda: len(samplers(root)) == 2 and samplers(root))
    assert not set(both) & set(_children()), "it is a child of whoever asked for it"
    os.kill(first[0], signal.SIGKILL)
    before = len(telemetry.read(BoxPaths(root).telemetry))
    until(lambda: len(telemetry.read(BoxPaths(root).telemetry)) > before)
    secrets.keep(BoxPaths(root), "job-1", {"HF_TOKEN": "hf_secret"})
    job.kill()
    job.wait()
    until(lambda: not samplers(root))
    assert secrets.of_job(BoxPaths(root), "job-1") == {}


def test_one_that_waits_ends_with_who_started_it(root, job):
    sampler.ensure(root)
    first = until(lambda: samplers(root))
    until(lambda: telemetry.read(BoxPaths(root).telemetry))
    script = "import time; from pathlib import Path; from remote.payload.telemetry import sampler\n"
    script += f"sampler.ensure(Path({str(root)!r})); time.sleep(0.5)"
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
    until(lambda: samplers(root) == first)


def _children():
    return [
        int(pid)
        for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    ]


def test_it_takes_signals_though_its_starter_has_blocked_them(root, job):
    script = (
        "import signal; from pathlib import Path; from remote.payload.telemetry import sampler\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        f"sampler.ensure(Path({str(root)!r}))"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    (pid,) = until(lambda: samplers(root))
    until(lambda: telemetry.read(BoxPaths(root).telemetry))
    os.kill(pid, signal.SIGTERM)
    until(lambda: not samplers(root))


def test_a_root_that_is_not_there_is_no_reason_to_fail(tmp_path):
    sampler.ensure(tmp_path / "gone")


def test_a_meter_counts_rates_since_the_sample_before(tmp_path):
    meter = Meter(tmp_path, 1.0)
    (tmp_path / "ballast").write_bytes(b"x" * 1000)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        pass
    sample = meter.sample()
    assert (
        0 < sample.cpu <= 1
        and 0 < sample.memory_gb < sample.memory_total_gb
        and 0 < sample.disk_free_gb < sample.disk_total_gb
    )
    assert (
        min(sample.received, sample.sent, sample.disk_read, sample.disk_written) >= 0
        and sample.gpus == []
    )


def sample_of(celsius=50.0, slowed="", errors=0, free=50.0, memory=4.0):
    return Sample(
        time.time(),
        0.1,
        memory,
        16.0,
        free,
        100.0,
        gpus=[Gpu(0, "A10G", 0.9, 1, 24, 250, celsius, slowed, errors)],
    )


def noted(root):
    return [
        (event.source, event.level, event.text) for event in timeline.read(BoxPaths(root).timeline)
    ]


def test_what_begins_is_noted_once_and_its_end_once_it_lasts(root, monkeypatch):
    observer = Observer(root)
    for _ in range(3):
        observer.observe(
            sample_of(celsius=93.0, slowed="heat", free=1.0, memory=15.9), gpu_silent=False
        )
    texts = [text for _, _, text in noted(root)]
    assert (
        len(texts) == 4
        and "GPU 0 is slowed down: heat" in texts
        and "GPU 0 is at 93 degrees Celsius" in texts
    )
    observer.observe(sample_of(), gpu_silent=False)
    assert len(noted(root)) == 4, "what flickers is not over yet"
    monkeypatch.setattr(sampler, "_OVER_SECONDS", 0.0)
    observer.observe(sample_of(), gpu_silent=True)
    told = noted(root)
    assert ("gpu", "warning", "the GPU's driver does not answer") in told and (
        "gpu",
        "info",
        "over: GPU 0 is slowed down: heat",
    ) in told


def test_errors_of_the_memory_are_counted_from_the_first_sample(root):
    observer = Observer(root)
    for errors in (5, 5, 7, 7):
        observer.observe(sample_of(errors=errors), gpu_silent=False)
    assert noted(root) == [("gpu", "error", "GPU 0: 2 memory errors that ECC could not correct")]


def test_what_the_kernel_says_after_the_clock_was_set_back_is_noted_too(
    root, tmp_path, monkeypatch
):
    log = tmp_path / "kernel"
    monkeypatch.setenv("WINDLASS_KERNEL_LOG", str(log))
    lines = [(time.time() - 2, "NVRM: Xid (PCI:0000:00:1e): 31, first")]

    def said(back):
        """As the kernel tells it: times are worked out from how long after the boot it was."""
        stamps = [datetime.fromtimestamp(moment - back, UTC).isoformat() for moment, _ in lines]
        log.write_text(
            "".join(f"{stamp} {text}\n" for stamp, (_, text) in zip(stamps, lines, strict=True))
        )

    said(0)
    observer = Observer(root)
    observer.listen()
    monkeypatch.setattr(time, "time", lambda real=time.time: real() - 3600)
    lines.append((time.time() + 3600, "NVRM: Xid (PCI:0000:00:1e): 79, second"))
    said(3600)
    observer.listen()
    observer.listen()
    assert [text[-6:].strip() for _, _, text in noted(root)] == ["first", "second"]
    Observer(root).listen()
    assert len(noted(root)) == 2


def test_what_the_kernel_said_is_noted_once_over_two_samplers(root, tmp_path, monkeypatch):
    log = tmp_path / "kernel"
    monkeypatch.setenv("WINDLASS_KERNEL_LOG", str(log))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    log.write_text(
        "2020-01-01T00:00:00,000000+00:00 NVRM: Xid (PCI:0000:00:1e): 79, of an earlier life\n"
        f"{stamp},500000+00:00 NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus.\n"
        f"{stamp},600000+00:00 usb 1-1: new device\n"
    )
    for _ in range(2):
        Observer(root).listen()
    assert noted(root) == [
        ("kernel", "error", "NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus.")
    ]
