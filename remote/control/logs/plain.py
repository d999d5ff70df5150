"""The log of one job of this laptop's own runs, whole: out of the exact copy that the laptop keeps, which is brought up to date."""

from remote.contract.jobs import Status
from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.console import say
from remote.control.errors import BoxStopped
from remote.control.jobs.display import print_log, watch
from remote.control.jobs.kept_log import bring
from remote.control.targets import OfRun
from remote.control.transport.connect import connect


def show(source: OfRun, follow: bool) -> None:
    """Print it; with `follow` go on with progress, loss and ETA until the job ends. Raises BoxStopped where nobody has more of it."""
    ledger, job = source.ledger, source.job
    log, metrics = source.log, ledger.folder / "metrics" / f"{job.label}.jsonl"
    hint = f"the job goes on; come back with `./inv logs {ledger.run_id} -f`"
    shown = print_log(log)
    if source.is_whole_here:
        return
    try:
        box = boxes.running(load_inventory().box(job.box))
    except BoxStopped as error:
        if not (place := bring(load_inventory(), job.box, job.job_id, log)):
            error.kept = f"the log as far as it was followed, in {log}; `./inv resume {ledger.run_id}` goes on with the run"
            raise
        print_log(log, shown)
        say(f"{error.what}: this is what it put into {place}; `./inv resume {ledger.run_id}` goes on with the run", "yellow")
        return
    state = watch(lambda: connect(box), box.root, job.job_id, log, metrics, title=job.label, on_interrupt=hint, show_log=True, wait=follow)
    if state.status.is_final and state.status is not Status.SUCCEEDED:
        say(f"{job.label} is {state.status.value}: {state.what}. {state.why}\n`./inv resume {ledger.run_id}` goes on", "yellow")
