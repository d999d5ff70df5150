"""One exclusive job at a time on a box that is a folder: who is told that it is busy, who waits in
line, and whose turn it is."""

import json
import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause, Status
from remote.contract.job.paths import BoxPaths
from remote.control.errors import Busy
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.jobs.state import jobs_on, read_state
from remote.control.transport.payload import payload_command
from remote.payload.identity import Identity
from remote.payload.jobs import queue
from tests.integration.boxes import await_true, is_running, spec

ROOT = "windlass"


@pytest.fixture
def begin(box, digest):
    """Start an exclusive job."""

    def begin(stage, job_id, in_line=False, again=False, **options):
        wanted = replace(spec(digest, stage, job_id, f"run-of-{job_id}", **options), exclusive=True)
        return start(box, ROOT, wanted, again=again, queue=in_line)

    return begin


@pytest.fixture
def state(box):
    return lambda job_id: read_state(box, ROOT, job_id)


@pytest.fixture(autouse=True)
def nothing_is_left(box):
    """Whatever a test leaves in line or running is ended."""
    yield
    for job in [
        job for job in reversed(jobs_on(box, ROOT, "box", print)) if not job.state.status.is_final
    ]:
        cancel(box, ROOT, job.state.job_id, 5)


def stage_of(box, job_id):
    return json.loads((BoxPaths(box.home / ROOT).job(job_id).folder / "stage.json").read_text())[
        "pid"
    ]


def told_to_stop(box, job_id):
    """Whether the stage is up and takes SIGTERM as it should."""
    log = BoxPaths(box.home / ROOT).job(job_id).log
    return log.exists() and "worker" in log.read_text()


def tickets(box):
    return sorted(path.name for path in (box.home / ROOT / "queue").glob("[0-9]*"))


def test_a_second_one_is_told_what_runs_since_when_and_what_to_type(box, begin, digest):
    begin("endless", "first")
    metrics = BoxPaths(box.home / ROOT).job("first").metrics
    metrics.write_text('{"step": 40, "total_steps": 100, "time": 1.0, "eta_seconds": 1080}\n')
    with pytest.raises(Busy) as caught:
        begin("count", "second")
    error = caught.value
    assert (
        error.exit_code is Exit.BUSY
        and error.what == "the box works for another job: endless of run-of-first"
    )
    assert error.why.startswith("job first has run for ") and error.why.endswith(
        " s, step 40 of 100, about 18 min to go"
    )
    for command in (
        "`./inv resume --queue`",
        "`./inv logs run-of-first -f`",
        "`./inv cancel run-of-first`",
    ):
        assert command in error.remedy
    assert start(box, ROOT, spec(digest, "count", "light")).status is Status.RUNNING, (
        "what needs no GPU runs beside it"
    )
    assert not BoxPaths(box.home / ROOT).job("second").state.exists()


def test_first_come_first_served_and_each_starts_by_itself(box, begin, state):
    begin("endless", "a")
    places = [begin("endless", name, in_line=True) for name in "bcd"]
    assert [(job.status, job.place) for job in places] == [
        (Status.PENDING, 1),
        (Status.PENDING, 2),
        (Status.PENDING, 3),
    ]
    assert (
        places[0].why == "waits for endless of run-of-a"
        and places[0].pid
        and not places[0].started_at
    )
    assert begin("endless", "c", in_line=True).pid == places[1].pid, "asking twice is asking once"
    with pytest.raises(Busy, match="run-of-a") as caught:
        begin("endless", "e")
    assert "3 more wait in line" in caught.value.why
    for ended, starts, place in (("a", "b", 2), ("b", "c", 1)):
        cancel(box, ROOT, ended, 5)
        await_true(lambda name=starts: state(name).status is Status.RUNNING)
        await_true(lambda left=place: state("d").place == left)
        assert state(starts).place == 0 and state(starts).why == ""
    cancel(box, ROOT, "c", 5)
    await_true(lambda: state("d").status is Status.RUNNING)
    assert tickets(box) == ["000000000004.d"]


def test_one_that_waits_can_be_cancelled_and_the_line_closes_up(box, begin, state):
    begin("endless", "a")
    begin("endless", "b", in_line=True)
    begin("endless", "c", in_line=True)
    ended = cancel(box, ROOT, "b", 5)
    assert (ended.status, ended.cause, ended.exit_code, ended.place) == (
        Status.CANCELLED,
        Cause.CANCELLED,
        None,
        0,
    )
    assert "waited in line" in ended.why
    await_true(lambda: state("c").place == 1)
    assert begin("endless", "b", in_line=True, again=True).place == 2, "behind those who stayed"


def test_one_that_waits_is_interrupted_when_the_box_goes_down(box, begin, state):
    begin("endless", "a")
    waiting = begin("endless", "b", in_line=True)
    os.kill(waiting.pid, signal.SIGTERM)
    await_true(lambda: state("b").status is Status.INTERRUPTED)
    assert not state("b").started_at and "`./inv resume`" in state("b").remedy


def test_a_killed_supervisor_gives_the_gpu_away_only_once_its_stage_is_gone(
    box, begin, state, digest
):
    box.exec(
        "sed -i 's/^GRACE_SECONDS = .*/GRACE_SECONDS = 0.6/'"
        f" {ROOT}/releases/{digest}/remote/payload/jobs/supervisor.py"
    )
    first = begin("endless", "a", stubborn=True)
    await_true(lambda: told_to_stop(box, "a"))
    stage = stage_of(box, "a")
    begin("endless", "b", in_line=True)
    os.kill(first.pid, signal.SIGKILL)
    await_true(lambda: state("b").status is Status.RUNNING)
    assert not is_running(stage) and state("a").status is Status.LOST


def test_a_stage_left_alone_that_ends_in_time_is_let_end(box, begin, state):
    first = begin("endless", "a")
    await_true(lambda: told_to_stop(box, "a"))
    os.kill(first.pid, signal.SIGKILL)
    assert begin("endless", "b").status in (Status.RUNNING, Status.PENDING), (
        "nobody holds it any more: no reason to turn it away"
    )
    await_true(lambda: state("b").status is Status.RUNNING)
    assert (BoxPaths(box.home / ROOT).job("a").checkpoints / "step-7").is_dir()


def test_a_waiting_supervisor_that_is_killed_or_rebooted_is_lost_as_what_it_is(box, begin, state):
    begin("endless", "a")
    waiting = begin("endless", "b", in_line=True)
    begin("endless", "c", in_line=True)
    os.kill(waiting.pid, signal.SIGKILL)
    await_true(lambda: state("b").status is Status.LOST)
    assert state("b").why == "the supervisor was killed while it waited in line"
    await_true(lambda: state("c").place == 1)
    paths = BoxPaths(box.home / ROOT).job("b")
    paths.state.write_text(
        json.dumps({**json.loads(paths.state.read_text()), "boot_id": "another"})
    )
    assert (
        "rebooted or stopped under it while it waited in line; it came up at 20" in state("b").why
    )
    assert begin("endless", "b", in_line=True, again=True).place == 2


def test_a_reboot_empties_the_line(box, begin):
    folder = box.home / ROOT / "queue"
    begin("endless", "a")
    cancel(box, ROOT, "a", 5)
    (folder / "000000000009.before").write_text(
        json.dumps({"pid": os.getpid(), "ticks": 1, "boot": "another boot"})
    )
    assert begin("endless", "b").status is Status.RUNNING
    assert tickets(box) == ["000000000001.b"]


def test_nobody_gives_up_a_place_that_is_anothers(box, begin, digest):
    begin("endless", "a")
    queue.leave(
        BoxPaths(box.home / ROOT), "a"
    )  # as who started it would, where the supervisor took too long to come up
    assert tickets(box) == ["000000000001.a"]


def test_of_two_laptops_at_once_one_wins_and_the_other_is_told(box, begin):
    def attempt(job_id):
        try:
            return begin("endless", job_id).status
        except Busy as error:
            return error.what

    with ThreadPoolExecutor(4) as laptops:
        outcomes = list(laptops.map(attempt, "abcd"))
    assert outcomes.count(Status.RUNNING) == 1
    assert all(
        outcome is Status.RUNNING
        or outcome.startswith("the box works for another job: endless of run-of-")
        for outcome in outcomes
    )


def test_two_laptops_that_start_the_same_job_start_it_once(box, begin):
    with ThreadPoolExecutor(4) as laptops:
        started = list(laptops.map(lambda _: begin("endless", "a", in_line=True), range(4)))
    assert len({(job.pid, job.status) for job in started}) == 1
    assert len(tickets(box)) == 1


def test_whatever_dies_two_never_have_the_gpu_at_once_and_nobody_is_forgotten(box, begin, state):
    """Jobs that say when they begin and end; supervisors killed at random moments, of those that
    wait and of those that run."""
    chance, names = random.Random(7), [f"job-{number}" for number in range(4)]
    for name in names:
        begin("count", name, in_line=True, lines=3, pause=0.05)
        if chance.random() < 0.4 and state(name).pid:
            os.kill(state(name).pid, signal.SIGKILL)
    await_true(lambda: all(state(name).status.is_final for name in names), 40)
    lost = [name for name in names if state(name).status is Status.LOST]
    for name in lost:
        begin("count", name, in_line=True, again=True, lines=3, pause=0.05)
    await_true(lambda: all(state(name).status is Status.SUCCEEDED for name in names), 40)
    spans = []
    for name in names:
        moments = [
            json.loads(line)
            for line in BoxPaths(box.home / ROOT).job(name).metrics.read_text().splitlines()
        ]
        last = [moment["time"] for moment in moments if "note" not in moment][-3:]
        spans.append((last[0], last[-1]))
    spans.sort()
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert tickets(box) == []


def test_a_start_that_is_killed_anywhere_starts_nothing_twice_and_blocks_nobody(
    box, begin, state, digest
):
    chance = random.Random(11)
    for number in range(4):
        job_id = f"job-{number}"
        wanted = replace(spec(digest, "endless", job_id), exclusive=True)
        question = json.dumps({"spec": asdict(wanted), "secrets": {}}).encode()
        cut = subprocess.Popen(
            ["bash", "-c", payload_command(ROOT, "jobs.supervise", "start")],
            cwd=box.home,
            env=box._environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        cut.stdin.write(question)
        cut.stdin.close()
        time.sleep(chance.uniform(0, 0.4))
        os.killpg(cut.pid, signal.SIGKILL)
        cut.wait()
        begin("endless", job_id, in_line=True)
        await_true(lambda name=job_id: state(name).status is Status.RUNNING)
        await_true(lambda name=job_id: told_to_stop(box, name))
        assert BoxPaths(box.home / ROOT).job(job_id).log.read_text().count("worker") == 1
        assert [name.partition(".")[2] for name in tickets(box)] == [job_id]
        cancel(box, ROOT, job_id, 5)


def test_a_start_leaves_the_place_to_the_supervisor_that_is_up_already(tmp_path):
    box = BoxPaths(tmp_path)
    queue.enter(box, spec("r", "count", "job-1"), may_wait=False)
    (ticket,) = queue.ahead(box, "another")
    with subprocess.Popen(["sleep", "60"]) as supervisor:
        Identity.of(supervisor.pid).write(ticket.path, stage="count", run="job-1")
        queue.enter(box, spec("r", "count", "job-1"), may_wait=False)
        assert Identity.read(ticket.path).pid == supervisor.pid
        queue.enter(box, spec("r", "count", "job-1"), may_wait=False, takes_over=True)
        assert Identity.read(ticket.path).pid == os.getpid()
        supervisor.kill()


def test_a_ticket_is_kept_by_the_job_that_asks_again(tmp_path):
    box = BoxPaths(tmp_path)
    queue.enter(box, spec("r", "count", "a.b"), may_wait=False)
    queue.enter(box, spec("r", "count", "b"), may_wait=True)
    queue.enter(box, spec("r", "count", "a.b"), may_wait=False)
    assert [ticket.job_id for ticket in queue.ahead(box, "b")] == ["a.b"] and queue.ahead(
        box, "a.b"
    ) == []
    queue.leave(box, "b")
    assert [ticket.job_id for ticket in queue.ahead(box, "nobody")] == ["a.b"]
    with pytest.raises(queue.Taken):
        queue.enter(box, spec("r", "count", "c"), may_wait=False)
