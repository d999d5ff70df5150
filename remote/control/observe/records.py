"""Boxes and their jobs as JSON, and what follows from what a box told: what it cost, how long a job
took, why it does not tell."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from remote.control.observe.live import View
from remote.control.observe.snapshot import JobTold, Told

STALE_SECONDS = 20.0
"""What a box told longer ago is old."""


def records(views: Sequence[View]) -> list[dict[str, Any]]:
    """Every box as JSON."""
    return [record(view) for view in views]


def record(view: View) -> dict[str, Any]:
    """A box as JSON: what it told, the dollars of this start so far (None: not known), and why it
    does not tell."""
    told = view.told or Told()
    jobs = [{**asdict(job), "cost_usd": cost_usd(view, job)} for job in told.jobs]
    return {
        "box": view.box.name,
        "state": view.box.state,
        "why": why_silent(view),
        "told_at": told.at,
        "sample": asdict(told.sample) if told.sample else None,
        "gpu_silent": told.gpu_silent,
        "jobs": jobs,
        "clocks": asdict(told.clocks) if told.clocks else None,
        "spent_usd": spent_usd(view, time.time()),
    }


def spent_usd(view: View, now: float) -> float | None:
    """What this start of the box has cost so far: as its watchdog counts, with the time since then;
    else by its list price."""
    reading = view.told.clocks if view.told else None
    if reading and reading.limits.hourly_usd:
        return reading.spent_usd + max(0.0, now - reading.at) * reading.limits.hourly_usd / 3600
    box = view.box
    return (
        (now - box.launched_at) * box.hourly_usd / 3600
        if box.hourly_usd and box.launched_at and box.state == "running"
        else None
    )


def cost_usd(view: View, job: JobTold) -> float | None:
    """The dollars of the box while the job ran, or None where no price is known."""
    reading = view.told.clocks if view.told else None
    hourly = (reading.limits.hourly_usd if reading else 0.0) or view.box.hourly_usd
    return took_seconds(view, job) * hourly / 3600 if hourly else None


def took_seconds(view: View, job: JobTold) -> float:
    """How long the job has run, by the box's clock."""
    now = ((view.told.at if view.told else 0.0) or time.time()) + min(view.age, STALE_SECONDS)
    return max(0.0, (job.ended_at or now) - job.started_at) if job.started_at else 0.0


def why_silent(view: View) -> str:
    """Why a box does not tell, or not all: it does not answer, nobody says whether it runs, or it
    is of another Windlass."""
    otherwise = (
        ""
        if view.told is None or view.told.is_whole
        else f"tells in another way: `./inv deploy {view.box.name}`"
    )
    return view.why or otherwise or (view.box.note if view.box.state == "unknown" else "")
