"""The receipt: what a run did, used and cost. Derived from the ledger alone, so it can be made
again at any time."""

import time
from typing import Any

from remote.contract.files import atomic
from remote.contract.job.jobs import Status
from remote.control.backends.resolved import LaptopFile, StageArtifact
from remote.control.runs.ledger import Event, Ledger
from remote.control.runs.state import RunState, state_of
from remote.control.text import render

_ARTIFACT_FACTS = ("path", "size", "sha256")


def receipt_of(ledger: Ledger) -> dict[str, Any]:
    """The receipt as plain JSON. Times in seconds, money in US dollars; `cost_usd` is None where no
    price is known."""
    run = state_of(ledger)
    return {
        "run_id": run.run_id,
        "playbook": run.plan.name,
        "status": run.status.value,
        "began": _stamp(run.created_at),
        "seconds": round((run.ended_at or time.time()) - run.created_at, 1),
        "windlass": run.facts,
        "boxes": _boxes(run),
        "cost_usd": _cost(ledger.events(), run),
        "stages": [_stage(stage.label, stage.uses, run) for stage in run.plan.stages],
        "recipes": {stage.label: stage.recipe for stage in run.plan.stages if stage.recipe},
        "environments": _environments(run),
        "gates": [
            {name: gate[name] for name in ("label", "gate", "bound", "measured", "holds")}
            for gate in run.gates
        ],
        "artifacts": _artifacts(run),
    }


def write_receipt(ledger: Ledger) -> dict[str, Any]:
    """Write `receipt.json` and `receipt.md` into the run's folder and return the receipt."""
    receipt = receipt_of(ledger)
    atomic.write_json(ledger.folder / "receipt.json", receipt)
    atomic.write_text(ledger.folder / "receipt.md", render("receipt.md.j2", **receipt))
    return receipt


def _stage(label: str, uses: str, run: RunState) -> dict[str, Any]:
    stage = run.stages[label]
    was_timed = (
        stage.started_at and stage.ended_at
    )  # one that failed before its job could start was not
    seconds = round(stage.ended_at - stage.started_at, 1) if was_timed else None
    return {
        "label": label,
        "uses": uses,
        "status": stage.status.value,
        "seconds": seconds,
        "attempts": stage.attempts,
        "job": stage.job_id,
        "environment": stage.environment,
        "values": stage.values,
        "failure": stage.failure.get("what", ""),
    }


def _artifacts(run: RunState) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{stage.label}.{name}",
            **{key: fact for key, fact in vars(output).items() if key in _ARTIFACT_FACTS},
        }
        for stage in run.stages.values()
        if stage.status is Status.SUCCEEDED
        for name, output in stage.outputs.items()
        if isinstance(output, LaptopFile | StageArtifact)
    ]


def _environments(run: RunState) -> list[dict[str, Any]]:
    """The locks that the boxes' Python environments were installed from, each with the stages that
    ran in it."""
    found: dict[str, list[str]] = {}
    for stage in run.stages.values():
        if stage.environment:
            found.setdefault(stage.environment, []).append(stage.label)
    return [{"lock_sha256": lock, "stages": labels} for lock, labels in found.items()]


def _boxes(run: RunState) -> list[dict[str, Any]]:
    ready = [event for event in run.boxes if event["event"] == "box_ready"]
    unique = {event["id"]: event for event in ready}
    return [
        {
            name: event[name]
            for name in ("name", "provider", "id", "instance_type", "region", "hourly_usd")
        }
        for event in unique.values()
    ]


def _cost(events: list[Event], run: RunState) -> float | None:
    """Compute only: the price of an hour times the time the run held the box. Disks and addresses
    are not in it."""
    total, ready = 0.0, None
    for event in events:
        if (
            event["event"] == "box_ready" and event in run.boxes
        ):  # one that is damaged is not among them
            ready = ready or event
        held_until = event["event"] in ("box_stopped", "box_lost", "run_finished")
        if held_until and ready:
            hourly = 0.0 if ready["provider"] == "embedded" else ready["hourly_usd"]
            if hourly is None:
                return None
            total += hourly * (event["time"] - ready["time"]) / 3600
            ready = None
    return round(total, 4)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
