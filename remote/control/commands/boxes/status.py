"""How everything stands: boxes, their clocks, open runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remote.control.commands.boxes.box import NAMES
from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.control.operations.status import OpenRun


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
    from remote.control.commands.views.boxes import listing as view
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.status import standing
    from remote.control.output.console import print_json, print_table, tell

    found = standing(load_inventory(), names, quick)
    if json:
        runs = [{**each.state.to_json(), "is_driven": each.is_driven} for each in found.runs]
        print_json({"boxes": [view.view_record(each) for each in found.boxes], "runs": runs})
        return
    if found.boxes:
        print_table("boxes", *view.view_table(found.boxes))
    else:
        tell("no box is there; `./inv launch NAME` makes one")
    _show_runs("runs under way", [each for each in found.runs if each.is_going])
    _show_runs(
        "runs not under way; `./inv runs --clear` puts away those that ended without success",
        [each for each in found.runs if not each.is_going],
    )
    for each in found.runs:
        if each.state.owed and not each.is_driven:
            whys = "; ".join(filter(None, (facts["why"] for facts in each.state.owed.values())))
            because = f" ({whys})" if whys else ""
            tell(
                f"owed by run {each.run.run_id}: {each.state.owed_in_words()}{because};"
                f" `./inv resume {each.run.run_id}` does it",
                "red",
            )


def _show_runs(title: str, runs: "Sequence[OpenRun]") -> None:
    from remote.control.commands.views.runs.listing import COLUMNS, row
    from remote.control.output.console import print_table

    if runs:
        print_table(title, COLUMNS, [row(each.run, each.state) for each in runs])
