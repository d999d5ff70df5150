"""Putting runs away that ended without success: out of every list, whole, and to be brought back by
moving their folder."""

from pathlib import Path

from remote.contract.job.jobs import Status
from remote.control.project import keep_private, runs_folder
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.state import RunState, state_of

_ENDED = (Status.FAILED, Status.CANCELLED, Status.LOST)


def folder() -> Path:
    """Where they lie afterwards."""
    return runs_folder() / ".cleared"


def clear(dry_run: bool = False) -> tuple[list[Ledger], dict[str, str]]:
    """Put away each run that ended without success; with `dry_run` nothing is moved. Returns those,
    and why others that have not succeeded either stay."""
    cleared: list[Ledger] = []
    left: dict[str, str] = {}
    for run in all_runs():
        state = state_of(run)
        if state.status is Status.SUCCEEDED and not state.owed:
            continue
        if why := _stays(run, state):
            left[run.run_id] = why
            continue
        cleared.append(run)
        if not dry_run:
            folder().mkdir(mode=0o700, exist_ok=True)
            keep_private(folder())
            run.folder.rename(folder() / run.run_id)
    return cleared, left


def _stays(run: Ledger, state: RunState) -> str:
    if run.is_driven():
        return "a command drives it"
    if state.owed:
        return f"it owes: {state.owed_in_words()}; `./inv resume {run.run_id}` does it"
    if state.is_alive:
        return (
            f"its job may go on; `./inv resume {run.run_id}` goes on with it, `./inv cancel"
            f" {run.run_id}` ends it"
        )
    return (
        ""
        if state.status in _ENDED
        else f"it is {state.status.value}, not ended; `./inv resume {run.run_id}` goes on with it"
    )
