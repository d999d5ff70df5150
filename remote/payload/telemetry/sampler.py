"""Samples what the box has to do while jobs run on it, and notes on its timeline what an on-call
wants to know. Standard library only.

`python3 -m remote.payload.telemetry.sampler ROOT STARTER`: one samples, others wait in line, so
that another goes on should the first be killed with the job that started it. It ends by itself some
seconds after the last job has ended; one that waits, with the process that started it.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry import timeline
from remote.contract.telemetry.samples import Sample
from remote.payload.identity import Identity
from remote.payload.jobs import secrets
from remote.payload.telemetry import kernel
from remote.payload.telemetry.meter import Meter
from remote.payload.watchdog import activity

EVERY_SECONDS = 2.0
LINGER_SECONDS = 6.0
"""How long it goes on when no job runs: what a job's end brings, such as a line of the kernel,
comes a little later."""

_FIRST_SECONDS = 0.2
_KERNEL_SECONDS = 30.0
_SAME_SECONDS = 0.001
"""The time of a line of the kernel is worked out anew at each look, and comes out that exactly."""
_OVER_SECONDS = 60.0
_LOG_BYTES = 64 * 1024
_RELEASE = Path(__file__).resolve().parents[3]


def ensure(root: Path) -> None:
    """Have the box under `root` sampled while jobs run. Returns at once, changes nothing where it
    is sampled already, and never raises: a job runs without its curves rather than not at all."""
    with (
        contextlib.suppress(OSError, subprocess.SubprocessError),
        (root / "sampler.log").open("ab") as log,
    ):
        if log.tell() > _LOG_BYTES:
            log.truncate(0)
        # By way of a shell, which ends at once: the job's supervisor is nobody's parent but the
        # stage's.
        subprocess.run(
            [
                "/bin/sh",
                "-c",
                '"$@" &',
                "sh",
                sys.executable,
                "-m",
                "remote.payload.telemetry.sampler",
                str(root),
                str(os.getpid()),
            ],
            check=False,
            timeout=10,
            cwd=_RELEASE,
            env={**os.environ, "PYTHONPATH": str(_RELEASE)},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def main() -> None:
    """The command line."""
    signal.pthread_sigmask(
        signal.SIG_SETMASK, []
    )  # a supervisor that waits for signals has blocked them, and they are handed down
    os.nice(5)
    root, starter = Path(sys.argv[1]).resolve(), Identity.of(int(sys.argv[2]))
    with (root / ".sampler.lock").open("w") as lock:
        if _take_turn(lock.fileno(), starter):
            sample(root)
    os._exit(0)  # a driver that hangs holds the thread that asks it


def _take_turn(lock: int, starter: Identity) -> bool:
    """Take the lock; False where that takes longer than the starter lives: of many jobs, one after
    the other, none leaves one waiting."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not starter.lives():
                return False
        time.sleep(EVERY_SECONDS / 2)


def sample(root: Path) -> None:
    """Sample until no job has run for LINGER_SECONDS, or the root is gone."""
    meter, observer = Meter(root, EVERY_SECONDS), Observer(root)
    quiet_from = time.monotonic()
    time.sleep(_FIRST_SECONDS)
    while root.is_dir():
        with contextlib.suppress(FileNotFoundError):
            taken = meter.sample()
            telemetry.append(BoxPaths(root).telemetry, taken)
            observer.observe(taken, meter.is_gpu_silent)
        if activity.jobs(root):
            quiet_from = time.monotonic()
        elif time.monotonic() - quiet_from >= LINGER_SECONDS:
            observer.listen()
            secrets.forget_stale(BoxPaths(root))
            return
        time.sleep(EVERY_SECONDS)


class Observer:
    """Notes on the timeline what begins and what ends, each once."""

    def __init__(self, root: Path) -> None:
        self._root, self._path = root, BoxPaths(root).timeline
        self._standing: dict[str, tuple[str, str, float]] = {}
        self._errors: dict[int, int] = {}
        self._heard = self._last_heard()
        self._listened_at = -float("inf")

    def observe(self, taken: Sample, gpu_silent: bool) -> None:
        """Note what changed since the sample before."""
        now = time.monotonic()
        for name, source, text in _alarms(taken, gpu_silent):
            if name not in self._standing:
                self._note(source, text)
            self._standing[name] = source, text, now
        # Not at once: what comes and goes with every step, such as heat, is one thing that lasts.
        for name in [
            name for name, (_, _, seen) in self._standing.items() if now - seen > _OVER_SECONDS
        ]:
            source, text, _ = self._standing.pop(name)
            self._note(source, f"over: {text}", "info")
        self._count_errors(taken)
        if time.monotonic() - self._listened_at >= _KERNEL_SECONDS:
            self.listen()

    def listen(self) -> None:
        """Note what the kernel said since it was heard last."""
        self._listened_at = time.monotonic()
        booted = _booted_at()
        for moment, text in kernel.lines(self._heard + booted):
            if moment - booted > self._heard + _SAME_SECONDS:
                self._heard = moment - booted
                if kind := kernel.classify(text):
                    timeline.append(
                        self._path,
                        timeline.Event(
                            moment, "kernel", "error" if kind in _GRAVE else "warning", text
                        ),
                    )

    def _last_heard(self) -> float:
        """How long after the boot the kernel said the newest line that an earlier sampler noted, or
        that is too old to be noted now. By a clock that nobody sets: after the time of day was set
        back, new lines would pass for old ones.
        """
        now = time.time()
        told = [
            event.time
            for event in timeline.read(self._path)
            if event.source == "kernel" and event.time <= now + _KERNEL_SECONDS
        ]
        return max([now - _KERNEL_SECONDS, *told]) - _booted_at()

    def _count_errors(self, taken: Sample) -> None:
        for gpu in taken.gpus:
            if gpu.ecc_errors is not None:
                before = self._errors.get(gpu.index, gpu.ecc_errors)
                if gpu.ecc_errors > before:
                    self._note(
                        "gpu",
                        f"GPU {gpu.index}: {gpu.ecc_errors - before} memory errors that ECC could"
                        " not correct",
                        "error",
                    )
                self._errors[gpu.index] = gpu.ecc_errors

    def _note(self, source: str, text: str, level: str = "warning") -> None:
        timeline.append(self._path, timeline.Event(time.time(), source, level, text))


def _booted_at() -> float:
    return time.time() - time.monotonic()


_GRAVE = {kernel.XID, kernel.OUT_OF_MEMORY, kernel.HARDWARE, kernel.DISK}
_HOT_CELSIUS = 90.0
_FULL_SHARE, _FULL_GB = 0.02, 2.0


def _alarms(taken: Sample, gpu_silent: bool) -> Iterator[tuple[str, str, str]]:
    """What is wrong just now: a name for it, its source, and words."""
    if gpu_silent:
        yield "silent", "gpu", "the GPU's driver does not answer"
    for gpu in taken.gpus:
        if gpu.slowed:
            yield f"slowed {gpu.index}", "gpu", f"GPU {gpu.index} is slowed down: {gpu.slowed}"
        if gpu.celsius is not None and gpu.celsius >= _HOT_CELSIUS:
            yield (
                f"hot {gpu.index}",
                "gpu",
                f"GPU {gpu.index} is at {gpu.celsius:.0f} degrees Celsius",
            )
    if taken.disk_free_gb < min(_FULL_GB, _FULL_SHARE * taken.disk_total_gb):
        yield (
            "disk",
            "windlass",
            (
                f"the disk is nearly full: {taken.disk_free_gb:.1f} GB of {taken.disk_total_gb:.0f}"
                " GB are free"
            ),
        )
    if taken.memory_gb > (1 - _FULL_SHARE) * taken.memory_total_gb:
        yield (
            "memory",
            "windlass",
            (
                f"memory is nearly full: {taken.memory_gb:.1f} GB of {taken.memory_total_gb:.1f} GB"
                " are taken"
            ),
        )


if __name__ == "__main__":
    main()
