"""How everything stands: boxes, their clocks, open runs."""

from collections.abc import Sequence
from typing import Any

from remote.control.commands.box import NAMES
from remote.control.commands.verb import verb


@verb(positional=["names"], help={
    **NAMES, "names": "boxes or groups (default: all, what runs besides, and the open runs)", "json": "print as JSON",
    "quick": "ask the cloud alone, and no box over SSH",
})  # fmt: skip
def status(_context: Any, names: Sequence[str] = (), quick: bool = False, json: bool = False) -> None:
    """Shows boxes with their clocks, when each stops and why, and the runs that have not succeeded."""
    from remote.contract.jobs import Status
    from remote.control import overview
    from remote.control.config.inventory import load_inventory
    from remote.control.console import print_json, print_table, tell
    from remote.control.runs.ledger import all_runs
    from remote.control.runs.report import RUN_COLUMNS, run_row
    from remote.control.runs.state import state_of

    views = overview.look(load_inventory(), names, quick)
    mine = {view.box.name for view in views}
    states = [(ledger, state_of(ledger)) for ledger in all_runs()]
    open_runs = [(run, state) for run, state in states if state.status is not Status.SUCCEEDED and (not names or state.box in mine)]
    if json:
        print_json({"boxes": [overview.record(view) for view in views], "runs": [state.to_json() for _, state in open_runs]})
        return
    if views:
        print_table("boxes", *overview.table(views))
    else:
        tell("no box is there; `./inv launch NAME` makes one")
    if open_runs:
        rows = [run_row(run, state) for run, state in open_runs]
        print_table("runs that have not succeeded", RUN_COLUMNS, rows)
