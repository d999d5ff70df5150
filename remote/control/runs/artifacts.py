"""A run's artifacts on this laptop: brought here outside of a playbook, and verified."""

from dataclasses import dataclass
from pathlib import Path

from remote.contract.files import digest
from remote.contract.job.jobs import Status
from remote.control.backends.base import Backend
from remote.control.backends.resolved import LaptopFile, StageArtifact
from remote.control.config.inventory import Inventory
from remote.control.errors import ArtifactCorrupt, BoxStopped, NotFound
from remote.control.runs.finish import backend_of, settle
from remote.control.runs.ledger import Ledger
from remote.control.runs.reporter import NOBODY, Reporter
from remote.control.runs.state import RunState, state_of


@dataclass(frozen=True)
class Brought:
    """An artifact of a run: `name` is `stage.output`, `path` where it lies on the laptop."""

    name: str
    path: Path
    bytes: int


def bring_all(
    ledger: Ledger,
    inventory: Inventory,
    only: str = "",
    dry_run: bool = False,
    reporter: Reporter = NOBODY,
) -> list[Brought]:
    """Pull the artifacts of every finished stage, or of stage `only`; with `dry_run` nothing is
    done.

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
        # Alone: two that pull one artifact would write into one another's part. And nothing is
        # launched, and billed, for a look at files.
        with (
            ledger.locked("pull"),
            backend_of(ledger, inventory, run.box, reporter, may_launch=False) as backend,
        ):
            _bring_each(backend, ledger, made)
            settle(ledger, inventory, reporter)
    return [
        Brought(f"{label}.{name}", pulled_path(ledger, label, output), output.size)
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


def verify_artifacts(ledger: Ledger) -> list[tuple[str, str, str]]:
    """Every artifact the ledger names that lies on this laptop: name, path, and `whole`, `damaged`
    or `not here`."""
    rows = []
    for stage in state_of(ledger).stages.values():
        for name, output in stage.outputs.items():
            if isinstance(output, LaptopFile | StageArtifact):
                path = (
                    output.local_path
                    if isinstance(output, LaptopFile)
                    else pulled_path(ledger, stage.label, output)
                )
                rows.append((f"{stage.label}.{name}", str(path), _verdict(path, output.sha256)))
    return rows


def verdicts(rows: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    """The rows of `verify_artifacts` for scripts."""
    return [{"artifact": name, "path": path, "verdict": verdict} for name, path, verdict in rows]


def require_whole(ledger: Ledger, rows: list[tuple[str, str, str]]) -> None:
    """Raise ArtifactsDamaged where a verdict is `damaged`."""
    damaged = list(dict.fromkeys(path for _, path, verdict in rows if verdict == "damaged"))
    if damaged:
        remedy = f"`./inv pull {ledger.run_id}` brings them anew, verified; the box must run"
        raise ArtifactsDamaged(f"{len(damaged)} damaged: {', '.join(damaged)}", rows, remedy)


class ArtifactsDamaged(ArtifactCorrupt):
    """Pulled files are not what the ledger says: every verdict is in it."""

    def __init__(self, what: str, rows: list[tuple[str, str, str]], remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.rows = rows

    def to_json(self) -> dict[str, object]:
        """The error for scripts, with every verdict."""
        return {**super().to_json(), "artifacts": verdicts(self.rows)}


def pulled_path(ledger: Ledger, label: str, artifact: StageArtifact) -> Path:
    """Where an artifact of a stage lies once it is pulled."""
    return ledger.folder / "artifacts" / label / Path(artifact.path).name


def _verdict(path: Path, sha256: str) -> str:
    if not path.exists():
        return "not here"
    return "whole" if digest.of_path(path) == sha256 else "damaged"
