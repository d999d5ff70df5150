"""What can be known before anything starts: is the configuration right, and does it fit the box?"""

from typing import Any

from remote.control.commands.verb import verb


@verb(
    positional=["playbook"],
    help={
        "playbook": "a playbook, by path or name (`demo`); without it every playbook is checked for itself",
        "box": "the box it should run on; else the playbook's own, else the default one",
        "json": "print the findings as JSON",
    },
)
def check(context: Any, playbook: str = "", box: str = "", json: bool = False) -> None:
    """Find everything wrong in inventory, playbooks and recipes, by file and line, before anything starts."""
    from remote.control.config.survey import survey
    from remote.control.console import print_json, say
    from remote.control.errors import ConfigError

    found = survey(playbook or None, box or None)
    if found.findings:
        raise ConfigError(found.findings)
    if json:
        print_json({"ok": True, "findings": [], "checked": found.checked, "steps": list(found.steps)})
    say(f"ok: {found.summary}", "green")
    for step in found.steps:
        say(step, "yellow")


@verb(help={"json": "print it as JSON", "docs": "print docs/configuration.md, made from the descriptions in the code"})
def config(context: Any, json: bool = False, docs: bool = False) -> None:
    """Show the inventory as it is understood, defaults filled in."""
    from remote.control.config.inventory import load_inventory
    from remote.control.console import print_json, print_table

    if docs:
        from remote.control.config.documentation import page

        print(page(), end="")
        return
    inventory = load_inventory()
    plain = inventory.model_dump(mode="json")
    if json:
        print_json(plain)
        return
    rows = [(name, key, value) for name, box in plain["boxes"].items() for key, value in box.items()]
    print_table(f"boxes (default: {inventory.default_box})", ("box", "key", "value"), [(*row[:2], _shown(row[2])) for row in rows])
    elsewhere = [(section, key, _shown(value)) for section in ("ollama", "storage") for key, value in plain[section].items()]
    print_table("elsewhere", ("section", "key", "value"), elsewhere)


def _shown(value: Any) -> str:
    return "-" if value in (None, {}) else str(value)
