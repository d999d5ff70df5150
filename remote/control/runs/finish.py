"""What a playbook's `finally` does to the box, and when it must not: a box that works for another run is left alone."""

from remote.contract.jobs import Status
from remote.control.console import say
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.session import BoxSession
from remote.control.runs.state import RunState, state_of

_MAY_WORK = (Status.RUNNING, Status.INTERRUPTED)
"""Runs with a job that may go on: INTERRUPTED is what a laptop calls one that it lost sight of."""


def do_finally(action: str, session: BoxSession, ledger: Ledger) -> None:
    """Stop or terminate the run's box, unless there is none, it is a host that stands, or another run works on it."""
    from remote.control.cloud import boxes

    entry = session.entry
    box = None if entry.provider == "static" else boxes.find(entry)
    if box is None:
        return
    if box.state == "running" and (other := _run_working_on(session, ledger)):
        say(f"finally: {entry.name} is left running, for run {other} works on it", "yellow")
        return
    say(f"finally: {action} {entry.name}", "bold")
    {"stop": boxes.stop, "terminate": boxes.terminate}[action](entry)
    ledger.append("box_stopped", name=entry.name, action=action)


def _run_working_on(session: BoxSession, ours: Ledger) -> str | None:
    for ledger in all_runs():
        run = state_of(ledger)
        is_another = ledger.run_id != ours.run_id and run.box == session.entry.name and run.status in _MAY_WORK
        if is_another and (ledger.is_driven() or _has_a_running_job(session, run)):
            return ledger.run_id
    return None


def _has_a_running_job(session: BoxSession, run: RunState) -> bool:
    from remote.control.jobs.state import find_state

    job = run.latest_job()
    if job is None or job.status is not Status.RUNNING:
        return False
    found = find_state(session.transport, session.box.root, job.job_id)
    return found is not None and not found.status.is_final
