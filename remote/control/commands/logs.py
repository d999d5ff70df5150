"""The log of a run's job."""

from typing import Any

from remote.control.commands.verb import verb

_RUN = "run id, or its beginning or end; the newest when left out"


@verb(
    positional=["run"],
    optional=["run"],
    help={
        "run": _RUN,
        "stage": "a stage's label; else the newest job",
        "follow": "go on until the job ends; Ctrl-C leaves it running",
    },
)
def logs(context: Any, run: str = "", stage: str = "", follow: bool = False) -> None:
    """Show the log of a run's job, and with -f follow it with progress, loss and ETA."""
    from remote.contract.jobs import Status
    from remote.control.config.inventory import load_inventory
    from remote.control.console import say
    from remote.control.errors import BoxStopped
    from remote.control.jobs.display import print_log, watch
    from remote.control.jobs.kept_log import bring
    from remote.control.jobs.of_run import job_of, way_to
    from remote.control.runs.ledger import find_run

    ledger = find_run(run or None)
    job = job_of(ledger, stage)
    log, metrics = ledger.folder / "logs" / f"{job.label}.log", ledger.folder / "metrics" / f"{job.label}.jsonl"
    hint = f"the job goes on; come back with `./inv logs {ledger.run_id} -f`"
    shown = print_log(log)
    if log.exists() and job.status in (Status.SUCCEEDED, Status.FAILED):
        return  # followed to its end: the whole log is here, whether the box still runs or not
    try:
        open_transport, box_root = way_to(job)
    except BoxStopped as error:
        if not (place := bring(load_inventory(), job.box, job.job_id, log)):
            error.kept = f"the log as far as it was followed, in {log}; `./inv resume {ledger.run_id}` goes on with the run"
            raise
        print_log(log, shown)
        say(f"{error.what}: this is what it put into {place}; `./inv resume {ledger.run_id}` goes on with the run", "yellow")
        return
    state = watch(open_transport, box_root, job.job_id, log, metrics, title=job.label, on_interrupt=hint, show_log=True, wait=follow)
    if state.status.is_final and state.status is not Status.SUCCEEDED:
        say(f"{job.label} is {state.status.value}: {state.what}. {state.why}\n`./inv resume {ledger.run_id}` goes on", "yellow")
