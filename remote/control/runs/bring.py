"""Bringing a run's artifacts to the laptop, outside of a playbook."""

from pathlib import Path

from remote.contract.jobs import Status
from remote.control.config.inventory import load_inventory
from remote.control.errors import NotFound
from remote.control.runs.ledger import Ledger
from remote.control.runs.report import pulled_path
from remote.control.runs.session import BoxSession
from remote.control.runs.state import state_of


def bring_all(ledger: Ledger, only: str = "", dry_run: bool = False) -> list[tuple[str, Path, int]]:
    """Pull the artifacts of every finished stage (or of stage `only`): name, path on the laptop, bytes.

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
        raise NotFound(f"run {run.run_id} has no stage `{only}`", why=f"stages: {', '.join(run.stages)}", remedy=f"./inv pull {run.run_id}")
    if not made:
        raise NotFound(f"run {run.run_id} has no artifacts to pull yet", remedy=f"./inv resume {run.run_id}")
    if not dry_run:
        inventory = load_inventory()
        entry, storage = inventory.box(run.box), inventory.storage.bucket
        # Alone: two that pull one artifact would write into one another's part. And nothing is launched, and billed, for a look at files.
        with ledger.locked("pull"), BoxSession(entry, ledger, may_launch=False, storage=storage) as session:
            for label, _, output in made:
                session.bring(output, ledger.folder / "artifacts" / label)
    return [(f"{label}.{name}", pulled_path(ledger, label, output), output["size"]) for label, name, output in made]
