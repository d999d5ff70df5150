"""Following a log: how late a line is, how many bytes a second, and how soon it goes on after the
link was away."""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from remote.contract.job.jobs import JobSpec, JobState, Status
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.logs.follow import OnText, follow
from remote.control.transport.over_ssh import SshTransport
from remote.control.transport.push.release import build_release, deploy
from rope.contest import Contestant, Row, Terms, compete
from rope.ground import Ground
from tests.integration import boxes
from tests.integration.boxes import each_line
from tests.integration.links import Wire

LINES, EARLY_LINES, PAUSE_SECONDS, POLL_SECONDS = 400, 100, 0.02, 0.5
"""The early lines were said before a follower was there: they count for nobody."""
FLOOD_BYTES = 60_000_000
"""Less than a part of a log, so that `tail -F` meets no rotation."""
DROP_SECONDS, DEAD_AFTER_SECONDS, DROPS = (4.0, 12.0), 2.0, 5
LATER_SECONDS = 0.23
"""Each drop lasts so much longer than the one before: the link comes back at another moment between
two attempts."""
STAGES = {
    "ticks": (
        """
        import time
        for number in range(int(job.option("lines"))):
            print(f"tick {number} {time.time_ns()}", flush=True)
            time.sleep(float(job.option("pause")))
    """
    ),
    "flood": (
        """
        import os, time
        os.write(1, b"began at %d\\n" % time.time_ns())
        line = b"%09d a line as a trainer says it, loss 0.1234 and the rate 1e-5, "
        line += b"a hundred bytes long or so; not more......\\n"
        size, sent, number = int(job.option("size")), 0, 0
        while sent < size:
            piece = b"".join(line % (number + each) for each in range(500))
            number += 500
            os.write(1, piece)
            sent += len(piece)
    """
    ),
}


class Jobs:
    """Jobs on the ground's box, and those who follow them."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._count = 0
        code = boxes.code_tree(ground.folder / "stages")
        for name, body in STAGES.items():
            boxes.write_stage(code, name, body)
        ground.mark(code, "windlass")
        self._release = build_release([], code)
        with ground.transport() as transport:
            deploy(transport, "windlass", self._release, lambda line: None)

    def start(self, stage: str, **options: object) -> str:
        """Start a job; its id."""
        self._count += 1
        job_id = f"{stage}-{self._count}"
        with self.ground.transport() as transport:
            start(
                transport,
                "windlass",
                JobSpec(
                    job_id, stage, self._release.digest, environment=None, options=dict(options)
                ),
            )
        return job_id

    def cancel(self, job_id: str) -> None:
        """End a job."""
        with self.ground.transport() as transport:
            cancel(transport, "windlass", job_id, 1)

    def log(self, job_id: str) -> Path:
        """The job's log on the box."""
        return self.ground.home / "windlass/jobs" / job_id / "log"

    def follow(
        self, job_id: str, on_log: OnText, open_box: Callable[[], SshTransport] | None = None
    ) -> JobState:
        """Follow it to its end with a mirror of its own."""
        folder = self.ground.folder / "followed" / job_id / "logs"
        silent: Callable[[object], None] = lambda _: None  # noqa: E731
        return follow(
            open_box or self.ground.transport,
            "windlass",
            job_id,
            folder / "job.log",
            folder / "job.metrics",
            on_log,
            silent,
        )


def latency(ground: Ground, terms: Terms) -> Iterator[Row]:
    """Two rows: the median and the 99th percentile of how late a line is."""
    jobs, taken = Jobs(ground), dict[str, list[float]]()
    followers: dict[str, Callable[[str, list[float]], None]] = {
        "logs -f": _ours(jobs),
        "`ssh tail -F`": _tail(jobs),
        "polling each 0.5 s": _poll(jobs),
    }
    for name, follower in followers.items():
        late: list[float] = []
        follower(jobs.start("ticks", lines=LINES, pause=PAUSE_SECONDS), late)
        taken[name] = late[EARLY_LINES:]
        print(
            f"  latency, {ground.title}: {name} p50 {_at(taken[name], 50):.4f} s, p99"
            f" {_at(taken[name], 99):.4f} s",
            file=sys.stderr,
        )
    floor = max(ground.rtt / 2, 0.001)
    for share, goal in ((50, "–"), (99, "≤ RTT + 50 ms")):
        samples = {name: [_at(late, share)] * 5 for name, late in taken.items()}
        yield Row(
            f"log line, p{share} of {LINES - EARLY_LINES}, {1 / PAUSE_SECONDS:.0f} a second",
            ground.title,
            floor,
            goal,
            lambda mine, best, floor: mine <= ground.rtt + 0.05,
            samples,
            ["logs -f"],
        )


def _at(taken: list[float], share: int) -> float:
    return statistics.quantiles(taken, n=100)[share - 1]


def _late(line: str) -> float:
    return (time.time_ns() - int(line.split()[2])) / 1e9


def _ours(jobs: Jobs) -> Callable[[str, list[float]], None]:
    return lambda job_id, late: _checked(
        jobs.follow(job_id, each_line(lambda line: late.append(_late(line))))
    )


def _checked(state: JobState) -> None:
    assert state.status is Status.SUCCEEDED, state


def _tail(jobs: Jobs) -> Callable[[str, list[float]], None]:
    def take(job_id: str, late: list[float]) -> None:
        words = [*jobs.ground.ssh, "box", f"tail -n +1 -F {jobs.log(job_id)} 2>/dev/null"]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                late.append(_late(line))
                if len(late) == LINES:
                    break
            process.kill()

    return take


def _poll(jobs: Jobs) -> Callable[[str, list[float]], None]:
    def take(job_id: str, late: list[float]) -> None:
        at = 0
        with jobs.ground.transport() as transport:
            while len(late) < LINES:
                said = transport.exec(f"tail -c +{at + 1} {jobs.log(job_id)}").stdout
                whole = said[: said.rfind(b"\n") + 1]
                at += len(whole)
                late += [_late(line) for line in whole.decode().splitlines()]
                time.sleep(POLL_SECONDS)

    return take


def flood(ground: Ground, terms: Terms) -> Iterator[Row]:
    """How fast a log comes that is written as fast as a stage can: from its first line on the box,
    which tells when, to its last here."""
    jobs = Jobs(ground)

    def ours() -> float:
        first: list[str] = []
        job_id = jobs.start("flood", size=FLOOD_BYTES)
        _checked(jobs.follow(job_id, lambda text: None if first else first.append(text)))
        return _late(first[0])

    def tail() -> float:
        words = [
            *jobs.ground.ssh,
            "box",
            f"tail -c +1 -F {jobs.log(jobs.start('flood', size=FLOOD_BYTES))} 2>/dev/null",
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            first, left = process.stdout.readline(), FLOOD_BYTES
            while left > 0:
                left -= len(process.stdout.read1(1 << 20))  # type: ignore[attr-defined]
            process.kill()
        return _late(first.decode())

    contestants = [
        Contestant("logs -f", lambda _: ours(), ours=True),
        Contestant("`ssh tail -F`", lambda _: tail()),
    ]
    samples = compete(f"log of {FLOOD_BYTES / 1e6:.0f} MB, {ground.title}", contestants, terms)
    limit = FLOOD_BYTES / 50e6
    goal = "≥ 50 MB/s" if ground.rtt == 0 else "–"
    yield Row(
        f"a log of {FLOOD_BYTES / 1e6:.0f} MB while it is written",
        ground.title,
        ground.floor(1, FLOOD_BYTES),
        goal,
        lambda mine, best, floor: ground.rtt > 0 or mine <= limit,
        samples,
        ["logs -f"],
        FLOOD_BYTES,
    )


def attach(ground: Ground, terms: Terms) -> Iterator[Row]:
    """A row for each length: from the link's return to the next line here, after it was away for
    longer than `dead_after`."""
    if ground.wire is None:
        return
    jobs = Jobs(ground)
    for seconds in DROP_SECONDS:
        yield _attach(ground, jobs, terms, ground.wire, seconds)


def _attach(ground: Ground, jobs: Jobs, terms: Terms, wire: Wire, seconds: float) -> Row:
    job_id = jobs.start("ticks", lines=100_000, pause=PAUSE_SECONDS)
    arrived: list[float] = []
    open_box = lambda: ground.sshd.transport(dead_after=DEAD_AFTER_SECONDS)  # noqa: E731
    following = threading.Thread(
        target=jobs.follow,
        args=(job_id, lambda text: arrived.append(time.perf_counter()), open_box),
    )
    following.start()
    taken = []
    for turn in range(max(terms.rounds, DROPS) if terms.rounds > 1 else 1):
        _await(arrived, time.perf_counter())
        wire.black_hole()
        time.sleep(seconds + turn * LATER_SECONDS)
        wire.heal()
        back = time.perf_counter()
        taken.append(_await(arrived, back) - back)
        print(
            f"  re-attach after {seconds:.0f} s, {ground.title}: {taken[-1]:.3f} s", file=sys.stderr
        )
    jobs.cancel(job_id)
    following.join()
    return Row(
        f"re-attach after {seconds:.0f} s without a link (dead_after {DEAD_AFTER_SECONDS:.0f} s),"
        f" worst {max(taken):.2f} s",
        ground.title,
        ground.floor(1),
        "≤ 1 s",
        lambda mine, best, floor: max(taken) <= 1.0,
        {"logs -f": taken},
        ["logs -f"],
    )


def _await(arrived: list[float], after: float) -> float:
    while not arrived or arrived[-1] <= after:
        time.sleep(0.005)
    return next(moment for moment in arrived if moment > after)
