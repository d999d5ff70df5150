"""The stages that are no jobs: the command waits for them. Each takes a `Task` and returns its
outputs and values (numbers)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.control.backends.base import Backend
from remote.control.backends.resolved import LaptopFile, PlainValue, Resolved, StageArtifact
from remote.control.config.inventory import Inventory
from remote.control.progress import details
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import PlannedStage
from remote.control.runs.reporter import Reporter
from remote.control.runs.wiring import options_of


@dataclass(frozen=True)
class Task:
    """One laptop stage about to run: its plan, its resolved inputs, and what it may use;
    `reporter` shows what it does."""

    stage: PlannedStage
    inputs: dict[str, Resolved]
    backend: Backend
    ledger: Ledger
    inventory: Inventory
    reporter: Reporter

    @property
    def folder(self) -> Path:
        """Where the stage leaves its files."""
        return self.ledger.folder / "artifacts" / self.stage.label

    def local(self, name: str) -> Path | None:
        """An input as a verified file or folder on the laptop; None when it is not wired."""
        found = self.inputs.get(name)
        if found is None:
            return None
        if isinstance(found, LaptopFile):
            return found.local_path
        assert isinstance(found, StageArtifact), f"`inv check` lets no other `{name}` through"
        producer = str(self.stage.wiring[name]).split(".", maxsplit=1)[0]
        return self.backend.fetch(found, self.ledger.folder / "artifacts" / producer)

    def required(self, name: str) -> Path:
        """An input that must be wired."""
        path = self.local(name)
        assert path is not None, (
            f"`inv check` lets no {self.stage.uses} stage without `{name}` through"
        )
        return path


Made = tuple[dict[str, Resolved], dict[str, Any]]


def preflight(task: Task) -> Made:
    """Run every check on the box in one round trip; raises PreflightFailed when one fails."""
    from remote.control.runs.preflight import require

    report = task.backend.preflight(task.stage.recipe or {}, task.inputs)
    task.reporter.checks(report)
    remedy = f"fix what the table names, then ./inv resume {task.ledger.run_id}"
    require(report, task.backend.where, remedy)
    return {}, {"failures": report.failures, "warnings": report.warnings}


def pull(task: Task) -> Made:
    """Bring every artifact named under `with:` to the laptop."""
    brought = {name: task.required(name) for name in task.inputs}
    # Verified as they came: large files are not hashed once more.
    made = {
        name: LaptopFile.of(path, str(task.inputs[name].identity)) for name, path in brought.items()
    }
    return {**made}, {}


def install(task: Task) -> Made:
    """Put the GGUF into Ollama and try it."""
    from remote.control.serving.find import find_ollama
    from remote.control.serving.install import install as install_model

    gguf, parity = task.required("gguf"), task.required("parity")
    name = str(options_of(task.stage).get("name") or task.stage.label)
    facts = install_model(
        find_ollama(task.inventory), gguf, parity, name, task.folder, details(task.reporter.say)
    )
    return {"model": PlainValue(name)}, facts


def validate(task: Task) -> Made:
    """Ask the installed model the held-out rows."""
    from remote.control.serving.find import find_ollama
    from remote.control.serving.validate import validate as validate_model

    model = str(task.inputs["model"].identity)
    limit = options_of(task.stage).get("max_rows")
    client = find_ollama(task.inventory)
    values = validate_model(
        client,
        model,
        task.required("val"),
        task.local("report"),
        limit,
        task.folder,
        task.reporter.rows,
    )
    return {"answers": LaptopFile.of(task.folder / "answers.json")}, values


def rollback(task: Task) -> None:
    """Give the model's name back to the version that stood before."""
    from remote.control.serving.find import find_ollama
    from remote.control.serving.rollback import rollback as roll_back

    roll_back(find_ollama(task.inventory), str(task.inputs["model"].identity))


VERBS: dict[str, Callable[[Task], Made]] = {
    "preflight": preflight,
    "pull": pull,
    "install": install,
    "validate": validate,
}
"""Every laptop stage by the word after `uses:`."""
