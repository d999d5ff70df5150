"""What a ledger's events add up to. Pure: the same events give the same state on any laptop."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from remote.contract import atomic
from remote.contract.exits import Exit
from remote.contract.jobs import Status
from remote.control.runs.ledger import Event, Ledger
from remote.control.runs.plan import Plan, PlannedStage


@dataclass
class StageState:
    """How a stage of a run stands.

    `key` is the digest of everything that went in; `outputs` maps names to what came out (see
    `remote.control.runs.wiring`); `values` are the measured numbers; times are seconds since the epoch. `environment` is
    the SHA-256 of the lock that the box's Python environment was installed from.
    """

    label: str
    status: Status = Status.PENDING
    key: str = ""
    job_id: str = ""
    box: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    started_at: float = 0.0
    ended_at: float = 0.0
    failure: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    environment: str = ""

    @property
    def was_refused(self) -> bool:
        """Whether the box worked for another job, so that its own never began."""
        return self.failure.get("exit_code") == int(Exit.BUSY)


@dataclass
class RunState:
    """How a run stands."""

    run_id: str
    plan: Plan
    box: str = ""
    status: Status = Status.PENDING
    created_at: float = 0.0
    ended_at: float = 0.0
    stages: dict[str, StageState] = field(default_factory=dict)
    boxes: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)

    def current(self) -> StageState | None:
        """The stage that has not ended well: running, failed, or the next to start."""
        return next((stage for stage in self.stages.values() if stage.status is not Status.SUCCEEDED), None)

    def rest(self) -> Plan:
        """The plan less what has succeeded. More may run: a stage whose inputs changed, or whose box is lost, runs again."""
        stages = tuple(stage for stage in self.plan.stages if self.stages[stage.label].status is not Status.SUCCEEDED)
        return Plan(self.plan.name, stages, self.plan.finally_)

    def latest_job(self) -> StageState | None:
        """The newest stage that is, or was, a job on a box."""
        jobs = [stage for stage in self.stages.values() if stage.job_id]
        return max(jobs, key=lambda stage: stage.started_at, default=None)

    def to_json(self) -> dict[str, Any]:
        """The state for scripts."""
        return {key: value for key, value in asdict(self).items() if key != "plan"} | {"playbook": self.plan.name}


def fold(run_id: str, events: Iterable[Event]) -> RunState:
    """The state that `events` lead to; an unknown event of a newer Windlass, and a damaged one, is skipped."""
    state = RunState(run_id, Plan("", ()))
    for event in events:
        apply = _APPLY.get(str(event["event"]))
        if apply is not None and isinstance(event.get("time"), int | float):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                apply(state, event)
    return state


def state_of(ledger: Ledger) -> RunState:
    """The run's state, out of its events; refreshes `state.json` beside them where the folder can be written."""
    state = fold(ledger.run_id, ledger.events())
    text = json.dumps(state.to_json(), indent=1, sort_keys=True, default=str) + "\n"
    path = ledger.folder / "state.json"
    with contextlib.suppress(OSError):
        if not path.exists() or path.read_text() != text:
            atomic.write_text(path, text)
    return state


def _created(state: RunState, event: Event) -> None:
    state.plan = Plan.from_json(event["plan"])
    state.box, state.created_at, state.facts = event["box"], event["time"], event.get("facts", {})
    state.stages = {stage.label: StageState(stage.label) for stage in state.plan.stages}


def _extended(state: RunState, event: Event) -> None:
    added = tuple(PlannedStage(**stage) for stage in event["stages"])
    # One of a label that is there takes its place, so that what comes after it still does.
    stages = {stage.label: stage for stage in (*state.plan.stages, *added)}
    state.plan = Plan(state.plan.name, tuple(stages.values()), state.plan.finally_)
    for stage in added:
        state.stages[stage.label] = StageState(stage.label)
    state.status = Status.PENDING


def _begun(state: RunState, event: Event) -> None:
    state.status, state.ended_at = Status.RUNNING, 0.0


def _box(state: RunState, event: Event) -> None:
    state.boxes.append(event)


def _stage_started(state: RunState, event: Event) -> None:
    before = state.stages.get(event["label"], StageState(event["label"]))
    state.stages[event["label"]] = StageState(
        event["label"],
        Status.RUNNING,
        event["key"],
        event.get("job_id", ""),
        event.get("box", ""),
        started_at=event["time"],
        attempts=before.attempts + 1,
    )


def _stage_finished(state: RunState, event: Event) -> None:
    stage = state.stages[event["label"]]
    stage.status, stage.ended_at = Status(event["status"]), event["time"]
    stage.outputs, stage.values = event.get("outputs", {}), event.get("values", {})
    stage.failure = event.get("failure", {})


def _stage_environment(state: RunState, event: Event) -> None:
    state.stages[event["label"]].environment = str(event["lock_sha256"])


def _stage_lost(state: RunState, event: Event) -> None:
    state.stages[event["label"]].status = Status.LOST


def _gate(state: RunState, event: Event) -> None:
    state.gates = [gate for gate in state.gates if (gate["label"], gate["gate"]) != (event["label"], event["gate"])] + [event]


def _finished(state: RunState, event: Event) -> None:
    state.status, state.ended_at = Status(event["status"]), event["time"]


_APPLY = {
    "run_created": _created,
    "run_extended": _extended,
    "run_begun": _begun,
    "box_ready": _box,
    "box_stopped": _box,
    "box_lost": _box,
    "stage_started": _stage_started,
    "stage_finished": _stage_finished,
    "stage_environment": _stage_environment,
    "stage_lost": _stage_lost,
    "gate": _gate,
    "run_finished": _finished,
}
