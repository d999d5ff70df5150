"""The real watchdog on a box that is a folder: real processes, real jobs, a stand-in for the power
switch alone."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from remote.contract.job import notices
from remote.contract.job.clocks import Limits, Reading
from remote.contract.job.jobs import JobState, Status
from remote.control.backends import clocks
from remote.control.errors import BoxStopped, BoxUnreachable
from remote.control.jobs import start as jobs
from tests.integration.boxes import FakeTransport

from .boxes import await_true, code_tree, deploy_stages, is_running, spec

LIMITS = Limits(
    idle=300,
    lifetime=600,
    dollars=25,
    stopped=86400,
    stuck=300,
    stuck_grace=300,
    grace=20,
    session="1000",
    tick=0.1,
    ahead=900,
)
SYSTEM = ("shutdown", "poweroff", "systemctl")


class FolderBox(FakeTransport):
    """A box in a folder. What would touch this machine is a stand-in, which writes down how it was
    called."""

    def __init__(self, home: Path, commands: Path) -> None:
        commands.mkdir()
        self.calls_file = home / "calls"
        for name in SYSTEM:
            stand_in = commands / name
            stand_in.write_text(
                f'#!/bin/sh\necho "{name} $*" >> "{self.calls_file}"\nexit'
                f" {int(name == 'systemctl')}\n"
            )
            stand_in.chmod(0o755)
        (commands / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
        (commands / "sudo").chmod(0o755)
        path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        surroundings = {
            "WINDLASS_IMDS": "http://127.0.0.1:9",
            "SSH_CONNECTION": "1.2.3.4 5 127.99.0.1 9",
        }
        super().__init__(home, environment={"PATH": path, **surroundings})

    @property
    def folder(self) -> Path:
        return self.home / ".windlass-box"

    def calls(self, name: str = "shutdown") -> list[str]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]

    @property
    def is_off(self) -> bool:
        return "now" in self.calls()

    @property
    def pid(self) -> int:
        pid, *_ = (self.folder / "lock").read_text().split() or ["0"]
        return int(pid)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def reading(self) -> Reading:
        return Reading.from_json((self.folder / "reading.json").read_text())

    def state(self, job_id: str) -> JobState:
        return JobState.read(self.home / "windlass/jobs" / job_id / "state.json")

    def kill(self, number: int = signal.SIGKILL) -> None:
        pid = self.pid
        if is_running(pid):
            os.kill(pid, number)
        await_true(lambda: not is_running(pid))


@pytest.fixture
def box(tmp_path):
    box = FolderBox(tmp_path / "home", tmp_path / "commands")
    yield box
    if (box.folder / "lock").exists():
        box.kill()
    for state in box.home.glob("windlass/jobs/*/state.json"):
        pid = JobState.read(state).pid
        if is_running(pid):
            os.kill(pid, signal.SIGTERM)
            await_true(lambda pid=pid: not is_running(pid))


@pytest.fixture
def release(box, tmp_path):
    return deploy_stages(box, code_tree(tmp_path / "code"))


def started(box, release, stage="endless", job_id="job-1", **options):
    return jobs.start(box, "windlass", spec(release, stage, job_id, **options))


def expire(box, **limits):
    """Set clocks that run out at once: perhaps before the box has said that they are set."""
    with contextlib.suppress(BoxStopped):
        clocks.set_limits(box, replace(LIMITS, **limits), None, "demo", "windlass")


class TestClocks:
    def test_arming_starts_it_once_and_tells_how_the_clocks_stand(self, box):
        first = clocks.set_limits(box, LIMITS, None, "demo", "windlass")
        assert (first.state, first.limits, first.stops_by) == ("idle", LIMITS, "idle")
        await_true(lambda: box.calls() == ["--no-wall +15"])
        pid = box.pid
        again = clocks.set_limits(box, replace(LIMITS, idle=400), None, "demo", "windlass")
        assert (again.limits.idle, box.pid) == (400, pid)
        assert again.elapsed > first.elapsed
        assert clocks.read(box).limits.idle == 400
        assert (box.folder / "ssh").read_text() == "127.99.0.1 9\n"
        assert box.round_trips == 3

    def test_an_idle_box_stops(self, box):
        expire(box, idle=1)
        await_true(lambda: box.is_off)
        assert "idle clock: no job, SSH session or GPU use for 1 s" in box.log
        assert (box.reading().state, box.reading().stops_by) == ("stopping", "idle")

    def test_the_dollars_of_a_start_stop_it(self, box):
        expire(box, dollars=0.02, hourly_usd=60)  # 1.2 s
        await_true(lambda: box.is_off)
        assert "this start has cost $0.02" in box.log
        assert box.reading().spent_usd == pytest.approx(0.02, rel=5)

    def test_extending_moves_a_clock_for_this_start_alone(self, box):
        clocks.set_limits(box, replace(LIMITS, lifetime=600))
        assert clocks.extend(box, "lifetime", 60).limits.lifetime == 660
        assert clocks.extend(box, "lifetime", 60).limits.lifetime == 720
        assert clocks.extend(box, "dollars", 2.5).limits.dollars == 27.5
        assert (
            clocks.set_limits(box, LIMITS).limits.lifetime == 720
        )  # set anew by the next command, what was added stays
        another = clocks.set_limits(box, replace(LIMITS, session="2000"))
        await_true(
            lambda: box.reading().limits.session == "2000" and box.reading().limits.lifetime == 600
        )
        assert another.limits.session == "2000"

    def test_a_box_without_clocks(self, box):
        assert clocks.read(box) is None
        with pytest.raises(BoxUnreachable, match="lifetime clock could not be moved") as refused:
            clocks.extend(box, "lifetime", 60)
        assert "no watchdog was ever set up" in refused.value.why
        assert f"`./inv start {clocks.box_name(box)}` sets the clocks anew" in refused.value.remedy


@pytest.fixture
def door(box):
    """What the watchdog takes for the box's SSH server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        box.port = server.getsockname()[1]
        yield lambda: socket.create_connection(("127.0.0.1", box.port))


class TestSessions:
    def set_limits(self, box, **limits):
        clocks.set_limits(box, replace(LIMITS, **limits))
        (box.folder / "ssh").write_text(f"127.0.0.1 {box.port}")

    def test_a_session_keeps_the_box_up_until_it_ends(self, box, door):
        self.set_limits(box, idle=3)
        with door():
            await_true(lambda: box.reading().activity == ["1 SSH session"])
            time.sleep(4)
            assert not box.is_off
        await_true(lambda: box.is_off)

    def test_who_only_asks_does_not(self, box, door):
        self.set_limits(box, idle=3, tick=1)
        deadline = time.monotonic() + 30
        while not box.is_off:
            assert time.monotonic() < deadline
            with door():
                time.sleep(0.05)
            time.sleep(0.3)

    def test_who_comes_in_at_the_last_moment_is_not_shut_out(self, box, door):
        self.set_limits(box, idle=3, tick=1)
        await_true(lambda: box.reading().stops_in < 1.5)
        with door():
            await_true(lambda: box.reading().activity == ["1 SSH session"])
            assert box.reading().idle_for == 0
            assert not box.is_off


class TestAFailingWatchdog:
    def test_killed_it_leaves_a_planned_shutdown_and_is_told_as_silent(self, box):
        clocks.set_limits(box, replace(LIMITS, ahead=30))
        await_true(lambda: box.calls())
        box.kill()
        reading = box.reading()
        (box.folder / "reading.json").write_text(replace(reading, at=reading.at - 40).to_json())
        told = clocks.read(box)
        assert (told.state, told.stops_by, told.stops_in) == ("silent", "watchdog", 0)
        assert all(
            call.startswith("--no-wall +") for call in box.calls()
        )  # there is a plan, and nobody to push it forward
        with pytest.raises(BoxUnreachable):
            clocks.extend(box, "idle", 1)

    def test_arming_revives_it_and_it_goes_on_counting(self, box):
        before = clocks.set_limits(box, LIMITS)
        box.kill()
        after = clocks.set_limits(box, LIMITS)
        assert after.elapsed > before.elapsed

    def test_rounds_that_fail_plan_no_shutdown(self, box):
        clocks.set_limits(box, replace(LIMITS, ahead=1))
        await_true(lambda: len(box.calls()) > 3)
        (box.folder / "limits.json").write_text("{")
        await_true(lambda: "a round failed" in box.log)
        count = len(box.calls())
        await_true(lambda: box.log.count("a round failed") > 5)
        assert len(box.calls()) <= count + 1
        clocks.set_limits(box, replace(LIMITS, ahead=1))
        await_true(lambda: len(box.calls()) > count + 3)

    def test_one_that_is_replaced_is_followed_by_one_alone(self, box):
        clocks.set_limits(box, LIMITS)
        pid = box.pid
        (box.folder / "version").write_text("older")
        elapsed = clocks.set_limits(box, LIMITS).elapsed
        await_true(lambda: box.log.count("watching:") == 2)
        await_true(
            lambda: box.pid == pid or not is_running(pid)
        )  # without systemd the one that arms may be the quicker
        assert is_running(box.pid)
        assert clocks.read(box).elapsed >= elapsed

    def test_a_power_switch_that_fails_is_pressed_again(self, box, tmp_path):
        clocks.set_limits(box, LIMITS)
        broken = tmp_path / "commands" / "shutdown"
        broken.write_text(broken.read_text().replace("exit 0", "exit 1"))
        expire(box, idle=1)
        await_true(lambda: box.is_off)
        await_true(lambda: "shutdown now: 1" in box.log)
        assert is_running(box.pid)
        with pytest.raises(BoxStopped, match="just stopping itself") as refused:
            clocks.extend(box, "idle", 60)
        assert refused.value.why.startswith("its idle clock ran out")


class TestTime:
    def test_a_wall_clock_that_jumps_moves_nothing(self, box, tmp_path):
        clocks.set_limits(box, LIMITS)
        box.kill()
        jump = tmp_path / "jump"
        script = f"""
import os, runpy, sys, time
true = time.time
time.time = lambda: true() + 86400 * os.path.exists({str(jump)!r})
sys.argv = [{str(box.folder / "watchdog.pyz")!r}, "run"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
        (tmp_path / "skewed.py").write_text(script)
        box.exec(f"setsid python3 {tmp_path}/skewed.py </dev/null >/dev/null 2>&1 &")
        await_true(lambda: is_running(box.pid))
        before = clocks.set_limits(box, LIMITS)
        jump.touch()
        after = clocks.set_limits(box, LIMITS)
        assert after.at - before.at > 86000  # the box's own clock did jump
        assert after.elapsed - before.elapsed < 60
        assert after.idle_for < 60
        assert (after.state, box.is_off) == ("idle", False)

    def test_another_start_begins_anew_and_forgets_the_notice_of_the_last(self, box):
        expire(box, idle=1, session="1000")
        await_true(lambda: box.is_off)
        box.kill()
        (box.home / "windlass").mkdir(exist_ok=True)
        notices.write(
            box.home / "windlass", notices.Notice("deadman", time.time() + 60, "of the last start")
        )
        reading = clocks.set_limits(box, replace(LIMITS, session="2000"))
        assert reading.state == "idle"
        assert reading.elapsed < 60
        assert not (box.home / "windlass/notice.json").exists()


class TestJobs:
    def test_a_job_keeps_the_box_busy_and_is_told_before_the_end(self, box, release):
        started(box, release)
        reading = clocks.set_limits(box, replace(LIMITS, idle=1))
        assert (reading.state, reading.activity) == ("busy", ["job job-1"])
        expire(box, lifetime=3)
        await_true(lambda: box.is_off)
        state = box.state("job-1")
        assert (state.status, state.kept) == (Status.INTERRUPTED, "checkpoint step-7")
        notice = notices.read(box.home / "windlass", time.time())
        assert (notice.kind, notice.why) == (
            "deadman",
            "lifetime clock: it has run for 3 s since its last start",
        )
        assert "jobs told: 1, still running: 0" in box.log

    def test_a_job_that_ends_leaves_an_idle_box(self, box, release):
        started(box, release, "count", lines=3)
        await_true(lambda: box.state("job-1").status is Status.SUCCEEDED)
        expire(box, idle=1)
        await_true(lambda: box.is_off)

    def test_the_grace_is_bounded(self, box, release):
        supervisor = started(box, release).pid
        os.kill(supervisor, signal.SIGSTOP)
        try:
            expire(box, lifetime=1.5, grace=1.5)
            await_true(lambda: box.is_off)
            assert "still running: 1" in box.log
        finally:
            os.kill(supervisor, signal.SIGCONT)

    def test_what_is_finished_is_brought_to_safety_before_the_end(self, box, release):
        spill(
            box,
            "import pathlib, sys\npathlib.Path('../../spilled').write_text('"
            " '.join(sys.argv[1:]))\n",
        )
        expire(box, idle=1)
        await_true(lambda: box.is_off)
        assert (box.home / "windlass/spilled").read_text() == "all"
        assert "spill: exit code 0" in box.log

    def test_a_spill_that_hangs_is_ended(self, box, release):
        spill(
            box,
            "import os, time\nopen('../../spilling',"
            " 'w').write(str(os.getpid()))\ntime.sleep(600)\n",
        )
        expire(box, idle=1, grace=2)
        await_true(lambda: box.is_off)
        assert "spill: not done in time" in box.log
        assert not is_running(int((box.home / "windlass/spilling").read_text()))


class TestStuck:
    def test_a_silent_job_alerts_and_then_stops_the_box(self, box, release, heard):
        started(box, release)
        reading = clocks.set_limits(
            box, replace(LIMITS, stuck=1, stuck_grace=2), heard.url, "demo", "windlass"
        )
        assert reading.state == "busy"
        await_true(lambda: box.reading().state == "stuck")
        assert (box.reading().stuck_job, box.reading().stops_by) == ("job-1", "stuck")
        await_true(lambda: box.is_off)
        assert [title for title, _ in heard.told] == ["box demo is stuck", "box demo stops"]
        assert heard.told[0][1].startswith(
            "job job-1 runs, but has shown no sign of life for 1 s; the box stops in "
        )
        assert box.state("job-1").status is Status.INTERRUPTED

    def test_a_sign_of_life_ends_it(self, box, release):
        started(box, release)
        clocks.set_limits(box, replace(LIMITS, stuck=0.5))
        await_true(lambda: box.reading().state == "stuck")
        stop = threading.Event()
        log = box.home / "windlass/jobs/job-1/log"

        def live():
            while not stop.wait(0.05):
                with log.open("a") as file:
                    file.write("still here\n")

        thread = threading.Thread(target=live)
        thread.start()
        try:
            await_true(lambda: box.reading().state == "busy")
            assert box.reading().stops_by == "lifetime"
        finally:
            stop.set()
            thread.join()

    def test_the_address_that_is_told_stays_its_owners_secret(self, box, heard):
        clocks.set_limits(box, LIMITS, f"{heard.url}/hush-hush", "demo", "windlass")
        assert [
            path.name for path in box.folder.iterdir() if b"/hush-hush" in path.read_bytes()
        ] == ["notify"]
        assert (box.folder / "notify").stat().st_mode & 0o777 == 0o600
        assert (
            b"hush-hush"
            not in Path(f"/proc/{box.pid}/cmdline").read_bytes()
            + Path(f"/proc/{box.pid}/environ").read_bytes()
        )
        assert not any("hush-hush" in command for command in box.commands)
        clocks.set_limits(box, LIMITS)
        assert not (box.folder / "notify").exists()


def spill(box, body):
    """A release whose `spill` does that alone."""
    release = (box.home / "windlass/current").resolve()
    module = release / "remote/payload/transfer/upload.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.unlink(missing_ok=True)
    module.write_text(body)


class Heard:
    def __init__(self):
        self.told = []


@pytest.fixture
def heard():
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            heard.told.append((self.headers["Title"], text))
            self.send_response_only(200)
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield heard
    server.shutdown()
    thread.join()
    server.server_close()


pytestmark = pytest.mark.skipif(not shutil.which("setsid"), reason="needs setsid")
