"""Bringing a run's artifacts to the laptop, outside of a playbook."""

from pathlib import Path

from remote.contract.job.jobs import Status
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped, NotFound
from remote.control.runs.finish import settle
from remote.control.runs.ledger import Ledger
from remote.control.runs.reports.rows import pulled_path
from remote.control.runs.session import BoxSession
from remote.control.runs.state import RunState, state_of
from remote.control.runs.wiring import Reference


def bring_all(ledger: Ledger, only: str = "", dry_run: bool = False) -> list[tuple[str, Path, int]]:
    """Pull the artifacts of every finished stage (or of stage `only`): name, path on the laptop,
    bytes.

    Raises NotFound, Busy, BoxStopped where the box does not run and something is not here yet.
    """
    run = state_of(ledger)
    made = [
        (stage.label, name, output)
        for stage in run.stages.values()
        if stage.status is Status.SUCCEEDED and only in ("", stage.label)
        for name, output in stage.outputs.items()
        if output["kind"] == "artifact"
    ]
    if only and only not in run.stages:
        raise NotFound(
            f"run {run.run_id} has no stage `{only}`",
            why=f"stages: {', '.join(run.stages)}",
            remedy=f"./inv pull {run.run_id}",
        )
    if not made:
        raise NotFound(
            f"run {run.run_id} has no artifacts to pull yet", remedy=f"./inv resume {run.run_id}"
        )
    if not dry_run:
        inventory = load_inventory()
        entry, storage = inventory.box(run.box), inventory.storage.bucket
        # Alone: two that pull one artifact would write into one another's part. And nothing is
        # launched, and billed, for a look at files.
        with (
            ledger.locked("pull"),
            BoxSession(entry, ledger, may_launch=False, storage=storage) as session,
        ):
            _bring_each(session, ledger, made)
            settle(ledger, inventory)
    return [
        (f"{label}.{name}", pulled_path(ledger, label, output), output["size"])
        for label, name, output in made
    ]


def has_made(run: RunState) -> bool:
    """Whether there is anything to bring."""
    done = (stage for stage in run.stages.values() if stage.status is Status.SUCCEEDED)
    return any(output["kind"] == "artifact" for stage in done for output in stage.outputs.values())


def _bring_each(
    session: BoxSession, ledger: Ledger, made: list[tuple[str, str, Reference]]
) -> None:
    """All that can be had, before what can't stops the command: what was spilled comes from the
    bucket, whether or not the box is there."""
    missing: dict[str, Reference] = {}
    stopped: BoxStopped | None = None
    for label, name, output in made:
        try:
            session.bring(output, ledger.folder / "artifacts" / label)
        except BoxStopped as error:
            missing[f"{label}.{name}"], stopped = output, error
    if stopped:
        raise _not_all(stopped, missing, len(made), session.entry.name, ledger.run_id)


def _not_all(
    stopped: BoxStopped, missing: dict[str, Reference], count: int, box: str, run_id: str
) -> BoxStopped:
    shared = [name for name, output in missing.items() if output["path"].startswith("shared/")]
    why = (
        f"{', '.join(shared)}: of the folder that all jobs of a box share, which no bucket gets;"
        " with a terminated box it is gone"
    )
    return BoxStopped(
        f"{stopped.what}: {', '.join(missing)} cannot be brought",
        where=stopped.where,
        why="; ".join([*([stopped.why] if stopped.why else []), *([why] if shared else [])]),
        kept=f"the other {count - len(missing)} of {count} artifacts are here, verified",
        remedy=(
            f"where the box is only stopped: `./inv start {box}`, then `./inv pull {run_id}`; "
            f"`./inv resume {run_id}` makes again what went with a box"
        ),
    )
