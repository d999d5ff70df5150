"""The job that a run stands at, and the way to it."""

from collections.abc import Callable

from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.errors import NotFound
from remote.control.runs.ledger import Ledger
from remote.control.runs.state import StageState, state_of
from remote.control.transport.base import Transport
from remote.control.transport.connect import connect


def job_of(ledger: Ledger, label: str = "") -> StageState:
    """The job of a run's stage, or its newest job. Raises NotFound where there is none."""
    run = state_of(ledger)
    job = run.stages.get(label) if label else run.latest_job()
    if job and job.job_id:
        return job
    known = [stage.label for stage in run.stages.values() if stage.job_id]
    what = f"run {ledger.run_id} has {f'no job of a stage `{label}`' if label else 'no job yet'}"
    remedy = f"`./inv logs {ledger.run_id} --stage {known[-1]}`" if known else f"`./inv resume {ledger.run_id}`"
    raise NotFound(what, why=f"stages with a job: {', '.join(known) or 'none yet'}", remedy=remedy)


def begun_job_of(ledger: Ledger, label: str = "", lacks: str = "job") -> StageState:
    """As `job_of`. Raises NotFound for one that never began, because the box worked for another job: there is no `lacks` of it."""
    job = job_of(ledger, label)
    if not job.was_refused:
        return job
    remedy = f"`./inv resume {ledger.run_id} --queue` starts it as soon as the box is free; `./inv logs {job.box} -f` shows the other"
    what, why = f"{job.label} of run {ledger.run_id} has no {lacks}: it never began", str(job.failure.get("what", ""))
    raise NotFound(what, where=f"box {job.box}", why=why, remedy=remedy)


def way_to(job: StageState) -> tuple[Callable[[], Transport], str]:
    """How its box is reached, and the root of Windlass there. Raises BoxStopped where the box does not run."""
    box = boxes.running(load_inventory().box(job.box))
    return (lambda: connect(box)), box.root
