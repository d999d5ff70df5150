"""Bringing a run's artifacts to the laptop, outside of a playbook."""

from pathlib import Path

from remote.contract.job.jobs import Status
from remote.control.backends.base import Backend
from remote.control.backends.resolved import StageArtifact
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped, NotFound
from remote.control.runs.finish import backend_of, settle
from remote.control.runs.ledger import Ledger
from remote.control.runs.reports.rows import pulled_path
from remote.control.runs.state import RunState, state_of


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
        if isinstance(output, StageArtifact)
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
        # Alone: two that pull one artifact would write into one another's part. And nothing is
        # launched, and billed, for a look at files.
        with (
            ledger.locked("pull"),
            backend_of(ledger, inventory, run.box, may_launch=False) as backend,
        ):
            _bring_each(backend, ledger, made)
            settle(ledger, inventory)
    return [
        (f"{label}.{name}", pulled_path(ledger, label, output), output.size)
        for label, name, output in made
    ]


def has_made(run: RunState) -> bool:
    """Whether there is anything to bring."""
    done = (stage for stage in run.stages.values() if stage.status is Status.SUCCEEDED)
    outputs = (output for stage in done for output in stage.outputs.values())
    return any(isinstance(output, StageArtifact) for output in outputs)


def _bring_each(
    backend: Backend, ledger: Ledger, made: list[tuple[str, str, StageArtifact]]
) -> None:
    """All that can be had, before what can't stops the command: what was spilled comes from the
    bucket, whether or not the box is there."""
    missing: dict[str, StageArtifact] = {}
    stopped: BoxStopped | None = None
    for label, name, output in made:
        try:
            backend.fetch(output, ledger.folder / "artifacts" / label)
        except BoxStopped as error:
            missing[f"{label}.{name}"], stopped = output, error
    if stopped:
        raise _not_all(stopped, missing, len(made), backend.name, ledger.run_id)


def _not_all(
    stopped: BoxStopped, missing: dict[str, StageArtifact], count: int, box: str, run_id: str
) -> BoxStopped:
    shared = [name for name, output in missing.items() if output.path.startswith("shared/")]
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
