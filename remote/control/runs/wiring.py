"""What stands under a stage's `with:`, resolved against what earlier stages made.

A reference is a plain JSON object, the same in the ledger and in memory:

- `{"kind": "artifact", "box", "path", "size", "sha256", "is_folder"}`: a file or folder on a box,
  `path` relative to its root
- `{"kind": "file", "path", "sha256"}`: a file or folder on the laptop, `path` as
  `remote.control.project` names it
- `{"kind": "box", "path"}`: something that stands on the box already
- `{"kind": "value", "value"}`: a plain value
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.files import digest
from remote.contract.job.jobs import Artifact, JobState, Status
from remote.control.errors import ArtifactCorrupt, ConfigError, Finding
from remote.control.project import find_file, name_of, path_of
from remote.control.runs.plan import PlannedStage
from remote.control.runs.state import RunState

Reference = dict[str, Any]

_OWN_FOLDERS = ("shared/", "jobs/", "releases/")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""A base model's name: `mistralai/Mistral-7B-v0.3`, `Mistral-7B-v0.3`."""


def inputs_of(stage: PlannedStage, run: RunState) -> dict[str, Reference]:
    """The references behind the stage's inputs; raises ConfigError for what is neither made nor
    there."""
    inputs = {
        name: _resolve(stage, name, value, run)
        for name, value in stage.wiring.items()
        if stage.names_input(name)
    }
    path = base_of_recipe(stage.recipe)
    if "base" in stage.signature.inputs and "base" not in inputs and path:
        inputs["base"] = {"kind": "box", "path": path}
    return inputs


def base_of_recipe(recipe: Mapping[str, Any] | None) -> str:
    """Where a recipe's base model lies on the box: its `base.path`, else the shared place under its
    name; empty without either."""
    base = (recipe or {}).get("base") or {}
    return str(base.get("path") or (base_models.place(base["name"]) if base.get("name") else ""))


def laptop_files_of(stage: PlannedStage, run: RunState) -> list[Path]:
    """The files of the project that a box stage needs and no stage makes: they travel in the
    release."""
    values = [
        value
        for name, value in stage.wiring.items()
        if stage.names_input(name) and not producer_of(value, run)
    ]
    paths = [find_file(str(value)) for value in values if not str(value).startswith("box:")]
    return [path.resolve() for path in paths if path.exists()]


def files_to_send(run: RunState) -> list[Path]:
    """All such files of a run."""
    on_box = [
        stage for stage in run.plan.stages if stage.signature.on_box or stage.uses == "preflight"
    ]
    return [path for stage in on_box for path in laptop_files_of(stage, run)]


def options_of(stage: PlannedStage) -> dict[str, Any]:
    """The plain values under `with:`."""
    return {name: value for name, value in stage.wiring.items() if not stage.names_input(name)}


def key_of(stage: PlannedStage, inputs: dict[str, Reference]) -> str:
    """Digest of all that goes into a stage: the same key means the same work."""
    identities = {name: _identity(reference) for name, reference in inputs.items()}
    return digest.of_value(
        {
            "uses": stage.uses,
            "options": options_of(stage),
            "recipe": stage.recipe,
            "inputs": identities,
            "gates": stage.gates,
        }
    )


def producer_of(value: Any, run: RunState) -> str | None:
    """The label of the stage that makes what `value` refers to, if it is a reference
    `label.output`."""
    if not isinstance(value, str) or value.count(".") != 1:
        return None
    label, output = value.split(".")
    stage = next((stage for stage in run.plan.stages if stage.label == label), None)
    return (
        label
        if stage
        and output in (stage.wiring if stage.signature.any_input else stage.signature.outputs)
        else None
    )


def outputs_of_job(state: JobState, box: str) -> dict[str, Reference]:
    """The references to what a finished job made."""
    return {
        name: {"kind": "artifact", "box": box, **vars(artifact)}
        for name, artifact in state.artifacts.items()
    }


def artifact_of(reference: Reference) -> Artifact:
    """The artifact behind a reference of that kind. Raises ArtifactCorrupt for one that cannot be:
    it becomes the name of a file here."""
    artifact = Artifact(
        reference["path"], reference["size"], reference["sha256"], reference["is_folder"]
    )
    try:
        artifact.check()
    except ValueError as error:
        what, remedy = "the ledger names an artifact that cannot be", "`./inv resume` makes it anew"
        raise ArtifactCorrupt(what, why=str(error), remedy=remedy) from None
    return artifact


def file_reference(path: Path, sha256: str | None = None) -> Reference:
    """A reference to a file or folder on the laptop; `sha256` where its digest is known already."""
    return {"kind": "file", "path": name_of(path), "sha256": sha256 or digest.of_path(path)}


def box_reference(value: str) -> Reference:
    """A reference to what stands on the box: `box:/path`, `box:~/path`; `box:path` is relative to
    the login's home, as `scp` has it.

    What begins as Windlass's own folders do (`shared/`, `jobs/`, `releases/`) is relative to its
    root there.
    """
    path = value.removeprefix("box:")
    return {
        "kind": "box",
        "path": path if path.startswith(("/", "~", *_OWN_FOLDERS)) else f"~/{path}",
    }


def base_by_name(base: str, recipe: Mapping[str, Any] | None = None) -> str:
    """What stands behind `--base`: `box:...` as it is, a name as the place of that model on the
    box; without one the recipe's name."""
    if not base:
        return f"box:{path}" if (path := base_of_recipe(recipe)) else ""
    is_name = _NAME.fullmatch(base) and not find_file(base).exists()
    return f"box:{base_models.place(base)}" if is_name else base


def local_path(reference: Reference) -> Path:
    """Where a reference of kind `file` lies."""
    return path_of(reference["path"])


def _resolve(stage: PlannedStage, name: str, value: Any, run: RunState) -> Reference:
    if label := producer_of(value, run):
        output = value.split(".")[1]
        made = run.stages[label]
        if made.status is Status.SUCCEEDED and output in made.outputs:
            return made.outputs[output]
        raise _finding(
            stage,
            name,
            f"`{value}` is not made yet",
            f"stage `{label}` to have succeeded",
            f"./inv resume {run.run_id}",
        )
    if isinstance(value, str) and value.startswith("box:"):
        return box_reference(value)
    path = find_file(str(value))
    if not path.exists():
        raise _finding(
            stage,
            name,
            f"no file `{value}`",
            "a file of the project, or `stage.output`",
            "put it there, or fix the path",
        )
    return file_reference(path)


def _finding(stage: PlannedStage, name: str, what: str, expected: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(f"stage {stage.label}, with.{name}", what, expected, remedy)])


def _identity(reference: Reference) -> Any:
    match reference["kind"]:
        case "artifact" | "file":
            return reference["sha256"]
        case "box":
            return reference["path"]
        case _:
            return reference["value"]
