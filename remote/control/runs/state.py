"""What a ledger's events add up to. Pure: the same events give the same state on any laptop."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, regular_files
from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Status
from remote.control.backends.resolved import Resolved, of_json
from remote.control.errors import ArtifactCorrupt
from remote.control.runs.ledger import Event, Ledger
from remote.control.runs.plan import Plan, PlannedStage

_DEAREST = 1e6
"""Dollars an hour."""


@dataclass
class StageState:
    """How a stage of a run stands.

    `key` is the digest of everything that went in; `outputs` maps names to what came out; `values`
    are the measured numbers; times are seconds since the epoch. `environment` is the SHA-256 of the
    lock that the box's Python environment was installed from.
    """

    label: str
    status: Status = Status.PENDING
    key: str = ""
    job_id: str = ""
    box: str = ""
    outputs: dict[str, Resolved] = field(default_factory=dict)
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
    """How a run stands. `owed`: what of its `finally` has begun and is not known to be done, by
    action: `box`, its `id`, and `why`."""

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
    owed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def current(self) -> StageState | None:
        """The stage that has not ended well: running, failed, or the next to start."""
        return next(
            (stage for stage in self.stages.values() if stage.status is not Status.SUCCEEDED), None
        )

    def rest(self) -> Plan:
        """The plan less what has succeeded. More may run: a stage whose inputs changed, or whose
        box is lost, runs again."""
        stages = tuple(
            stage
            for stage in self.plan.stages
            if self.stages[stage.label].status is not Status.SUCCEEDED
        )
        return Plan(self.plan.name, stages, self.plan.finally_)

    @property
    def is_alive(self) -> bool:
        """Whether a job of the run may go on, as far as this laptop knows: no command has seen its
        end."""
        current = self.current()
        is_open = self.status in (Status.RUNNING, Status.INTERRUPTED)
        return is_open and bool(current and current.status is Status.RUNNING)

    def latest_job(self) -> StageState | None:
        """The newest stage that is, or was, a job on a box."""
        jobs = [stage for stage in self.stages.values() if stage.job_id]
        return max(jobs, key=lambda stage: stage.started_at, default=None)

    def has_done(self, uses: str) -> bool:
        """Whether a stage of that kind has succeeded."""
        return any(
            stage.uses == uses and self.stages[stage.label].status is Status.SUCCEEDED
            for stage in self.plan.stages
        )

    def owed_in_words(self) -> str:
        """`stop of box gpu`; empty where nothing is owed."""
        return ", ".join(f"{action} of box {facts['box']}" for action, facts in self.owed.items())

    def to_json(self) -> dict[str, Any]:
        """The state for scripts."""
        return {key: value for key, value in asdict(self).items() if key != "plan"} | {
            "playbook": self.plan.name
        }


def fold(run_id: str, events: Iterable[Event]) -> RunState:
    """The state that `events` lead to; an unknown event of a newer Windlass, and a damaged one, is
    skipped."""
    state = RunState(run_id, Plan("", ()))
    for event in events:
        apply = _APPLY.get(str(event["event"]))
        if apply is not None:
            with contextlib.suppress(
                KeyError, TypeError, ValueError, AttributeError, OverflowError
            ):
                apply(state, event)
    return state


def state_of(ledger: Ledger) -> RunState:
    """The run's state, out of its events; refreshes `state.json` beside them where the folder can
    be written."""
    try:
        events = ledger.events()
    except ArtifactCorrupt:  # a run without a plan: one bad row in a list; who drives it says why
        events = []
    state = fold(ledger.run_id, events)
    text = json.dumps(state.to_json(), indent=1, sort_keys=True, default=str) + "\n"
    path = ledger.folder / "state.json"
    with contextlib.suppress(OSError):
        if not _holds(path, text.encode()):
            atomic.write_text(path, text, mode=0o600)
    return state


def standing(ledger: Ledger, state: RunState) -> str:
    """How a run stands, in words: RUNNING while a command drives it, and no longer."""
    current = state.current()
    if ledger.is_driven():
        return str(Status.RUNNING.value)
    if state.status is Status.RUNNING:
        return "CUT OFF (no command follows it: ./inv resume)"
    if state.status is Status.FAILED and current and current.was_refused:
        return "BUSY (its job never began)"
    return str(state.status.value)


def _holds(path: Path, content: bytes) -> bool:
    """Whether the file is that: whatever else is there is made again."""
    try:
        return regular_files.content_of(path, len(content)) == content
    except (OSError, ValueError):
        return False


def _created(state: RunState, event: Event) -> None:
    plan, box, facts = (
        Plan.from_json(event["plan"]),
        _told(event, "box", str),
        _told(event, "facts", dict, {}),
    )
    state.plan, state.box, state.created_at, state.facts = plan, box, event["time"], facts
    state.stages = {stage.label: StageState(stage.label) for stage in state.plan.stages}


def _extended(state: RunState, event: Event) -> None:
    added = tuple(PlannedStage.from_json(stage) for stage in event["stages"])
    # One of a label that is there takes its place, so that what comes after it still does.
    stages = {stage.label: stage for stage in (*state.plan.stages, *added)}
    state.plan = Plan(state.plan.name, tuple(stages.values()), state.plan.finally_)
    for stage in added:
        state.stages[stage.label] = StageState(stage.label)
    state.status = Status.PENDING


def _begun(state: RunState, event: Event) -> None:
    state.status, state.ended_at = Status.RUNNING, 0.0


def _box(state: RunState, event: Event) -> None:
    if event["event"] == "box_ready":
        for name in ("name", "provider", "id", "instance_type", "region"):
            _told(event, name, str)
        price = event["hourly_usd"]
        if price is not None and not 0 <= float(price) < _DEAREST:
            raise ValueError("a price that no box has")
    state.boxes.append(event)


def _due(state: RunState, event: Event) -> None:
    names = ("box", "id", "why")
    state.owed[_told(event, "action", str)] = {name: _told(event, name, str, "") for name in names}


def _done(state: RunState, event: Event) -> None:
    state.owed.pop(_told(event, "action", str), None)


def _stage_started(state: RunState, event: Event) -> None:
    label = _told(event, "label", str)
    before = state.stages.get(label, StageState(label))
    state.stages[label] = StageState(
        label,
        Status.RUNNING,
        _told(event, "key", str),
        _told(event, "job_id", str, ""),
        _told(event, "box", str, ""),
        started_at=event["time"],
        attempts=before.attempts + 1,
    )


def _stage_finished(state: RunState, event: Event) -> None:
    stage, status = state.stages[event["label"]], Status(event["status"])
    outputs = {name: of_json(output) for name, output in _told(event, "outputs", dict, {}).items()}
    values, failure = _told(event, "values", dict, {}), _told(event, "failure", dict, {})
    stage.status, stage.ended_at, stage.outputs, stage.values, stage.failure = (
        status,
        event["time"],
        outputs,
        values,
        failure,
    )


def _stage_environment(state: RunState, event: Event) -> None:
    state.stages[event["label"]].environment = str(event["lock_sha256"])


def _stage_lost(state: RunState, event: Event) -> None:
    state.stages[event["label"]].status = Status.LOST


def _gate(state: RunState, event: Event) -> None:
    if not {"label", "gate", "bound", "measured", "holds"} <= event.keys():
        raise KeyError("a gate without its measure")
    state.gates = [
        gate
        for gate in state.gates
        if (gate["label"], gate["gate"]) != (event["label"], event["gate"])
    ] + [event]


def _finished(state: RunState, event: Event) -> None:
    state.status, state.ended_at = Status(event["status"]), event["time"]


def _told(event: Event, name: str, kind: Any, default: Any = None) -> Any:
    """What the event says by that name. Raises TypeError where that is of another kind."""
    if not isinstance(value := event.get(name, default), kind):
        raise TypeError(f"`{name}` is {type(value).__name__}")
    return value


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
    "finally_due": _due,
    "finally_done": _done,
}
