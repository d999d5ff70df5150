"""How everything stands: boxes, their clocks, open runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remote.control.commands.box import NAMES
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.control.runs.ledger import Ledger
    from remote.control.runs.state import RunState


@verb(
    positional=["names"],
    help={
        **NAMES,
        "names": "boxes or groups (default: all, what runs besides, and the open runs)",
        "json": "print as JSON",
        "quick": "ask the cloud alone, and no box over SSH",
    },
)
def status(
    _context: Any, names: Sequence[str] = (), quick: bool = False, json: bool = False
) -> None:
    """Show boxes, when each stops and why, and open runs.

    Open runs are under way, have not succeeded, or have work left to do.
    """
    from remote.contract.job.jobs import Status
    from remote.control import overview
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import print_json, print_table, tell
    from remote.control.runs.ledger import all_runs
    from remote.control.runs.state import state_of

    views = overview.look(load_inventory(), names, quick)
    mine = {view.box.name for view in views}
    states = [(ledger, state_of(ledger)) for ledger in all_runs()]
    is_open = [
        (run, state)
        for run, state in states
        if (state.owed or state.status is not Status.SUCCEEDED)
    ]
    open_runs = [
        (run, state, run.is_driven()) for run, state in is_open if not names or state.box in mine
    ]
    if json:
        told = [{**state.to_json(), "is_driven": is_driven} for _, state, is_driven in open_runs]
        print_json({"boxes": [overview.record(view) for view in views], "runs": told})
        return
    if views:
        print_table("boxes", *overview.table(views))
    else:
        tell("no box is there; `./inv launch NAME` makes one")
    going = [(run, state) for run, state, is_driven in open_runs if is_driven or state.is_alive]
    _show_runs("runs under way", going)
    ended = [(run, state) for run, state, _ in open_runs if (run, state) not in going]
    _show_runs(
        "runs not under way; `./inv runs --clear` puts away those that ended without success", ended
    )
    for run, state in is_open:
        if state.owed and not run.is_driven():
            whys = "; ".join(filter(None, (facts["why"] for facts in state.owed.values())))
            because = f" ({whys})" if whys else ""
            tell(
                f"owed by run {run.run_id}: {state.owed_in_words()}{because}; `./inv resume"
                f" {run.run_id}` does it",
                "red",
            )


def _show_runs(title: str, runs: "Sequence[tuple[Ledger, RunState]]") -> None:
    from remote.control.commands.views.runs import COLUMNS, row
    from remote.control.output.console import print_table

    if runs:
        print_table(title, COLUMNS, [row(run, state) for run, state in runs])
