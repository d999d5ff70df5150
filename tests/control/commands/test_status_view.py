"""What `status` shows of a box and of its clocks."""

import dataclasses
import time

import pytest

from remote.contract.job.clocks import Limits, Reading
from remote.control.cloud.box import Box
from remote.control.commands.views.boxes.listing import view_record, view_table
from remote.control.config.inventory import EmbeddedEntry
from remote.control.operations.status import View

LIMITS = Limits(1800.0, 43200.0, 25.0, 1209600.0, 1800.0, 3600.0, 600.0, hourly_usd=1.2)
NOW = time.time()
BOX = Box(
    "gpu",
    "ec2",
    "i-1",
    "running",
    "192.0.2.1",
    22,
    "ubuntu",
    None,
    "i-1",
    "g5.2xlarge",
    "us-east-1",
    "windlass",
    None,
    NOW - 7500,
    1.212,
    zone="us-east-1b",
)
READING = Reading(NOW, "busy", LIMITS, 7500.0, 2.64, 0.0, 35700.0, "lifetime", ["job train-1"])
STOPPED = dataclasses.replace(
    BOX, name="old", state="stopped", host="", stopped_at=NOW - 86400, hourly_usd=None
)
ENTRY = EmbeddedEntry(name="gpu")


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The time stands still."""
    monkeypatch.setattr(time, "time", lambda: NOW)


def row(view):
    heads, rows = view_table([view])
    return dict(zip(heads, map(str, rows[0]), strict=True))


def test_four_clocks_and_the_end_of_a_running_box():
    shown = row(View(BOX, ENTRY, READING))
    assert (shown["up for"], shown["$/h"], shown["does"]) == ("2h05", "1.212", "busy, job train-1")
    assert (shown["idle"], shown["lifetime"], shown["dollars"]) == (
        "0s / 30m",
        "2h05 / 12h00",
        "$2.64 / $25.00",
    )
    assert shown["stops (UTC), by"].endswith(" lifetime")
    assert "stuck" not in shown


def test_a_stuck_box_is_red_and_names_its_job():
    reading = dataclasses.replace(READING, state="stuck", stuck_job="train-1", stuck_for=2400.0)
    heads, rows = view_table([View(BOX, ENTRY, reading)])
    assert str(rows[0][heads.index("stuck")]) == "train-1: 40m / 30m"
    assert {cell.style for cell in rows[0]} == {"bold red"}


def test_a_stopped_box_tells_from_when_it_is_reaped():
    view = View(STOPPED, ENTRY)
    assert abs(view.reap_at - (NOW + 13 * 86400)) < 1
    assert row(view)["stops (UTC), by"].startswith("reaped from ")
    assert view_record(view)["reaped_from"] > view_record(view)["stopped_since"]


def test_a_box_whose_clocks_are_not_known_says_why():
    view = View(BOX, ENTRY, None, "no answer within 5 s")
    assert row(view)["note"] == "no answer within 5 s"
    assert view_record(view)["clocks"] is None


def test_a_box_that_nobody_bills_spends_nothing():
    free = dataclasses.replace(READING, limits=dataclasses.replace(LIMITS, hourly_usd=0.0))
    assert row(View(BOX, ENTRY, free))["dollars"] == "- / $25.00"
