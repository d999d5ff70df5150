"""The stages that run on the laptop. Each takes a `Task` and returns its outputs (references) and
values (numbers)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.control.config.inventory import Inventory
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import PlannedStage
from remote.control.runs.session import BoxSession
from remote.control.runs.wiring import Reference, file_reference, local_path, options_of


@dataclass(frozen=True)
class Task:
    """One laptop stage about to run: its plan, its resolved inputs, and what it may use."""

    stage: PlannedStage
    inputs: dict[str, Reference]
    session: BoxSession
    ledger: Ledger
    inventory: Inventory

    @property
    def folder(self) -> Path:
        """Where the stage leaves its files."""
        return self.ledger.folder / "artifacts" / self.stage.label

    def local(self, name: str) -> Path | None:
        """An input as a verified file or folder on the laptop; None when it is not wired."""
        reference = self.inputs.get(name)
        if reference is None:
            return None
        if reference["kind"] == "file":
            return local_path(reference)
        producer = str(self.stage.wiring[name]).split(".", maxsplit=1)[0]
        return self.session.bring(reference, self.ledger.folder / "artifacts" / producer)

    def required(self, name: str) -> Path:
        """An input that must be wired."""
        path = self.local(name)
        assert path is not None, (
            f"`inv check` lets no {self.stage.uses} stage without `{name}` through"
        )
        return path


Made = tuple[dict[str, Reference], dict[str, Any]]


def preflight(task: Task) -> Made:
    """Run every check on the box in one round trip; raises PreflightFailed when one fails."""
    from remote.control.output.console import aside
    from remote.control.runs.preflight import preflight as run_preflight
    from remote.control.runs.preflight import require, show

    session = task.session
    paths = {name: session.path_on_box(reference) for name, reference in task.inputs.items()}
    session.deploy()
    report = run_preflight(
        session.transport,
        session.box,
        task.stage.recipe or {},
        paths,
        storage=task.inventory.storage.bucket,
    )
    with aside():
        show(report, whole=False)
    require(
        report,
        session.transport.where,
        f"fix what the table names, then ./inv resume {task.ledger.run_id}",
    )
    return {}, {"failures": report.failures, "warnings": report.warnings}


def pull(task: Task) -> Made:
    """Bring every artifact named under `with:` to the laptop."""
    brought = {name: task.required(name) for name in task.inputs}
    # Verified as they came: large files are not hashed once more.
    return {
        name: file_reference(path, task.inputs[name]["sha256"]) for name, path in brought.items()
    }, {}


def install(task: Task) -> Made:
    """Put the GGUF into Ollama and try it."""
    from remote.control.models.find import find_ollama
    from remote.control.models.install import install as install_model

    gguf, parity = task.required("gguf"), task.required("parity")
    name = str(options_of(task.stage).get("name") or task.stage.label)
    facts = install_model(find_ollama(task.inventory), gguf, parity, name, task.folder)
    return {"model": {"kind": "value", "value": name}}, facts


def validate(task: Task) -> Made:
    """Ask the installed model the held-out rows."""
    from remote.control.models.find import find_ollama
    from remote.control.models.validate import validate as validate_model

    model = task.inputs["model"]["value"]
    limit = options_of(task.stage).get("max_rows")
    client = find_ollama(task.inventory)
    values = validate_model(
        client, model, task.required("val"), task.local("report"), limit, task.folder
    )
    return {"answers": file_reference(task.folder / "answers.json")}, values


def rollback(task: Task) -> None:
    """Give the model's name back to the version that stood before."""
    from remote.control.models.find import find_ollama
    from remote.control.models.rollback import rollback as roll_back

    roll_back(find_ollama(task.inventory), task.inputs["model"]["value"])


VERBS: dict[str, Callable[[Task], Made]] = {
    "preflight": preflight,
    "pull": pull,
    "install": install,
    "validate": validate,
}
"""Every laptop stage by the word after `uses:`."""
