"""The whole haul on the embedded cloud: no AWS account, no GPU."""

from typing import Any

from remote.control.commands.program.verb import verb
from remote.control.commands.runs.run import drive_and_show, one_place, show_plan

PLAYBOOK = "playbooks/demo.yaml"


@verb(
    help={
        "on": "where to run: a box of the inventory, or `local`, this machine without SSH",
        "box": "the same as --on; else the playbook's",
        "dry-run": "show the stages and stop",
        "json": "print the receipt as JSON",
    }
)
def demo(
    context: Any, on: str = "", box: str = "", dry_run: bool = False, json: bool = False
) -> None:
    """Train, convert and ask a small Mistral, on this machine alone."""
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import say
    from remote.control.runs.engine import begin, prepare_run

    inventory = load_inventory()
    plan, entry = prepare_run(PLAYBOOK, inventory, one_place(on, box))
    if dry_run:
        show_plan(plan, entry.name, json)
        return
    say(
        "A small Mistral is pre-trained, fine-tuned in 4 bits, merged, turned into GGUF and"
        " installed in Ollama.",
        "bold",
    )
    say(
        "The first time also makes the box's Python environment (torch and friends) and the base"
        " model: a few minutes.\n",
        "dim",
    )
    drive_and_show(begin(plan, entry), inventory, json)
