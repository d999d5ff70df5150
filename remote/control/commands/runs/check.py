"""What can be known before anything starts: is the configuration right, and does it fit the box?"""

from typing import Any

from remote.control.commands.program.verb import verb


@verb(
    positional=["playbook"],
    help={
        "playbook": (
            "a playbook, by path or name (`demo`); without it every playbook is checked for itself"
        ),
        "on": "where it should run: a box of the inventory, or `local`, this machine without SSH",
        "box": "the same as --on; else the playbook's own, else the default one",
        "json": "print the findings as JSON",
    },
)
def check(
    context: Any, playbook: str = "", on: str = "", box: str = "", json: bool = False
) -> None:
    """Find every error in inventory, playbooks and recipes.

    Each finding has its file and line. Nothing is started.
    """
    from remote.control import project
    from remote.control.commands.runs.run import one_place
    from remote.control.config.checks.survey import survey
    from remote.control.config.inventory import read_inventory
    from remote.control.errors import ConfigError
    from remote.control.output.console import print_json, tell, tell_next

    place = one_place(on, box)
    found = survey(*read_inventory(), project.typed(playbook) or None, place or None)
    for finding in found.findings:
        tell(str(finding))
    if found.findings:
        raise ConfigError(found.findings, are_told=True)
    if json:
        print_json(
            {"ok": True, "findings": [], "checked": found.checked, "steps": list(found.steps)}
        )
    tell(f"ok: {found.summary}", "green")
    for step in found.steps:
        tell(step, "yellow")
    if playbook:
        where = f" --on {place}" if place else ""
        tell_next(f"`./inv run {playbook}{where}` runs it")


@verb(
    help={
        "json": "print it as JSON",
        "docs": "print docs/configuration.md, made from the descriptions in the code",
    }
)
def config(context: Any, json: bool = False, docs: bool = False) -> None:
    """Show the inventory with its defaults filled in."""
    from remote.control.commands.views import inventory as view
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import print_json, print_table, write

    if docs:
        from remote.control.config.documentation import page

        write(page())
        return
    inventory = load_inventory()
    if json:
        print_json(inventory.model_dump(mode="json"))
        return
    print_table(f"boxes (default: {inventory.default_box})", view.BOXES, view.boxes(inventory))
    print_table("elsewhere", view.ELSEWHERE, view.elsewhere(inventory))
