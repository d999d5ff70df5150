"""Boxes and jobs as tables and records."""

import json
import time
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from remote.contract.job.clocks import Limits, Reading
from remote.contract.telemetry.samples import Gpu, Sample
from remote.control.cloud.box import Box
from remote.control.commands.views.observe import top_tables
from remote.control.observe import records
from remote.control.observe.live import View
from remote.control.observe.snapshot import read

JOB = {
    "job_id": "run-1-train-ab",
    "run_id": "run-1",
    "stage": "train",
    "status": "RUNNING",
    "started_at": time.time() - 7200,
    "ended_at": 0.0,
    "what": "",
    "place": 0,
    "metric": {
        "time": 1.5,
        "step": 1200,
        "total_steps": 9000,
        "loss": 1.2345,
        "tokens_per_second": 4321.0,
        "eta_seconds": 8000.0,
    },
    "line": "step 1200 " + "x" * 300,
}


def box(name, state="running", hourly=1.0):
    began = time.time() - 7200
    return Box(
        name,
        "ec2",
        "i-0",
        state,
        "1.2.3.4",
        22,
        "u",
        None,
        "a",
        "g5.xlarge",
        "us-east-1",
        "windlass",
        None,
        began,
        hourly,
    )


def view(name="gpu", gpus=(), jobs=(), clocks=None):
    sample = Sample(time.time(), 0.43, 12.3, 16.4, 140.2, 250.1, 3.1e6, 2e5, gpus=list(gpus))
    told = {
        "at": time.time(),
        "sample": asdict(sample),
        "gpu_silent": False,
        "clocks": clocks,
        "jobs": list(jobs),
    }
    return View(box(name), read(told), time.monotonic(), "", (0.1, 0.9))


def drawn(views, width=200):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(top_tables.tables(views, width))
    console.file.close()
    return console.export_text()


def test_a_box_and_its_job_are_told():
    text = drawn([view(gpus=[Gpu(0, "A10G", 0.97, 22.1, 24.1, 287.0, 71.0)], jobs=[JOB])])
    for words in (
        "97 %",
        "22.1/24 GB",
        "71°C 287 W",
        "43 %",
        "12.3/16 GB",
        "140 GB",
        "3.1/0.2",
        "$2.",
    ):
        assert words in text
    for words in (
        "run-1",
        "train",
        "RUNNING",
        "1,200/9,000 13 %",
        "1.234",
        "4,321",
        "2:13:20",
        "step 1200 xxx",
    ):
        assert words in text


def test_boxes_that_do_not_tell_stay_with_why():
    gone = View(box("gone"), why="SSH does not answer")
    text = drawn(
        [View(box("off", "stopped")), View(box("none", "terminated")), gone, View(box("new"))]
    )
    assert all(
        words in text
        for words in ("stopped", "absent", "SSH does not answer", "asking", "no box tells")
    )
    assert "of the boxes that tell: no job" in drawn([gone, view()])
    assert "\nno job is under way" in drawn([View(box("off", "stopped")), view()])
    lost = replace(box("lost", "unknown"), note="AWS does not accept the credentials")
    assert lost.note in drawn([View(lost)]) and records.record(View(lost))["why"] == lost.note


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal_and_names_stay(width):
    eight = view(
        "eight", [Gpu(number, "H100", 0.5, 70, 80, 600, 90, "heat") for number in range(8)]
    )
    text = drawn(
        [view(gpus=[Gpu(0, "A10G", 0.97, 22.1, 24.1, 287.0, 71.0)], jobs=[JOB]), eight], width
    )
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert all(
            words in text for words in ("gpu", "eight", "run-1", "RUNNING", "1.234", "slowed: heat")
        )


def test_the_cost_is_the_watchdogs_count_and_the_time_since():
    limits = Limits(1800, 28800, 20, 86400, 600, 300, 90, hourly_usd=3.6)
    reading = Reading(
        time.time() - 100,
        "busy",
        limits,
        spent_usd=5.0,
        stops_in=7330.0,
        stops_by="lifetime",
        notice="taken back soon",
    )
    told = view(clocks=json.loads(reading.to_json()))
    assert records.spent_usd(told, time.time()) == pytest.approx(5.1, abs=0.01)
    text = drawn([told])
    assert "$5.10" in text and "2h00 lifetime" in text and "taken back soon" in text
    assert records.spent_usd(View(box("free", hourly=None)), 0.0) is None


def test_jobs_in_line_and_jobs_that_ended():
    jobs = [
        {**JOB, "status": "PENDING", "place": 2, "metric": None},
        {**JOB, "status": "FAILED", "ended_at": 60.0, "started_at": 1.0, "what": "it broke"},
    ]
    text = drawn([view(jobs=jobs)])
    assert "in line, 2 before" in text and "it broke" in text and "59s" in text


def test_a_record_is_json():
    told = json.loads(json.dumps(records.record(view(jobs=[JOB]))))
    assert (
        told["box"] == "gpu"
        and told["jobs"][0]["run_id"] == "run-1"
        and told["jobs"][0]["cost_usd"] == pytest.approx(2.0, abs=0.5)
    )
    assert told["spent_usd"] == pytest.approx(2.0, abs=0.5)
