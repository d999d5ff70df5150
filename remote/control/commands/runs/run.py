"""Runs: start one, go on with one, look at them."""

from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.gguf import DEFAULT_QUANTIZATION, QUANTIZATIONS
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remote.control.config.inventory import BoxEntry, Inventory
    from remote.control.runs.ledger import Ledger
    from remote.control.runs.plan import Plan

_RUN = "run id, or its beginning or end; when left out the one that is alive, else the newest"
_ON = {
    "on": "where to run: a box of the inventory, or `local`, this machine without SSH",
    "box": "the same as --on; else the playbook's, else the default box",
}
_YES = {"yes": "do not ask before a box that costs money is launched"}
_QUEUE = {"queue": "wait in line where another job has the box's GPU"}
_RUN_TO_RESUME = (
    "run id, or its beginning or end; when left out the one that is alive, else the only one that"
    " has not succeeded"
)


@verb(
    positional=["playbook"],
    help={
        "playbook": "a file, or a name such as `golden-path`",
        **_ON,
        "dry-run": "show the stages and what would be sent, and stop",
        "json": "print the receipt as JSON",
        **_QUEUE,
        **_YES,
    },
)
def run(
    context: Any,
    playbook: str,
    on: str = "",
    box: str = "",
    queue: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Run a playbook from its first stage to its receipt."""
    from remote.control import project
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.runs import base_steps
    from remote.control.runs.engine import begin, prepare_run

    inventory = load_inventory()
    plan, entry = prepare_run(project.typed(playbook), inventory, one_place(on, box))
    if dry_run:
        show_plan(plan, entry.name, json, base_steps(plan, entry))
        return
    agree_to_launch(plan, inventory, entry, yes)
    drive_and_show(begin(plan, entry), inventory, json, queue=queue)


@verb(
    positional=["run"],
    help={
        "run": _RUN_TO_RESUME,
        "dry-run": "show the stages still to run, and stop",
        "json": "print the receipt as JSON",
        **_QUEUE,
    },
)
def resume(
    context: Any, run: str = "", queue: bool = False, dry_run: bool = False, json: bool = False
) -> None:
    """Go on with a run wherever it was cut off."""
    from remote.contract.job.jobs import Status
    from remote.control.commands.program.asking import choose_run
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import say
    from remote.control.runs.state import state_of
    from remote.control.targets import run_of

    ledger = run_of(
        run,
        "resume",
        lambda state: bool(state.owed) or state.status is not Status.SUCCEEDED,
        to="drive",
        choose=choose_run,
    )
    if dry_run:
        state = state_of(ledger)
        show_plan(state.rest(), state.box, json)
        return
    say(f"resuming {ledger.run_id}")
    drive_and_show(ledger, load_inventory(), json, purpose="resume", queue=queue)


@verb(
    help={
        "json": "print as JSON",
        "all": "also those older than the newest 20",
        "clear": (
            "put away the runs that ended without success: FAILED, CANCELLED, BUSY; they are moved,"
            " whole, to runs/.cleared"
        ),
        "dry-run": "with --clear: say which would be put away, and move nothing",
    }
)
def runs(
    context: Any, json: bool = False, all: bool = False, clear: bool = False, dry_run: bool = False
) -> None:
    """List the runs, newest first.

    `--clear` puts away those that ended without success.
    """
    from remote.control.commands.views.runs import listing as views
    from remote.control.output.console import print_json, print_table, tell
    from remote.control.runs.ledger import all_runs
    from remote.control.runs.state import state_of

    if clear or dry_run:
        _clear(dry_run, json)
        return
    states = [(ledger, state_of(ledger)) for ledger in all_runs()[: None if all else 20]]
    if json:
        print_json(
            [{**state.to_json(), "is_driven": ledger.is_driven()} for ledger, state in states]
        )
        return
    if not states:
        tell("no run here yet; `./inv run PLAYBOOK` begins one")
        return
    print_table("", views.COLUMNS, [views.row(ledger, state) for ledger, state in states])


def _clear(dry_run: bool, as_json: bool) -> None:
    from remote.control.output.console import print_json, tell
    from remote.control.runs import cleanup

    cleared, left = cleanup.clear(dry_run)
    if as_json:
        print_json({"cleared": [run.run_id for run in cleared], "left": left, "dry_run": dry_run})
    for run in cleared:
        done = f"put away, in {cleanup.folder() / run.run_id}"
        tell(f"{run.run_id}: {'would be put away' if dry_run else done}")
    for run_id, why in left.items():
        tell(f"{run_id}: stays: {why}", "yellow")
    if not cleared:
        tell("no run here ended without success" if not left else "nothing to put away")


@verb(positional=["run"], help={"run": _RUN, "json": "print as JSON"})
def verify(context: Any, run: str = "", json: bool = False) -> None:
    """Hash a run's pulled artifacts again and compare them with its ledger."""
    from remote.control.commands.program.asking import choose_run
    from remote.control.output.console import print_json, print_table
    from remote.control.runs.artifacts import require_whole, verdicts, verify_artifacts
    from remote.control.targets import run_of

    ledger = run_of(run, "verify", choose=choose_run)
    rows = verify_artifacts(ledger)
    if not json:
        print_table(f"artifacts of {ledger.run_id}", ("artifact", "path", "verdict"), rows)
    require_whole(ledger, rows)
    if json:
        print_json(verdicts(rows))


@verb(positional=["run"], help={"run": _RUN, "json": "print as JSON"})
def receipt(context: Any, run: str = "", json: bool = False) -> None:
    """Show what a run did, used and cost."""
    from remote.control.commands.program.asking import choose_run
    from remote.control.output.console import print_json, write
    from remote.control.runs.receipt import write_receipt
    from remote.control.targets import run_of

    ledger = run_of(run, "receipt", choose=choose_run)
    facts = write_receipt(ledger)
    if json:
        print_json(facts)
    else:
        write((ledger.folder / "receipt.md").read_text())


@verb(
    help={
        "recipe": "how to train: a file, or a name such as `mistral-7b-golden`",
        "data": "file or folder of rows: JSONL, JSON, CSV, Excel, Parquet, text; docs/data.md",
        "kind": "kind of its rows: chat, instruction, completion, text, corpus; else found out",
        "columns": "our names for its columns: instruction=question,output=answer",
        "base": "base model on the box, by name or `box:~/path`; else the recipe's",
        **_ON,
        "stop": "stop the box afterwards",
        "detach": "return once training has started, or stands in line",
        "dry-run": "show the stages and stop",
        "json": "print the receipt as JSON",
        **_QUEUE,
        **_YES,
    }
)
def train(
    context: Any,
    recipe: str,
    data: str,
    base: str = "",
    kind: str = "",
    columns: str = "",
    on: str = "",
    box: str = "",
    stop: bool = False,
    detach: bool = False,
    queue: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Train one adapter without a playbook.

    Prepares the data, runs the preflight, trains, and pulls the adapter home.
    """
    from remote.control import project
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.runs import base_steps
    from remote.control.runs.engine import begin
    from remote.control.runs.single import plan_training

    inventory = load_inventory()
    entry = inventory.box(one_place(on, box) or None)
    files = project.typed(recipe), project.typed(data)
    reading = {name: word for name, word in (("kind", kind), ("columns", columns)) if word}
    plan = plan_training(*files, base, inventory, entry, stop, reading)
    _look_at(files[1], kind, columns)
    if dry_run:
        show_plan(plan, entry.name, json, base_steps(plan, entry))
        return
    agree_to_launch(plan, inventory, entry, yes)
    drive_and_show(begin(plan, entry), inventory, json, "train", detach=detach, queue=queue)


def _look_at(data: str, kind: str, columns: str) -> None:
    """Before anything costs money: what the rows are taken for, with one of them."""
    from remote.control import project
    from remote.control.commands.views import data as views
    from remote.control.operations.data import as_read, look
    from remote.control.output.console import aside

    if data.startswith("box:"):
        return
    found = look(project.find_file(data).resolve(), 1, kind, columns)
    with aside():
        views.show_look(found)
        for each in found.rows:
            views.show_row(each.where, as_read(each.row))


@verb(
    positional=["run"],
    help={
        "run": _RUN,
        "quantize": f"GGUF type: {', '.join(QUANTIZATIONS[:-1])} or {QUANTIZATIONS[-1]}",
        "dry-run": "show the stages that would run, and stop",
        "json": "print the receipt as JSON",
        **_QUEUE,
    },
)
def export(
    context: Any,
    run: str = "",
    quantize: str = DEFAULT_QUANTIZATION,
    queue: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Merge a run's adapter, convert it to GGUF and bring it home."""
    from remote.control.commands.program.asking import choose_run
    from remote.control.config.inventory import load_inventory
    from remote.control.runs.plan import Plan
    from remote.control.runs.single import extend, plan_export
    from remote.control.runs.state import state_of
    from remote.control.targets import run_of

    ledger = run_of(run, "export", lambda state: state.has_done("train"), choose=choose_run)
    stages = plan_export(ledger, quantize)
    if dry_run:
        show_plan(Plan(ledger.run_id, stages), state_of(ledger).box, json)
        return
    extend(ledger, stages, "export")
    drive_and_show(ledger, load_inventory(), json, purpose="export", queue=queue)


def one_place(on: str, box: str) -> str:
    """What `--on` or `--box` names. Raises ConfigError where they differ."""
    from remote.control.errors import ConfigError, Finding

    if on and box and on != box:
        what = f"`--on {on}` and `--box {box}` name two places"
        raise ConfigError([Finding("the command line", what, "one of them", "leave one out")])
    return on or box


def drive_and_show(
    ledger: "Ledger",
    inventory: "Inventory",
    as_json: bool,
    purpose: str = "run",
    detach: bool = False,
    queue: bool = False,
) -> None:
    """Drive a run with its progress on the terminal, then show what came of it."""
    from remote.contract.job.jobs import Status
    from remote.control.commands.views import next_step
    from remote.control.commands.views.progress import reporter
    from remote.control.commands.views.runs.showcase import show_result
    from remote.control.operations import runs
    from remote.control.output.console import print_json, say, tell, tell_next
    from remote.control.runs.receipt import receipt_of

    say(f"run {ledger.run_id}")
    try:
        state = runs.drive(ledger, inventory, purpose, detach, queue, reporter())
    except KeyboardInterrupt:
        say(f"`./inv resume {ledger.run_id}` goes on with this run where it stands")
        raise
    if as_json:
        print_json(receipt_of(ledger))
    elif state.status is Status.SUCCEEDED:
        tell(f"\nreceipt: {ledger.folder / 'receipt.md'}")
        show_result(ledger, state)
        _tell_what_still_runs(inventory, state.box)
        tell_next(next_step.after_run(state))


def _tell_what_still_runs(inventory: "Inventory", name: str) -> None:
    from remote.control.errors import WindlassError
    from remote.control.operations.runs import left_running
    from remote.control.output.console import tell

    try:
        box = left_running(inventory, name)
    except WindlassError as error:  # the run has succeeded: that stands, whoever does not answer
        tell(
            f"whether box {name} still runs is not known ({error.what}); `./inv status` shows it",
            "yellow",
        )
        return
    if box:
        price = f" at ${box.hourly_usd}/h" if box.hourly_usd else ""
        tell(f"box {name} still runs{price}; `./inv stop {name}` ends that", "yellow")


def show_plan(plan: "Plan", box: str, as_json: bool, steps: "Sequence[str]" = ()) -> None:
    """What a run would do, as a table or as JSON; `steps` are to be done before it."""
    from remote.control.commands.views.runs.listing import show_planned
    from remote.control.operations.runs import planned
    from remote.control.output.console import print_json

    told = planned(plan, box, steps)
    if as_json:
        print_json(told.to_json())
    else:
        show_planned(told)


def agree_to_launch(plan: "Plan", inventory: "Inventory", entry: "BoxEntry", yes: bool) -> None:
    """Before a run: where its box would be made, and billed, show what it costs and ask, as
    `launch` does."""
    from remote.control.commands.boxes.box import agree
    from remote.control.commands.views.boxes import launch as view
    from remote.control.operations import launching
    from remote.control.operations.runs import base_steps
    from remote.control.output import console

    if entry.provider != "ec2" or not any(stage.signature.is_job for stage in plan.stages):
        return
    wanted = launching.intents(inventory, [entry], "auto")
    if launching.costs_money(wanted):
        with console.aside():
            view.show(wanted, inventory.storage.bucket)
            for step in base_steps(plan, entry):
                console.tell(step, "yellow")
        agree(f"Launch {entry.name} for this run?", yes, needs_terminal=False)
