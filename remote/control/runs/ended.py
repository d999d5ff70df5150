"""A run whose job was ended by a command that does not drive it."""

from remote.contract.job.jobs import JobState, Status
from remote.control.config.inventory import load_inventory
from remote.control.errors import Busy
from remote.control.output.console import say
from remote.control.runs.finish import backend_of, see_to, settle
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.state import RunState, state_of


def by_cancel(run_id: str, job: JobState) -> None:
    """After `cancel`: where the run is this laptop's and no command drives it, record its end and
    do what its `finally` says, or what it owes of that. A command that drives it sees the end of
    the job, and does all of this itself."""
    ledger = next((run for run in all_runs() if run_id and run.run_id == run_id), None)
    if ledger is None:
        return
    try:
        with ledger.locked("cancel"):
            _record(ledger, job)
    except Busy:
        say("  the command that drives the run ends it", "dim")


def _record(ledger: Ledger, job: JobState) -> None:
    inventory, run = load_inventory(), state_of(ledger)
    label = _stage_of(run, job)
    if job.status is not Status.CANCELLED or not label:
        settle(ledger, inventory)
        return
    failure = {"what": job.what, "why": job.why, "remedy": job.remedy, "kept": job.kept}
    ledger.append("stage_finished", label=label, status=job.status.value, failure=failure)
    ledger.append("run_finished", status=job.status.value)
    with backend_of(ledger, inventory, run.box, may_launch=False) as backend:
        see_to(run.plan.finally_, backend, ledger)


def _stage_of(run: RunState, job: JobState) -> str:
    """The stage that waits for that job; empty where its end was recorded before."""
    waiting = (
        stage.label
        for stage in run.stages.values()
        if stage.job_id == job.job_id and stage.status is Status.RUNNING
    )
    return next(waiting, "")
