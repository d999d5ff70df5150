"""The verbs of `data`: rows made by a recipe, converted, looked at, examined."""

from typing import TYPE_CHECKING, Any

from invoke import Collection

from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from pathlib import Path

_KIND = {
    "kind": "kind of its rows: chat, instruction, completion, text, corpus; else found out",
    "columns": "our names for its columns: instruction=question,output=answer",
}
_ON = "where: a box of the inventory, or `local`, this machine without SSH"
_JSON = {"json": "print as JSON"}
_RUN = "run id, or its beginning or end; when left out the newest that has made rows"


@verb(
    positional=["recipe"],
    help={
        "recipe": "how rows are made: a file, or a name such as `golden`",
        "on": f"{_ON}; else the default box",
        "source": "which is read where a corpus lies in S3 and at hand: local, s3 or both",
        "stop": "stop the box afterwards",
        "queue": "wait in line where another job has the box's GPU",
        "yes": "do not ask before a box that costs money is launched",
        "dry-run": "show the stages and what would be sent, and stop",
        "json": "print the receipt as JSON",
    },
)
def prepare(
    context: Any,
    recipe: str,
    on: str = "",
    source: str = "",
    stop: bool = False,
    queue: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Make train and validation files by a data recipe.

    The rows are made on the box and brought home, with what was set aside and why.
    """
    from remote.control import project
    from remote.control.commands.runs.run import agree_to_launch, drive_and_show, show_plan
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.data import one_box, plan_preparing
    from remote.control.output.console import tell, tell_next
    from remote.control.runs.engine import begin

    inventory = load_inventory()
    entry = one_box(inventory, on)
    plan = plan_preparing(project.typed(recipe), inventory, entry, stop, source)
    if dry_run:
        show_plan(plan, entry.name, json)
        return
    agree_to_launch(plan, inventory, entry, yes)
    ledger = begin(plan, entry)
    drive_and_show(ledger, inventory, json, "data.prepare", queue=queue)
    if not json:
        tell(f"rows: {ledger.folder / 'artifacts' / 'prepare'}")
        tell_next(f"`./inv data.report {ledger.run_id}` shows what became of the sources")


@verb(
    positional=["file", "to"],
    help={
        "file": "a file of rows, or a folder of them",
        "to": "the new file: .jsonl, .json, either also .gz",
        "on": f"{_ON}; else this machine, which reads all but Excel, Parquet and the like",
        **_KIND,
        **_JSON,
    },
)
def convert(
    context: Any,
    file: str,
    to: str,
    on: str = "",
    kind: str = "",
    columns: str = "",
    json: bool = False,
) -> None:
    """Make one file of conversations or documents of whatever rows there are.

    All rows, in order. What cannot be read is beside it, with the reason.
    """
    from pathlib import Path

    from remote.control.commands.views import data as views
    from remote.control.operations import data
    from remote.control.output.console import print_json

    target = Path(to)
    if on:
        data.check_target(target)
        rows = _read_on(file, on, kind, columns, "train")
        done = data.convert(rows, target)
    else:
        done = data.convert(_there(file), target, kind, columns)
    if json:
        print_json({**vars(done), "to": str(done.to)})
        return
    views.show_converted(done)


@verb(
    positional=["file"],
    help={
        "file": "a file of rows, or a folder of them",
        "rows": "so many rows are shown",
        "template": "chat template that writes them: mistral-v3, or a Jinja file",
        **_KIND,
        **_JSON,
    },
)
def show(
    context: Any,
    file: str,
    rows: int = 3,
    template: str = "",
    kind: str = "",
    columns: str = "",
    json: bool = False,
) -> None:
    """Show a few rows as the model will read them.

    What is learnt is marked. Says which kind the rows are taken for.
    """
    from remote.control.commands.views import data as views
    from remote.control.operations import data
    from remote.control.output.console import print_json

    path = _there(file)
    found = data.look(path, rows, kind, columns)
    if found.needs_box:
        raise data.needs_box(path, f"./inv data.doctor {file}")
    if json:
        print_json(found.to_json())
        return
    views.show_look(found)
    written = data.template_of(template)
    for each in found.rows:
        views.show_row(each.where, data.as_read(each.row, written))


@verb(
    positional=["file"],
    help={
        "file": "a file of rows, or a folder of them",
        "on": f"{_ON}; else this machine, which reads all but Excel, Parquet and the like",
        **_KIND,
        **_JSON,
    },
)
def doctor(
    context: Any, file: str, on: str = "", kind: str = "", columns: str = "", json: bool = False
) -> None:
    """Examine a file of rows, whoever made it.

    How many rows can be used, what would be dropped, and why; ends with 11 where it should not be
    learnt from.
    """
    from invoke import Exit as Leave

    from remote.contract.job.exits import Exit
    from remote.control.commands.views import data as views
    from remote.control.operations import data
    from remote.control.output.console import print_json

    path = _there(file)
    if on:
        manifest = _read_on(file, on, kind, columns, "manifest", as_it_is=False)
        found = data.examined_by(manifest.parent)
    else:
        found = data.examine(path, kind, columns)
    if json:
        print_json(found.to_json())
    else:
        views.show_examined(found)
    if found.is_bad:
        raise Leave(code=int(Exit.DATA))


@verb(
    positional=["run"],
    help={"run": _RUN, "open": "open it in the browser", "json": "print its path as JSON"},
)
def report(context: Any, run: str = "", open: bool = False, json: bool = False) -> None:
    """Bring the report of a run's data: one page, with its plots."""
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views.progress import reporter
    from remote.control.config.inventory import load_inventory
    from remote.control.operations import data
    from remote.control.output.console import print_json, tell
    from remote.control.targets import run_of

    ledger = run_of(run, "data.report", data.has_prepared, choose=choose_run)
    path = data.made_by(ledger, "report", load_inventory(), reporter())
    if json:
        print_json({"run": ledger.run_id, "path": str(path)})
    else:
        tell(str(path), whole=True)
    if open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())


def _there(file: str) -> "Path":
    """The file that a person typed. Raises NotFound."""
    from remote.control import project
    from remote.control.errors import NotFound

    path = project.find_file(project.typed(file))
    if not project.is_there(path):
        raise NotFound(f"there is no file {file}", remedy="correct the path")
    return path.resolve()


def _read_on(
    file: str, on: str, kind: str, columns: str, made: str, as_it_is: bool = True
) -> "Path":
    """A file that `prepare` makes of that one, on that box."""
    from remote.control import project
    from remote.control.commands.runs.run import agree_to_launch, drive_and_show
    from remote.control.config.inventory import load_inventory
    from remote.control.operations import data
    from remote.control.output.console import aside
    from remote.control.runs.engine import begin

    if not file.startswith("box:"):
        _there(file)
    inventory = load_inventory()
    entry = data.one_box(inventory, on)
    plan = data.plan_reading(project.typed(file), kind, columns, as_it_is)
    with aside():  # what was asked for comes after it
        agree_to_launch(plan, inventory, entry, yes=False)
        ledger = begin(plan, entry)
        drive_and_show(ledger, inventory, as_json=False, purpose=plan.name)
    return data.made_by(ledger, made, inventory)


collection = Collection(prepare, convert, show, doctor, report)
