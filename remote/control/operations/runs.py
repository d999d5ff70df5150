"""Runs: what one would do, driving it with its receipt, ending its job, and the box it leaves."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.contract.job.stages import needs_base
from remote.control import backends
from remote.control.cloud import boxes
from remote.control.config import base_model
from remote.control.config.inventory import HostEntry
from remote.control.project import name_of
from remote.control.runs import engine, finish
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import Plan
from remote.control.runs.receipt import write_receipt
from remote.control.runs.reporter import NOBODY, Reporter
from remote.control.runs.state import RunState
from remote.control.runs.wiring import files_to_send

if TYPE_CHECKING:
    from remote.contract.job.jobs import JobState
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import BoxEntry, Inventory


@dataclass(frozen=True)
class Planned:
    """What a run would do. A stage has `stage`, `uses`, `where` and `what`; `sent` are the laptop's
    files that travel; `actions` are those of its `finally`; `steps` are to be done before it."""

    playbook: str
    box: str
    stages: list[dict[str, str]]
    sent: list[str]
    actions: list[str]
    steps: list[str]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        told = {"stages": self.stages, "sent": self.sent, "finally": self.actions}
        return {"playbook": self.playbook, "box": self.box, **told, "steps": self.steps}


def planned(plan: Plan, box: str, steps: Sequence[str] = ()) -> Planned:
    """What a run of `plan` would do on `box`. Raises ConfigError."""
    stages = [
        {
            "stage": stage.label,
            "uses": stage.uses,
            "where": "box" if stage.signature.runs_on == "backend" else "laptop",
            "what": stage.signature.about,
        }
        for stage in plan.stages
    ]
    sent = dict.fromkeys(name_of(path) for path in files_to_send(RunState("", plan)))
    return Planned(plan.name, box, stages, [*sent], [*plan.finally_], [*steps])


def base_steps(plan: Plan, entry: "BoxEntry") -> list[str]:
    """How the base models that a plan's recipes name get onto its box."""
    recipes = [
        stage.recipe
        for stage in plan.stages
        if stage.recipe and needs_base(stage.uses, stage.wiring)
    ]
    return base_model.steps([recipe["base"] for recipe in recipes], entry)


def drive(
    ledger: Ledger,
    inventory: "Inventory",
    purpose: str = "run",
    detach: bool = False,
    queue: bool = False,
    reporter: Reporter = NOBODY,
) -> RunState:
    """Bring a run to its end, as `engine.drive` does; however it ends, its receipt is written."""
    try:
        return engine.drive(ledger, inventory, purpose, detach, queue, reporter)
    finally:
        # The run's own error is the one to read; the receipt can be made again at any time.
        with contextlib.suppress(OSError):
            write_receipt(ledger)


def cancel(
    inventory: "Inventory",
    box: str,
    job_id: str,
    run_id: str = "",
    patience_seconds: float = 120,
    reporter: Reporter = NOBODY,
) -> "JobState":
    """End a job on a running box, with so many seconds for a last checkpoint, and do what the
    `finally` of its run says. One that had ended is only reported."""
    entry, say = inventory.box(box), reporter.say
    with backends.of_entry(entry, inventory, may_launch=False, say=say) as backend:
        state = backend.cancel(job_id, patience_seconds)
    finish.after_cancel(run_id, state, inventory, reporter)
    return state


def left_running(inventory: "Inventory", box: str) -> "Box | None":
    """The box, where it is a cloud's and runs: it may cost money. Raises what its cloud raises."""
    entry = inventory.box(box)
    found = None if isinstance(entry, HostEntry) else boxes.find(entry)
    return found if found and found.state == "running" else None
