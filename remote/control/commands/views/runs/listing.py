"""Runs as rows and lines for people."""

import time
from typing import TYPE_CHECKING

from remote.control.output import timefmt
from remote.control.output.console import print_table, tell
from remote.control.runs.ledger import Ledger
from remote.control.runs.state import RunState, standing

if TYPE_CHECKING:
    from remote.control.operations.runs import Planned

COLUMNS = ("run", "playbook", "box", "status", "stage", "began (UTC)", "took")


def row(ledger: Ledger, state: RunState) -> tuple[str, ...]:
    """One run, under `COLUMNS`."""
    if not state.plan.stages:
        return (ledger.run_id, "?", "?", "ledger without its plan", "", "", "")
    stage = state.current()
    took = (state.ended_at or time.time()) - state.created_at
    began = timefmt.minute(state.created_at)
    return (
        state.run_id,
        state.plan.name,
        state.box,
        _status(ledger, state),
        stage.label if stage else "",
        began,
        f"{took:,.0f} s",
    )


def _status(ledger: Ledger, state: RunState) -> str:
    owed = state.owed_in_words()
    return standing(ledger, state) + (
        f"; owed: {owed} (./inv resume {state.run_id})" if owed and not ledger.is_driven() else ""
    )


def show_planned(planned: "Planned") -> None:
    """What a run would do."""
    columns = ("stage", "uses", "where", "what")
    rows = [[stage[name] for name in columns] for stage in planned.stages]
    print_table(f"{planned.playbook} on {planned.box}", columns, rows)
    tell(f"sent from this laptop, besides Windlass's code: {', '.join(planned.sent) or 'nothing'}")
    for step in planned.steps:
        tell(step, "yellow")
    tell(f"finally: {', '.join(planned.actions) or 'nothing'}; nothing was started")
