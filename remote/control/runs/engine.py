"""Drives a run through its plan. Kill it anywhere: the ledger, and the jobs on the box, say where
to go on.

Every stage has a key, the digest of all that goes into it. A stage that succeeded under the same
key is skipped; a job that still runs is followed; one that ended while nobody looked is taken over;
one that failed is started again.
"""

import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remote.contract.job.jobs import Cause, JobState, Status
from remote.contract.job.stages import STAGES
from remote.control import secrets
from remote.control.backends.base import Backend, JobRequest
from remote.control.backends.display import followed
from remote.control.backends.resolved import Resolved, StageArtifact
from remote.control.config.inventory import BoxEntry, Inventory
from remote.control.config.playbook import parse_gate
from remote.control.errors import (
    ArtifactCorrupt,
    BoxStopped,
    Busy,
    ConfigError,
    GateFailed,
    JobFailed,
    WindlassError,
)
from remote.control.faults import as_error
from remote.control.output.sanitize import last_lines, number
from remote.control.progress import detail, done, title, warning
from remote.control.project import code_state
from remote.control.runs import wiring
from remote.control.runs.artifacts import pulled_path
from remote.control.runs.finish import backend_of, see_to, settle
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import Plan, PlannedStage, plan_of
from remote.control.runs.reporter import NOBODY, Reporter
from remote.control.runs.state import RunState, StageState, state_of
from remote.control.runs.verbs import VERBS, Made, Task, rollback

MOVES = 5
"""How often a command looks for another box after the cloud took one back; `inv resume` begins to
count anew."""


def prepare_run(playbook: str, inventory: Inventory, box: str = "") -> tuple[Plan, BoxEntry]:
    """The plan of a playbook file and the box it is for; raises ConfigError with every finding of
    `inv check`."""
    from remote.control.config.checks.check import check
    from remote.control.config.playbook import load_playbook

    loaded = load_playbook(playbook)
    entry = inventory.box(box or loaded.box)
    if findings := check(loaded, inventory, entry.name):
        raise ConfigError(findings)
    plan = plan_of(loaded)
    _secrets_for(plan, inventory)
    return plan, entry


def begin(plan: Plan, box: BoxEntry) -> Ledger:
    """A new run of `plan` on `box`, written down but not started."""
    ledger = Ledger.create(plan.name)
    try:
        ledger.append("run_created", plan=plan.to_json(), box=box.name, facts=code_state())
    except OSError:  # a full disk: a run without a plan is none
        shutil.rmtree(ledger.folder, ignore_errors=True)
        raise
    return ledger


def drive(
    ledger: Ledger,
    inventory: Inventory,
    purpose: str = "run",
    detach: bool = False,
    queue: bool = False,
    reporter: Reporter = NOBODY,
) -> RunState:
    """Bring a run to its end and return its state; `reporter` shows it meanwhile. With `detach`,
    leave once the training has started, or stands in line.

    Raises the WindlassError of the stage that failed; Busy when another command drives the run, or
    when another job has the box's GPU: with `queue` the run waits in line for it instead, as it
    does once it has had the GPU. The run's `finally` is done after success and after a failure, but
    not after Ctrl-C or for a box that is Busy: the job on the box goes on. What an earlier command
    left owed of it is done now.
    """
    with ledger.locked(purpose):
        state = state_of(ledger)
        if not state.plan.stages:
            raise _without_plan(ledger)
        for number in ledger.unread():
            lost = "no event, and left out; what it told is done again"
            reporter.say(warning(f"{ledger.path}, line {number}: {lost}"))
        if state.status is Status.SUCCEEDED:
            settle(ledger, inventory, reporter)
            return state_of(ledger)
        given = _secrets_for(state.rest(), inventory)
        ledger.append("run_begun", purpose=purpose)
        with backend_of(ledger, inventory, state.box, reporter) as backend:
            return _Drive(ledger, inventory, backend, reporter, detach, queue, given).to_the_end()


def _secrets_for(plan: Plan, inventory: Inventory) -> dict[str, str]:
    """What the jobs of a plan get. Raises ConfigError where this laptop lacks one: before a box is
    launched, and billed, for such a run."""
    jobs = [stage for stage in plan.stages if stage.signature.is_job]
    named = {
        name: f"the recipe of {stage.label}, secrets" for stage in jobs for name in stage.secrets
    }
    return secrets.values(inventory, named) if jobs else {}


def _without_plan(ledger: Ledger) -> ArtifactCorrupt:
    remedy = "bring that file back from a backup, or run the playbook anew: `./inv run PLAYBOOK`"
    damaged = ", ".join(map(str, ledger.unread()[:5]))
    why = "its first line, which holds the plan, is missing or damaged" + (
        f"; no event: line {damaged}" if damaged else ""
    )
    return ArtifactCorrupt(
        f"the ledger of run {ledger.run_id} cannot be used",
        where=str(ledger.path),
        why=why,
        remedy=remedy,
    )


class _Drive:
    """One command driving one run."""

    def __init__(
        self,
        ledger: Ledger,
        inventory: Inventory,
        backend: Backend,
        reporter: Reporter,
        detach: bool,
        queue: bool,
        given: dict[str, str],
    ) -> None:
        self.ledger, self.inventory, self.backend = ledger, inventory, backend
        self.detach, self.queue, self.secrets = detach, queue, given
        self.reporter, self.say = reporter, reporter.say
        self.is_following = False
        self.run = state_of(ledger)

    def _fold(self) -> RunState:
        """The run as its ledger has it now: once for each step, which then goes by `self.run`."""
        self.run = state_of(self.ledger)
        return self.run

    def to_the_end(self) -> RunState:
        try:
            detached = self._run_stages_wherever()
        except Exception as error:
            told = as_error(
                error
            )  # also what nobody foresaw: a box must not be left running, and billed, for it
            self._give_up(told)
            told.remedy = self._with_run_id(told.remedy)
            told.kept = (
                told.kept
                or f"every finished stage; `./inv resume {self.ledger.run_id}` goes on from there"
            )
            raise told from None
        return self._fold() if detached else self._finish(Status.SUCCEEDED)

    def _run_stages_wherever(self) -> bool:
        """Run the stages, on another box when the cloud takes this one back; returns whether one
        was left running on the box."""
        for move in range(1, MOVES + 2):
            try:
                self._name_files_to_send()
                self._forget_what_the_box_lost()
                return self._run_stages()
            except WindlassError as error:
                why = self.backend.taken_back(error)
                if not why or move > MOVES:
                    raise
                self._move(why, f"move {move} of {MOVES}")
        raise AssertionError("the last move either ends the run or raises")

    def _move(self, why: str, number: str) -> None:
        """Leave a place that was taken away; what it still holds of any run is saved first."""
        taken = f"box {self.backend.name} was taken back by the cloud ({why})"
        self.say(warning(f"{taken}; {number}: looking for another one"))
        self.backend.leave(why)
        for stage in self._fold().plan.stages:
            is_measured = self.run.stages[stage.label].status is Status.SUCCEEDED
            if stage.uses == "preflight" and is_measured:  # another place is to be measured anew
                self.ledger.append("stage_lost", label=stage.label)

    def _run_stages(self) -> bool:
        """Run every stage that is not done; returns whether one was left running."""
        stages = self.run.plan.stages
        titles = [
            f"[{number}/{len(stages)}] {stage.label}" for number, stage in enumerate(stages, 1)
        ]
        return any(
            self._run_stage(stage, numbered) for stage, numbered in zip(stages, titles, strict=True)
        )

    def _run_stage(self, stage: PlannedStage, numbered: str) -> bool:
        """Run one stage unless its work is done; returns whether it was left running on the box."""
        run = self._fold()
        inputs = wiring.inputs_of(stage, run)
        key, before = wiring.key_of(stage, inputs), run.stages[stage.label]
        if before.status is Status.SUCCEEDED and before.key == key:
            self.say(detail(f"{numbered}: done before"))
            return False
        self.say(title(f"{numbered}: {STAGES[stage.uses].about}"))
        began = time.monotonic()
        try:
            work = self._run_job if stage.signature.is_job else self._run_here
            made = work(stage, inputs, key)
        except WindlassError as error:
            if not self._job_may_go_on(error):
                self._stage_failed(stage, error)
            raise
        if made is None:
            return True
        self._check_gates(stage, inputs, made[1])
        self.ledger.append(
            "stage_finished",
            label=stage.label,
            status=Status.SUCCEEDED.value,
            outputs={name: asdict(output) for name, output in made[0].items()},
            values=made[1],
        )
        self.say(done(f"  {time.monotonic() - began:.1f} s  {_summary(made[1])}"))
        return False

    def _run_here(self, stage: PlannedStage, inputs: dict[str, Resolved], key: str) -> Made:
        self.ledger.append("stage_started", label=stage.label, key=key)
        return VERBS[stage.uses](self._task(stage, inputs))

    def _run_job(self, stage: PlannedStage, inputs: dict[str, Resolved], key: str) -> Made | None:
        job = self._request(stage, inputs, key)
        before = self.run.stages[stage.label]
        is_again = before.job_id == job.job_id
        self.backend.ready()
        if not is_again or before.status is not Status.RUNNING:
            facts = {"key": key, "job_id": job.job_id, "box": self.backend.name}
            self.ledger.append("stage_started", label=stage.label, **facts)
        names = {*self.inventory.secrets, *stage.secrets}
        given = {name: value for name, value in self.secrets.items() if name in names}
        state = self.backend.start(job, is_again=is_again, queue=self.queue, secrets=given)
        # A run that has had the GPU once waits for it from then on: another one's turn between two
        # stages is no reason to fail.
        self.queue = self.queue or job.exclusive
        if self.detach and stage.uses == "train" and not state.status.is_final:
            how = f"in line, place {state.place}, " if state.place else "running "
            ways = f"`./inv logs {self.ledger.run_id} -f` follows, `./inv resume` finishes"
            self.say(detail(f"  left {how}on {self.backend.name}; {ways}"))
            return None
        last = self._follow(stage, state)
        if last.environment:
            self.ledger.append("stage_environment", label=stage.label, lock_sha256=last.environment)
        if last.status is not Status.SUCCEEDED:
            raise self._job_failed(stage, self.backend.saved(last))
        return wiring.outputs_of_job(last, self.backend.name), last.values

    def _request(self, stage: PlannedStage, inputs: dict[str, Resolved], key: str) -> JobRequest:
        # The id holds the key: the same work is the same job, whoever asks for it and how often.
        return JobRequest(
            f"{self.ledger.run_id}-{stage.label}-{key[:8]}",
            stage.uses,
            self.ledger.run_id,
            inputs,
            wiring.options_of(stage),
            stage.recipe,
            wiring.environment_of(stage, inputs),
            stage.signature.is_exclusive,
        )

    def _follow(self, stage: PlannedStage, job: JobState) -> JobState:
        hint = (
            f"the job goes on; come back with `./inv resume {self.ledger.run_id}`, or end it with"
            f" `./inv cancel {self.ledger.run_id}`"
        )
        log = self.ledger.folder / "logs" / f"{stage.label}.log"
        metrics = self.ledger.folder / "metrics" / f"{stage.label}.jsonl"
        self.is_following = True
        with followed(self.reporter.job, stage.label, hint) as display:
            last = self.backend.follow(job.job_id, log, metrics, display)
        self.is_following = False
        return last

    def _job_failed(self, stage: PlannedStage, job: JobState) -> JobFailed:
        log = self.ledger.folder / "logs" / f"{stage.label}.log"
        return JobFailed(
            f"{stage.label}: {job.what or job.status.value.lower()}",
            cause=job.cause or Cause.CODE,
            where=f"{self.backend.where}, job {job.job_id}",
            why=job.why or ("" if job.what else _tail(log)),
            kept=job.kept,
            remedy=(
                self._with_run_id(job.remedy)
                or f"read {log}, then `./inv resume {self.ledger.run_id}`"
            )
            + self._more_time(job),
        )

    def _more_time(self, job: JobState) -> str:
        how = self.backend.more_time() if job.cause is Cause.DEADMAN else ""
        return f"; {how}" if how else ""

    def _with_run_id(self, remedy: str) -> str:
        # A stage knows nothing of runs: it says `./inv resume`, and the exact command is spelled
        # here.
        named = f"`./inv resume {self.ledger.run_id}"
        remedy = remedy.replace("`./inv resume`", f"{named}`").replace(
            "inv resume --", f"inv resume {self.ledger.run_id} --"
        )
        return remedy.replace(" RUN", f" {self.ledger.run_id}")

    def _check_gates(
        self, stage: PlannedStage, inputs: dict[str, Resolved], values: dict[str, Any]
    ) -> None:
        failed = []
        for name, gate in stage.gates.items():
            passed = parse_gate(gate).holds(values.get(name))
            self.ledger.append(
                "gate",
                label=stage.label,
                gate=name,
                bound=gate,
                measured=values.get(name),
                holds=passed,
            )
            if not passed:
                failed.append(f"{name} is {_measured(values.get(name))}, must be {gate}")
        if failed:
            self._give_back(stage, inputs)
            error = GateFailed(
                f"{stage.label}: {'; '.join(failed)}",
                remedy=(
                    f"with better data, `./inv resume {self.ledger.run_id}`; with another recipe or"
                    " gate, which a run keeps from its beginning, `./inv run` the playbook anew"
                ),
            )
            self._stage_failed(stage, error)
            raise error

    def _give_back(self, stage: PlannedStage, inputs: dict[str, Resolved]) -> None:
        if stage.on_failure != "rollback":
            return
        model = inputs["model"].identity
        try:
            rollback(self._task(stage, inputs))
        except WindlassError as error:  # the gate that failed is the error to read
            self.say(warning(f"  not rolled back: {error.what}"))
            return
        self.ledger.append("rolled_back", label=stage.label, model=model)
        self.say(warning(f"  rolled back: {model} is what stood there before"))

    def _stage_failed(self, stage: PlannedStage, error: WindlassError) -> None:
        self.ledger.append(
            "stage_finished",
            label=stage.label,
            status=_status_after(error).value,
            failure=error.to_json(),
        )

    def _task(self, stage: PlannedStage, inputs: dict[str, Resolved]) -> Task:
        return Task(stage, inputs, self.backend, self.ledger, self.inventory, self.reporter)

    def _forget_what_the_box_lost(self) -> None:
        """A stage whose artifacts a later stage still needs from the box runs again when the box
        has lost the job."""
        there: set[str] = set()
        while (
            asked := self._stages_needed_from_box(self._fold()) - there
        ):  # what a lost stage needs is needed in its turn
            for label in asked:
                if not self._is_lost(self.run.stages[label]):
                    there.add(label)
                    continue
                gone = "its artifacts are gone from the box, so it runs again"
                self.say(warning(f"{label}: {gone}"))
                self.ledger.append("stage_lost", label=label)

    def _stages_needed_from_box(self, run: RunState) -> set[str]:
        """The labels of finished jobs whose artifacts the stages still to run will read where the
        jobs run."""
        waiting = [
            stage
            for stage in run.plan.stages
            if run.stages[stage.label].status is not Status.SUCCEEDED
        ]
        needed = {
            label
            for stage in waiting
            for value in stage.wiring.values()
            if (label := self._needed_from_box(stage, value, run))
        }
        return {
            label
            for label in needed
            if run.stages[label].status is Status.SUCCEEDED and run.stages[label].job_id
        }

    def _needed_from_box(self, stage: PlannedStage, value: Any, run: RunState) -> str | None:
        """The label of the stage whose job must still be there for `stage` to get `value`; None
        when it is on the laptop, or no job's."""
        reference = wiring.reference_of(value, run)
        if reference is None:
            return None
        made = run.stages[reference.stage].outputs.get(reference.output)
        if not isinstance(made, StageArtifact):
            return None
        is_here = (
            stage.signature.runs_on == "laptop"
            and pulled_path(self.ledger, reference.stage, made).exists()
        )
        return None if is_here else reference.stage

    def _is_lost(self, stage: StageState) -> bool:
        found = self.backend.state(stage.job_id, restore=True)
        return found is None or found.status is not Status.SUCCEEDED

    def _name_files_to_send(self) -> None:
        self.backend.files = wiring.files_to_send(self._fold())

    def _finish(self, status: Status) -> RunState:
        with ExitStack() as closing:
            closing.callback(lambda: self.ledger.append("run_finished", status=status.value))
            see_to(self.run.plan.finally_, self.backend, self.ledger)
            if status is Status.SUCCEEDED:
                self.backend.sweep()
        return self._fold()

    def _job_may_go_on(self, error: WindlassError) -> bool:
        """Whether only the laptop lost sight of a job: the connection broke, or this laptop's disk
        is full."""
        is_over = isinstance(error, BoxStopped) or (
            isinstance(error, JobFailed) and error.cause is Cause.LOST
        )
        return self.is_following and not is_over

    def _give_up(self, error: WindlassError) -> None:
        """After a failure do what `finally` says; but a box whose job may go on, or that is Busy,
        is left as it is."""
        # The first error is the one to read: a second one, of the clean-up, must not hide it.
        try:
            if isinstance(error, Busy):
                self.ledger.append(
                    "run_finished", status=Status.FAILED.value
                )  # what works there is another's
            elif self._job_may_go_on(error):
                self.ledger.append("run_finished", status=Status.INTERRUPTED.value)
                left = f"box {self.backend.name} is left as it is"
                self.say(warning(f"  {left}, for the job may go on there"))
            else:
                self._finish(_status_after(error))
        except Exception as second:
            told = as_error(second)
            self.say(warning(f"  finally did not work either: {told.what}"))
            self.say(warning(f"  {self._with_run_id(told.remedy)}"))


def _status_after(error: WindlassError) -> Status:
    return (
        Status.CANCELLED
        if isinstance(error, JobFailed) and error.cause is Cause.CANCELLED
        else Status.FAILED
    )


def _summary(values: dict[str, Any]) -> str:
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return "  ".join(f"{name} {_measured(value)}" for name, value in numbers.items())


def _measured(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (
        number(value)
        if isinstance(value, float)
        else "not measured"
        if value is None
        else str(value)
    )


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:  # its end alone: the log of a long training is large
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
            return last_lines(file.read(), 5)
    except FileNotFoundError:
        return ""
