"""A box whose clock is set back by an hour while its jobs run, and forward again."""

import os
import signal
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from remote.contract.job import notices
from remote.contract.job.jobs import Cause, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs import job_log
from remote.contract.logs.frames import FrameReader
from remote.contract.logs.query import LogQuery
from remote.contract.telemetry import samples
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.jobs.state import read_state
from remote.control.transport.payload import payload_command
from tests.integration.boxes import await_true, spec

ROOT = "windlass"
HOUR = 3600.0


@pytest.fixture
def paths(box):
    return BoxPaths(box.home / ROOT)


@pytest.fixture
def set_back(paths, digest, tmp_path):
    """While this file is there, the clock of everything that runs on the box is an hour behind."""
    flag = tmp_path / "set-back"
    site = (
        f"import os, time\nreal = time.time\ntime.time = lambda: real() - {HOUR} *"
        f" os.path.exists({str(flag)!r})\n"
    )
    (paths.releases / digest / "sitecustomize.py").write_text(site)
    return flag


@pytest.fixture
def begin(box, digest):
    def begin(stage, job_id, **options):
        wanted = replace(spec(digest, stage, job_id, **options), exclusive=True)
        return start(box, ROOT, wanted, queue=True, secrets={"TOKEN": "a token to be masked"})

    return begin


def test_jobs_the_line_and_the_log_go_on(box, paths, set_back, begin):
    began = time.time()
    begin("telling", "job-a", patient=True)
    await_true(lambda: "***" in paths.job("job-a").log.read_text())
    set_back.touch()
    places = [
        begin("count", name, lines=3, pause=0.02).place or read_state(box, ROOT, name).place
        for name in ("job-b", "job-c")
    ]
    assert places == [1, 2]
    (paths.job("job-a").folder / "go").touch()
    await_true(lambda: read_state(box, ROOT, "job-c").status.is_final, 40)
    a, b, c = (read_state(box, ROOT, name) for name in ("job-a", "job-b", "job-c"))
    assert (a.cause, b.status, c.status) == (Cause.DATA, Status.SUCCEEDED, Status.SUCCEEDED)
    assert (
        a.started_at >= began - 1 > a.ended_at
        and began - HOUR - 1 < a.ended_at <= b.started_at < b.ended_at <= c.started_at
    )
    moments = [moment for _, moment in job_log.times(paths.job("job-a").folder)]
    assert [
        number for number, (one, two) in enumerate(pairwise(moments)) if two < one - HOUR / 2
    ], "the log knows when the clock jumped"
    await_true(
        lambda: any(sample.time < began - HOUR / 2 for sample in samples.read(paths.telemetry))
    )
    told = box.exec(
        payload_command(ROOT, "logs.query"),
        LogQuery(jobs=["job-a"], ago=600.0, follow=True).to_json().encode(),
    )
    frames = list(FrameReader().feed(told.stdout))
    assert (
        b"".join(content for header, content in frames if "next" in header)
        == paths.job("job-a").log.read_bytes()
    )
    assert [header["state"]["status"] for header, _ in frames if "ended" in header] == [
        "FAILED"
    ] and frames[-1][0] == {"end": True}


def test_a_notice_is_heeded(box, paths, set_back, begin):
    pid = begin("saving", "job-a").pid
    await_true(lambda: "step 3" in paths.job("job-a").log.read_text())
    set_back.touch()
    notices.write(
        paths.root, notices.Notice(notices.SPOT, time.time() - HOUR + 30, "the cloud takes it back")
    )
    os.kill(pid, signal.SIGTERM)
    await_true(lambda: read_state(box, ROOT, "job-a").status.is_final)
    assert read_state(box, ROOT, "job-a").cause is Cause.SPOT


@pytest.mark.parametrize("forward", [False, True])
def test_who_is_told_to_stop_has_the_time_that_it_was_given(box, paths, set_back, begin, forward):
    if forward:
        set_back.touch()
    begin("endless", "job-a", stubborn=True)
    await_true(lambda: "worker" in paths.job("job-a").log.read_text())
    set_back.unlink() if forward else set_back.touch()
    began = time.monotonic()
    state = cancel(box, ROOT, "job-a", 1.0)
    assert (state.status, state.exit_code) == (Status.CANCELLED, -9)
    assert 1.0 <= time.monotonic() - began < 15.0
