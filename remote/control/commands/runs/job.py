"""The jobs of a run: list, come back, cancel, bring the artifacts home."""

from collections.abc import Sequence
from typing import Any

from remote.control.commands.program.verb import verb

_RUN = (
    "run id, or its beginning or end; when left out the one that is alive, else the newest with"
    " artifacts"
)
_COME_BACK = (
    "the job goes on; come back with `./inv attach {name}`, or end it with `./inv cancel {name}`"
)
_UNTOLD = "`./inv doctor` examines laptop and account, `./inv start NAME` a box"
_ANY_JOB = (
    "run id or job id, or its beginning or end, or a box; else the run that is alive, or (no run"
    " here) the only job"
)


@verb(
    positional=["names"],
    help={
        "names": "boxes or groups (default: all of inventory.yaml)",
        "all": "also jobs that have ended",
        "json": "print as JSON",
    },
)
def ps(_context: Any, names: Sequence[str] = (), all: bool = False, json: bool = False) -> None:
    """List the jobs under way on all boxes.

    The boxes are asked, so it works from any laptop with this inventory. Times are UTC.
    """
    from remote.control import targets
    from remote.control.cloud import boxes
    from remote.control.commands.views.progress import say
    from remote.control.commands.views.runs import jobs as views
    from remote.control.config.inventory import load_inventory
    from remote.control.errors import BoxUnreachable
    from remote.control.jobs import table
    from remote.control.output import console

    inventory = load_inventory()
    listing = targets.boxes_of(inventory, names or inventory.places)
    found, silent = table.look(listing, say)
    jobs = [job for job in found if all or not job.state.status.is_final]
    silent += boxes.unknown(listing)
    if silent and len(silent) == sum(
        box.state in ("running", "unknown") for box in listing
    ):  # `[]` would tell a script: nothing runs
        raise BoxUnreachable("no box tells of its jobs", why="; ".join(silent), remedy=_UNTOLD)
    for line in silent:
        console.say(f"not asked: {line}", "yellow")
    if json:
        console.print_json([table.record(job) for job in jobs])
    elif jobs:
        console.print_table("", views.COLUMNS, views.rows(jobs))
    else:
        told = (
            "no box that runs keeps a job"
            if all
            else "no job is under way; `./inv ps --all` shows those that ended"
        )
        console.tell(f"of the boxes that were asked: {told}" if silent else told)


@verb(positional=["run"], help={"run": _ANY_JOB, "json": "print how it ended as JSON"})
def attach(_context: Any, run: str = "", json: bool = False) -> None:
    """Show a job live; Ctrl-C leaves it running.

    Works from any laptop with this inventory.
    """
    import sys
    from contextlib import nullcontext, redirect_stdout
    from dataclasses import asdict

    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views.observe import logs as views
    from remote.control.commands.views.progress import say
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.logs import follow_job
    from remote.control.output.console import print_json
    from remote.control.targets import job_of

    with (
        redirect_stdout(sys.stderr) if json else nullcontext()
    ):  # standard output is a script's: one document
        inventory = load_inventory()
        job = job_of(run, "attach", inventory, say, choose_run)
        reading = follow_job(job, inventory, say)
        views.show(reading, "lines", _COME_BACK.format(name=job.name))
        reading.require_read()
        state = reading.ended[-1].state
    if json:
        print_json(asdict(state))
    say(
        f"{state.job_id} is {state.status.value}"
        + (f": {state.what}. {state.why}" if state.what else "")
    )


@verb(
    positional=["run"],
    help={
        "run": _ANY_JOB,
        "patience": "seconds for its last checkpoint",
        "dry-run": "say which job would end, and stop",
        "json": "print the job's state as JSON",
    },
)
def cancel(
    _context: Any, run: str = "", patience: int = 120, dry_run: bool = False, json: bool = False
) -> None:
    """End a job after a checkpoint, or take it out of the queue.

    The `finally` of its run is done. `./inv resume` goes on.
    """
    from dataclasses import asdict

    from remote.contract.job.jobs import Status
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views.progress import reporter, say
    from remote.control.config.inventory import load_inventory
    from remote.control.operations import runs
    from remote.control.output.console import print_json, tell, tell_next
    from remote.control.targets import job_of

    inventory = load_inventory()
    target = job_of(run, "cancel", inventory, say, choose_run, surely=True)
    if dry_run:
        if json:
            print_json(
                {"job": target.job_id, "box": target.box.name, "status": target.status.value}
            )
        tell(
            f"would end {target.title} ({target.job_id}) on box {target.box.name},"
            f" {target.status.value} when it was last seen"
        )
        return
    state = runs.cancel(
        inventory, target.box.name, target.job_id, target.run_id, patience, reporter()
    )
    if json:
        print_json(asdict(state))
    if state.status is not Status.CANCELLED:
        tell(f"{target.title} had ended before: {state.status.value}; nothing was cancelled")
        return
    tell(f"{target.title} is {state.status.value}; kept: {state.kept or 'nothing'}")
    if target.run_id:
        tell_next(f"`./inv resume {target.run_id}` goes on from there")


@verb(
    positional=["run"],
    help={
        "run": _RUN,
        "only": "one stage's label; else every finished stage",
        "dry-run": "list what would be pulled",
        "json": "print paths as JSON",
    },
)
def pull(
    context: Any, run: str = "", only: str = "", dry_run: bool = False, json: bool = False
) -> None:
    """Bring a run's artifacts home, verified.

    Goes on where it was cut off.
    """
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views import next_step
    from remote.control.commands.views.progress import reporter
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import print_json, print_table, tell_next
    from remote.control.output.sanitize import sized
    from remote.control.runs.artifacts import bring_all, has_made
    from remote.control.runs.state import state_of
    from remote.control.targets import run_of

    ledger = run_of(run, "pull", has_made, choose=choose_run)
    brought = bring_all(ledger, load_inventory(), only, dry_run, reporter())
    if json:
        print_json(
            [
                {"artifact": each.name, "path": str(each.path), "bytes": each.bytes}
                for each in brought
            ]
        )
    else:
        told = [(each.name, each.path, sized(each.bytes)) for each in brought]
        print_table(
            "would pull" if dry_run else "pulled and verified", ("artifact", "path", "size"), told
        )
        tell_next("" if dry_run else next_step.after_run(state_of(ledger)))
