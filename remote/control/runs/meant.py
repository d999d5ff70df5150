"""Which run a command means that names none: the one that is alive; else, by what the command does, the newest of use, or a question."""

import sys
from collections.abc import Callable

from remote.contract.jobs import Status
from remote.control import console
from remote.control.errors import NotFound
from remote.control.project import runs_folder
from remote.control.runs.ledger import Ledger, all_runs, find_run
from remote.control.runs.report import standing
from remote.control.runs.state import RunState, state_of

Fits = Callable[[RunState], bool]

_UNDER_WAY = (Status.RUNNING, Status.INTERRUPTED)
_SHOWN = 5


def run_to_act_on(word: str, verb: str, fits: Fits = lambda run: True) -> Ledger:
    """For a command that goes on with a run: without a word the one that is alive, or the only one that `fits`; else it asks which.

    Raises NotFound where there is none, and where there are several and nobody can be asked.
    """
    if word:
        return find_run(word)
    runs = [(ledger, state_of(ledger)) for ledger in all_runs()]
    fitting = [(ledger, run) for ledger, run in runs if fits(run)]
    free = [(ledger, run) for ledger, run in fitting if not ledger.is_driven()]
    meant = [ledger for ledger, run in free if is_alive(run)] or [ledger for ledger, _ in free or fitting]
    return meant[0] if len(meant) == 1 else _asked(meant, verb) if meant else find_run(None)


def run_to_look_at(word: str, verb: str, fits: Fits = lambda run: True, or_newest: bool = True) -> Ledger:
    """For a command that shows what a run did: without a word the one that is alive, else the newest that `fits`, else the newest. Without
    `or_newest`, as for one that follows what goes on, it asks which where none is alive.

    Raises NotFound where there is none, and where several are alive and nobody can be asked.
    """
    if word:
        return find_run(word)
    runs = [(ledger, run) for ledger in all_runs() if fits(run := state_of(ledger))]
    meant = alive([ledger for ledger, _ in runs]) or ([] if or_newest else [ledger for ledger, _ in runs])
    if len(meant) > 1:
        return _asked(meant, verb)
    return meant[0] if meant else runs[0][0] if runs else find_run(None)


def alive(runs: list[Ledger]) -> list[Ledger]:
    """Those that a command drives; where none does, those whose job may go on without one."""
    return [run for run in runs if run.is_driven()] or [run for run in runs if is_alive(state_of(run))]


def is_alive(run: RunState) -> bool:
    """Whether a job of the run may go on, as far as this laptop knows: no command has seen its end."""
    current = run.current()
    return run.status in _UNDER_WAY and bool(current and current.status is Status.RUNNING)


def _asked(runs: list[Ledger], verb: str) -> Ledger:
    shown = runs[:_SHOWN]
    told = [f"{run.run_id}  {standing(run, state_of(run))}" for run in shown]
    if sys.stdin.isatty() and sys.stderr.isatty():
        number = console.ask_which(f"Which run is meant by `./inv {verb}`?", told)
        if number is not None:
            return shown[number]
    more = f"; and {len(runs) - len(shown)} more, which `./inv runs` lists" if len(runs) > len(shown) else ""
    raise NotFound(
        f"{len(runs)} runs may be meant by `./inv {verb}`", where=str(runs_folder()), why="; ".join(told) + more,
        remedy=" or ".join(f"`./inv {verb} {run.run_id}`" for run in shown),
    )  # fmt: skip
