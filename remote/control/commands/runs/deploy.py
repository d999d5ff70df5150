"""`inv deploy`: the code of the box's side, what goes with it, and its Python environment.
`inv rollback`: back to an older one."""

from collections.abc import Sequence
from typing import Any

from remote.control.commands.boxes.box import JSON, NAMES, tell_next_of
from remote.control.commands.program.verb import verb

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
    from dataclasses import asdict

    from remote.control.commands.views import fleet
    from remote.control.commands.views.runs import deploy as views
    from remote.control.config.inventory import load_inventory
    from remote.control.operations import deploying
    from remote.control.output.console import bytes_progress, print_json, say, tell
    from remote.control.progress import no_bytes
    from remote.control.project import typed
    from remote.control.transport.push.plan import plan_of
    from remote.control.transport.push.release import release_of

    inventory = load_inventory()
    selection = deploying.selected(inventory, typed(playbook))
    release = release_of(selection)
    if plan:
        if json:
            print_json(plan_of(selection, release))
        else:
            views.show_plan(selection, release)
        return
    for warning in selection.warnings:
        say(f"warning: {warning}", "yellow")
    entries = inventory.resolve(names)
    if dry_run:
        rehearsals = [deploying.rehearse(entry, release) for entry in entries]
        if json:
            print_json(fleet.as_one([asdict(each) for each in rehearsals], names, inventory))
            return
        for line in (line for each in rehearsals for line in each.would_run):
            tell(line)
        return
    progress = bytes_progress if len(entries) == 1 else no_bytes
    done = fleet.each(
        entries,
        lambda entry, say: deploying.deploy(entry, release, say, progress),
        views.sentence,
        deploying.Sent.to_json,
    )
    if json:
        print_json(fleet.as_one([each.to_json() for each in done], names, inventory))
        return
    if len(done) == 1:
        views.show_sent(done[0])
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

    from remote.control.commands.views.progress import say
    from remote.control.commands.views.runs import deploy as views
    from remote.control.config.inventory import load_inventory
    from remote.control.operations import deploying
    from remote.control.output.console import print_json

    entry = load_inventory().box(box or None)
    if list:
        releases = deploying.releases_of(entry, say)
        if json:
            print_json([asdict(each) for each in releases])
        else:
            views.show_releases(entry.name, releases)
        return
    done = deploying.roll_back(entry, to, dry_run, say)
    if json:
        print_json(done.to_json())
    else:
        views.show_rolled_back(done, dry_run)
