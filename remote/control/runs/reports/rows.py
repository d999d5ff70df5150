"""Runs as rows for people."""

import time
from pathlib import Path

from remote.contract.files import digest
from remote.contract.job.jobs import Status
from remote.control.backends.resolved import LaptopFile, StageArtifact
from remote.control.errors import ArtifactCorrupt
from remote.control.output import timefmt
from remote.control.runs.ledger import Ledger
from remote.control.runs.state import RunState, state_of

RUN_COLUMNS = ("run", "playbook", "box", "status", "stage", "began (UTC)", "took")


def run_row(ledger: Ledger, state: RunState) -> tuple[str, ...]:
    """One run, under `RUN_COLUMNS`."""
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
    if damaged := [path for _, path, verdict in rows if verdict == "damaged"]:
        remedy = f"delete them, then `./inv pull {ledger.run_id}`"
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


def standing(ledger: Ledger, state: RunState) -> str:
    """How a run stands, in words: RUNNING while a command drives it, and no longer."""
    current = state.current()
    if ledger.is_driven():
        return str(Status.RUNNING.value)
    if state.status is Status.RUNNING:
        return "CUT OFF (no command follows it: ./inv resume)"
    if state.status is Status.FAILED and current and current.was_refused:
        return "BUSY (its job never began)"
    return str(state.status.value)


def _status(ledger: Ledger, state: RunState) -> str:
    owed = state.owed_in_words()
    return standing(ledger, state) + (
        f"; owed: {owed} (./inv resume {state.run_id})" if owed and not ledger.is_driven() else ""
    )
