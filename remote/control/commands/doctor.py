"""`inv doctor`: what stands between this laptop and a finished run, as a table with remedies."""

from collections.abc import Sequence
from typing import Any

from remote.control.commands.program.verb import verb


@verb(
    positional=["names"],
    help={
        "names": "boxes and groups of inventory.yaml (default: all)",
        "policy": "print the least IAM policy instead: `user` for you, `box` for the boxes' role",
        "json": "print the checks as JSON",
    },
)
def doctor(_context: Any, names: Sequence[str] = (), policy: str = "", json: bool = False) -> None:
    """Examine this laptop and the AWS account end to end.

    Credentials, clock, quota, image, rights, bucket, Ollama and disk.
    """
    from remote.control.commands.views import doctor as view
    from remote.control.commands.views import next_step
    from remote.control.config.inventory import load_inventory
    from remote.control.doctor import report
    from remote.control.output.console import print_json, print_table, tell_next

    inventory = load_inventory()
    if policy:
        from remote.control.cloud.account.policy import document

        print_json(document(policy, inventory))
        return
    entries = inventory.resolve(names) if names else list(inventory.boxes.values())
    rows = report.examine(inventory, entries)
    if not json:
        print_table("", view.CHECKS, view.checks(rows))
    report.require_well(rows)
    if not json:
        tell_next(next_step.on_well(names[0] if names else inventory.default_box, entries))
    if json:
        print_json([{"of": subject, **check.to_json()} for subject, check in rows])
