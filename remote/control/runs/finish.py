"""What a playbook's `finally` does to the box, and when it must not: a box that works for another
run is left alone.

What has begun and is not known to be done is owed: it stands in the ledger from before it begins,
so that neither an error nor a kill lets a box go on costing money unheard of, and the next command
on that run does it again.
"""

from collections.abc import Sequence
from contextlib import suppress

from remote.contract.job.jobs import Status
from remote.control.config.inventory import Inventory
from remote.control.errors import WindlassError
from remote.control.faults import as_error
from remote.control.output.console import say
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.session import BoxSession
from remote.control.runs.state import RunState, state_of

_MAY_WORK = (Status.RUNNING, Status.INTERRUPTED)
"""Runs with a job that may go on: INTERRUPTED is what a laptop calls one that it lost sight of."""


def see_to(actions: Sequence[str], session: BoxSession, ledger: Ledger) -> None:
    """Do what a run's `finally` says; what is not done at the end of it is owed. Raises the first
    WindlassError, after all were tried."""
    for action in actions:
        with suppress(OSError):  # a full disk must not keep the box running
            ledger.append("finally_due", action=action, box=session.entry.name, id=_box_id(ledger))
    failed: list[WindlassError] = []
    for action in actions:
        try:
            do_finally(action, session, ledger)
        except Exception as error:
            failed.append(_still_due(action, session, ledger, as_error(error)))
        else:
            ledger.append("finally_done", action=action)
    if failed:
        raise failed[0]


def settle(ledger: Ledger, inventory: Inventory) -> None:
    """Do what a run owes. For who holds the run's lock. Raises WindlassError where it cannot be
    done now either."""
    run = state_of(ledger)
    if not run.owed:
        return
    say(f"still owed by run {run.run_id}: {run.owed_in_words()}", "yellow")
    with BoxSession(
        inventory.box(run.box), ledger, may_launch=False, storage=inventory.storage.bucket
    ) as session:
        for action in [
            action for action, facts in run.owed.items() if _is_another_box(facts["id"], session)
        ]:
            say(
                f"  {action} is not done: box {session.entry.name} is another machine by now",
                "yellow",
            )
            ledger.append("finally_done", action=action)
        see_to([*state_of(ledger).owed], session, ledger)


def _still_due(
    action: str, session: BoxSession, ledger: Ledger, error: WindlassError
) -> WindlassError:
    why = "; ".join(filter(None, (error.what, error.why)))
    with suppress(OSError):
        ledger.append(
            "finally_due", action=action, box=session.entry.name, id=_box_id(ledger), why=why
        )
    again = (
        f"`./inv resume {ledger.run_id}` does `finally: {action}` again: until then box"
        f" {session.entry.name} may run on, and cost money"
    )
    error.remedy = f"{error.remedy}; {again}" if error.remedy else again
    return error


def _box_id(ledger: Ledger) -> str:
    """The box that the run used last, as the cloud names it; empty where it used none."""
    return next(
        (
            str(event["id"])
            for event in reversed(state_of(ledger).boxes)
            if event["event"] == "box_ready"
        ),
        "",
    )


def _is_another_box(box_id: str, session: BoxSession) -> bool:
    """Whether the entry's box is known not to be the one that something is owed for."""
    from remote.control.cloud import boxes

    box = None if session.entry.provider == "static" else boxes.find(session.entry)
    return bool(box and box_id and box.id != box_id)


def do_finally(action: str, session: BoxSession, ledger: Ledger) -> None:
    """Stop or terminate the run's box, unless there is none, it is a host that stands, or another
    run works on it."""
    from remote.control.cloud import boxes

    entry = session.entry
    box = None if entry.provider == "static" else boxes.find(entry)
    if box is None:
        return
    if box.state == "running" and (
        other := _run_working_on(session, ledger) or _run_told_by_box(session, ledger)
    ):
        say(f"finally: {entry.name} is left running, for run {other} works on it", "yellow")
        return
    if action == "stop" and box.market == "spot":
        if box.state == "running":
            _end_in_place_of_stopping(session, ledger)
        return
    say(f"finally: {action} {entry.name}", "bold")
    {"stop": boxes.stop, "terminate": boxes.terminate}[action](entry)
    ledger.append("box_stopped", name=entry.name, action=action)


def end_spot_box(session: BoxSession) -> None:
    """Terminate a spot box that the cloud is taking back, after what it holds went to the bucket as
    far as it still answers.

    It may have a minute or two left: its successor must not be mistaken for it.
    """
    from remote.control.cloud import boxes

    if session.ended_by():
        return
    for job_id, words in _not_spilled(session).items():
        say(f"  {job_id}: {words}", "yellow")
    boxes.terminate(session.entry)


def _not_spilled(session: BoxSession) -> dict[str, str]:
    """Bring what the box holds to the bucket; by job, what could not be, and why. Nothing is tried
    where there is no bucket."""
    if session.bucket is None:
        return {}
    try:
        return {
            job_id: words
            for job_id, words in session.spill_all().items()
            if words.startswith("not spilled")
        }
    except WindlassError as error:
        return {"its jobs": f"not spilled: {error.what}"}


def _end_in_place_of_stopping(session: BoxSession, ledger: Ledger) -> None:
    """A spot box cannot be stopped, only terminated with its disk: left alone where that would lose
    something."""
    from remote.control.cloud import boxes

    name = session.entry.name
    is_done = all(stage.status is Status.SUCCEEDED for stage in state_of(ledger).stages.values())
    lost = _not_spilled(session)
    if session.bucket is None and not is_done:
        lost = {f"run {ledger.run_id}": "not spilled: there is no `storage.bucket`"}
    if lost:
        told = "; ".join(f"{what}: {words}" for what, words in lost.items())
        say(
            f"finally: {name} is a spot box, which cannot be stopped, and is left running until its"
            f" clocks end it: {told}",
            "yellow",
        )
        say(
            f"  `./inv resume {ledger.run_id}` goes on there, `./inv terminate {name}` ends it at"
            " once",
            "yellow",
        )
        return
    say(
        f"finally: terminate {name}, for a spot box cannot be stopped; what it held is in the"
        " bucket or here",
        "bold",
    )
    boxes.terminate(session.entry)
    ledger.append("box_stopped", name=name, action="terminate")


def _run_working_on(session: BoxSession, ours: Ledger) -> str | None:
    for ledger in all_runs():
        run = state_of(ledger)
        is_another = (
            ledger.run_id != ours.run_id
            and run.box == session.entry.name
            and run.status in _MAY_WORK
        )
        if is_another and (ledger.is_driven() or _has_a_running_job(session, run)):
            return ledger.run_id
    return None


def _run_told_by_box(session: BoxSession, ours: Ledger) -> str | None:
    """Another run with a job there, such as one of another laptop. A box that does not answer tells
    none."""
    from remote.control.jobs.state import jobs_on

    try:
        jobs = jobs_on(session.transport, session.box.root, session.entry.name)
    except WindlassError:
        return None
    return next(
        (
            job.run_id or job.state.job_id
            for job in jobs
            if not job.state.status.is_final and job.run_id != ours.run_id
        ),
        None,
    )


def _has_a_running_job(session: BoxSession, run: RunState) -> bool:
    from remote.control.jobs.state import find_state

    job = run.latest_job()
    if job is None or job.status is not Status.RUNNING:
        return False
    found = find_state(session.transport, session.box.root, job.job_id)
    return found is not None and not found.status.is_final
