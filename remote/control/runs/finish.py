"""What a playbook's `finally` does to the box, and when it must not: a box that works for another
run is left alone.

What has begun and is not known to be done is owed: it stands in the ledger from before it begins,
so that neither an error nor a kill lets a box go on costing money unheard of, and the next command
on that run does it again.
"""

from collections.abc import Sequence
from contextlib import suppress

from remote.contract.job.jobs import JobState, Status
from remote.control import backends
from remote.control.backends.base import Backend
from remote.control.config.inventory import Inventory
from remote.control.errors import Busy, WindlassError
from remote.control.faults import as_error
from remote.control.progress import detail, warning
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.reporter import Reporter
from remote.control.runs.state import RunState, state_of

_MAY_WORK = (Status.RUNNING, Status.INTERRUPTED)
"""Runs with a job that may go on: INTERRUPTED is what a laptop calls one that it lost sight of."""


def backend_of(
    ledger: Ledger, inventory: Inventory, box: str, reporter: Reporter, may_launch: bool = True
) -> Backend:
    """Where the jobs of a run go."""
    return backends.of_entry(
        inventory.box(box),
        inventory,
        ledger.run_id,
        ledger.append,
        may_launch,
        reporter.say,
        reporter.bytes,
    )


def see_to(actions: Sequence[str], backend: Backend, ledger: Ledger) -> None:
    """Do what a run's `finally` says; what is not done at the end of it is owed. Raises the first
    WindlassError, after all were tried."""
    for action in actions:
        with suppress(OSError):  # a full disk must not keep the box running
            ledger.append("finally_due", action=action, box=backend.name, id=_box_id(ledger))
    failed: list[WindlassError] = []
    for action in actions:
        try:
            stages = state_of(ledger).stages.values()
            is_done = all(stage.status is Status.SUCCEEDED for stage in stages)
            backend.finish(action, lambda: _run_working_on(backend, ledger), is_done)
        except Exception as error:
            failed.append(_still_due(action, backend, ledger, as_error(error)))
        else:
            ledger.append("finally_done", action=action)
    if failed:
        raise failed[0]


def settle(ledger: Ledger, inventory: Inventory, reporter: Reporter) -> None:
    """Do what a run owes. For who holds the run's lock. Raises WindlassError where it cannot be
    done now either."""
    run = state_of(ledger)
    if not run.owed:
        return
    reporter.say(warning(f"still owed by run {run.run_id}: {run.owed_in_words()}"))
    with backend_of(ledger, inventory, run.box, reporter, may_launch=False) as backend:
        for action in [
            action for action, facts in run.owed.items() if backend.is_another(facts["id"])
        ]:
            why = f"box {backend.name} is another machine by now"
            reporter.say(warning(f"  {action} is not done: {why}"))
            ledger.append("finally_done", action=action)
        see_to([*state_of(ledger).owed], backend, ledger)


def after_cancel(run_id: str, job: JobState, inventory: Inventory, reporter: Reporter) -> None:
    """After `cancel`: where the run is this laptop's and no command drives it, record its end and
    do what its `finally` says, or what it owes of that. A command that drives it sees the end of
    the job, and does all of this itself."""
    ledger = next((run for run in all_runs() if run_id and run.run_id == run_id), None)
    if ledger is None:
        return
    try:
        with ledger.locked("cancel"):
            _record(ledger, job, inventory, reporter)
    except Busy:
        reporter.say(detail("  the command that drives the run ends it"))


def _record(ledger: Ledger, job: JobState, inventory: Inventory, reporter: Reporter) -> None:
    run = state_of(ledger)
    label = _stage_of(run, job)
    if job.status is not Status.CANCELLED or not label:
        settle(ledger, inventory, reporter)
        return
    failure = {"what": job.what, "why": job.why, "remedy": job.remedy, "kept": job.kept}
    ledger.append("stage_finished", label=label, status=job.status.value, failure=failure)
    ledger.append("run_finished", status=job.status.value)
    with backend_of(ledger, inventory, run.box, reporter, may_launch=False) as backend:
        see_to(run.plan.finally_, backend, ledger)


def _stage_of(run: RunState, job: JobState) -> str:
    """The stage that waits for that job; empty where its end was recorded before."""
    waiting = (
        stage.label
        for stage in run.stages.values()
        if stage.job_id == job.job_id and stage.status is Status.RUNNING
    )
    return next(waiting, "")


def _still_due(
    action: str, backend: Backend, ledger: Ledger, error: WindlassError
) -> WindlassError:
    why = "; ".join(filter(None, (error.what, error.why)))
    with suppress(OSError):
        ledger.append("finally_due", action=action, box=backend.name, id=_box_id(ledger), why=why)
    again = (
        f"`./inv resume {ledger.run_id}` does `finally: {action}` again: until then box"
        f" {backend.name} may run on, and cost money"
    )
    error.remedy = f"{error.remedy}; {again}" if error.remedy else again
    return error


def _box_id(ledger: Ledger) -> str:
    """The box that the run used last, as the cloud names it; empty where it used none."""
    return next(
        (
            str(event["id"])
            for event in reversed(state_of(ledger).boxes)
            if event["event"] == "box_ready"
        ),
        "",
    )


def _run_working_on(backend: Backend, ours: Ledger) -> str | None:
    for ledger in all_runs():
        run = state_of(ledger)
        is_another = (
            ledger.run_id != ours.run_id and run.box == backend.name and run.status in _MAY_WORK
        )
        if is_another and (ledger.is_driven() or _has_a_running_job(backend, run)):
            return ledger.run_id
    return None


def _has_a_running_job(backend: Backend, run: RunState) -> bool:
    job = run.latest_job()
    if job is None or job.status is not Status.RUNNING:
        return False
    found = backend.state(job.job_id)
    return found is not None and not found.status.is_final
