"""`inv deploy`: the code of the box's side, what goes with it, and its Python environment.
`inv rollback`: back to an older one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remote.control.commands.box import JSON, NAMES, tell_next_of
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory
    from remote.control.transport.push.selection import Selection

_PLAN = {
    "plan": "show what would go, what stays and why, with sizes; ask no box",
    "playbook": "the files that this playbook names go too, ahead of its run",
    "dry-run": "say what would run, change nothing",
}


@verb(positional=["names"], help={**NAMES, **JSON, **_PLAN})
def deploy(
    _context: Any,
    names: Sequence[str] = (),
    plan: bool = False,
    playbook: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Push this checkout's code to boxes and make their environment.

    What is there already is not sent again.
    """
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import print_json, say, tell
    from remote.control.transport.push.release import release_of

    inventory = load_inventory()
    selection = _selected(inventory, playbook)
    release = release_of(selection)
    if plan:
        from remote.control.transport.push import plan as push_plan

        (
            print_json(push_plan.plan_of(selection, release))
            if json
            else push_plan.show(selection, release)
        )
        return
    from remote.control import deploying

    for warning in selection.warnings:
        say(f"warning: {warning}", "yellow")
    entries = inventory.resolve(names)
    if dry_run:
        records = [
            deploying.rehearse(entry, release, (lambda line: None) if json else tell)
            for entry in entries
        ]
    else:
        records = deploying.deploy_to(entries, release, show=not json)
    if json:
        from remote.control.commands.views.fleet import as_one

        print_json(as_one(records, names, inventory))
    elif not dry_run:
        tell_next_of(entries, names)


@verb(
    positional=["box"],
    help={
        "box": "name in inventory.yaml; the default box when left out",
        "to": (
            "the digest of a release that is kept, or its beginning; else the one deployed before"
            " the current one"
        ),
        "list": "show the releases that are kept, and change nothing",
        "dry-run": "say which release would become current, change nothing",
        "json": "the outcome as JSON on standard output",
    },
)
def rollback(
    _context: Any,
    box: str = "",
    to: str = "",
    list: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Make an older release of a box current again.

    Its environment comes with it. The next deploy replaces it.
    """
    from dataclasses import asdict

    from remote.control import deploying
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import print_json, tell

    entry = load_inventory().box(box or None)
    if list:
        releases = deploying.releases_of(entry)
        (
            print_json([asdict(each) for each in releases])
            if json
            else deploying.show_releases(entry, releases)
        )
        return
    outcome = deploying.roll_back(entry, to, dry_run)
    if json:
        print_json(outcome)
        return
    begin = "would make" if dry_run else "made"
    tell(
        f"{begin} release {outcome['release'][:12]} current on {entry.name}, in place of"
        f" {outcome['was'][:12]}"
    )
    if not dry_run:
        tell(
            "the next deploy, run or preflight puts this checkout's code there again: check out"
            " what you want to stay",
            "dim",
        )


def _selected(inventory: "Inventory", playbook: str) -> "Selection":
    from remote.control.transport.push.selection import Push, select

    if not playbook:
        return select(push=Push.of(inventory))
    from remote.control import project
    from remote.control.config.playbook import load_playbook
    from remote.control.runs.plan import plan_of
    from remote.control.runs.state import RunState
    from remote.control.runs.wiring import files_to_send

    return select(
        files_to_send(RunState("", plan_of(load_playbook(project.typed(playbook))))),
        Push.of(inventory),
    )
