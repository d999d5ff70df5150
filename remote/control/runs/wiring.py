"""What stands under a stage's `with:`, resolved against what earlier stages made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.artifacts.row_formats import first_with_library, name_needs_library
from remote.contract.files import digest
from remote.contract.job.jobs import JobState, Status
from remote.contract.job.stages import REQUIREMENTS
from remote.control.backends.resolved import BoxPath, LaptopFile, Resolved, StageArtifact
from remote.control.config.data_files import place_on_box
from remote.control.config.data_recipe import needs_libraries
from remote.control.errors import ConfigError, Finding
from remote.control.project import find_file
from remote.control.runs.plan import PlannedStage
from remote.control.runs.state import RunState

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""A base model's name: `mistralai/Mistral-7B-v0.3`, `Mistral-7B-v0.3`."""


def inputs_of(stage: PlannedStage, run: RunState) -> dict[str, Resolved]:
    """The stage's inputs; raises ConfigError for what is neither made nor
    there."""
    inputs = {
        name: _resolve(stage, name, value, run)
        for name, value in stage.wiring.items()
        if stage.names_input(name)
    }
    path = base_of_recipe(stage.recipe)
    if "base" in stage.signature.inputs and "base" not in inputs and path:
        inputs["base"] = BoxPath(path)
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
        if stage.names_input(name) and not reference_of(value, run)
    ]
    paths = [find_file(str(value)) for value in values if not str(value).startswith("box:")]
    return [path.resolve() for path in paths if path.exists()]


def files_to_send(run: RunState) -> list[Path]:
    """All such files of a run."""
    there = [stage for stage in run.plan.stages if stage.signature.runs_on == "backend"]
    return [path for stage in there for path in laptop_files_of(stage, run)]


def options_of(stage: PlannedStage) -> dict[str, Any]:
    """The plain values under `with:`."""
    return {name: value for name, value in stage.wiring.items() if not stage.names_input(name)}


def key_of(stage: PlannedStage, inputs: dict[str, Resolved]) -> str:
    """Digest of all that goes into a stage: the same key means the same work."""
    identities = {name: each.identity for name, each in inputs.items()}
    return digest.of_value(
        {
            "uses": stage.uses,
            "options": options_of(stage),
            "recipe": stage.recipe,
            "inputs": identities,
            "gates": stage.gates,
        }
    )


def environment_of(stage: PlannedStage, inputs: Mapping[str, Resolved]) -> str | None:
    """The requirements file of the Python environment that the stage's job works in; None for the
    box's own Python, which is enough to make rows of plain files."""
    if stage.signature.environment or stage.signature.recipe_kind != "data":
        return stage.signature.environment
    is_needed = needs_libraries(stage.recipe or {}) or any(map(_may_need_library, inputs.values()))
    return REQUIREMENTS if is_needed else None


def _may_need_library(rows: Resolved) -> bool:
    """Whether a file or folder of rows needs more than the standard library; True for a folder that
    only the box can look into."""
    if isinstance(rows, LaptopFile):
        return first_with_library(rows.local_path) is not None
    if isinstance(rows, StageArtifact):
        return rows.is_folder or name_needs_library(rows.path)
    is_file = isinstance(rows, BoxPath) and bool(Path(rows.path).suffix)
    return not is_file or name_needs_library(str(rows.identity))


@dataclass(frozen=True)
class Reference:
    """An output of an earlier stage, written `stage.output` under `with:`."""

    stage: str
    output: str


def reference_of(value: Any, run: RunState) -> Reference | None:
    """The output that `value` refers to, if a stage of the run makes one of that name."""
    if not isinstance(value, str) or value.count(".") != 1:
        return None
    reference = Reference(*value.split("."))
    stage = next((stage for stage in run.plan.stages if stage.label == reference.stage), None)
    if stage is None:
        return None
    outputs = stage.wiring if stage.signature.any_input else stage.signature.outputs
    return reference if reference.output in outputs else None


def outputs_of_job(state: JobState, box: str) -> dict[str, Resolved]:
    """What a finished job made."""
    return {
        name: StageArtifact(**vars(artifact), box=box) for name, artifact in state.artifacts.items()
    }


def box_path(value: str) -> BoxPath:
    """What stands on the box: `box:/path`, `box:~/path`, `box:path`."""
    return BoxPath(place_on_box(value))


def base_by_name(base: str, recipe: Mapping[str, Any] | None = None) -> str:
    """What stands behind `--base`: `box:...` as it is, a name as the place of that model on the
    box; without one the recipe's name."""
    if not base:
        return f"box:{path}" if (path := base_of_recipe(recipe)) else ""
    is_name = _NAME.fullmatch(base) and not find_file(base).exists()
    return f"box:{base_models.place(base)}" if is_name else base


def _resolve(stage: PlannedStage, name: str, value: Any, run: RunState) -> Resolved:
    if reference := reference_of(value, run):
        made = run.stages[reference.stage]
        if made.status is Status.SUCCEEDED and reference.output in made.outputs:
            return made.outputs[reference.output]
        raise _finding(
            stage,
            name,
            f"`{value}` is not made yet",
            f"stage `{reference.stage}` to have succeeded",
            f"./inv resume {run.run_id}",
        )
    if isinstance(value, str) and value.startswith("box:"):
        return box_path(value)
    path = find_file(str(value))
    if not path.exists():
        raise _finding(
            stage,
            name,
            f"no file `{value}`",
            "a file of the project, or `stage.output`",
            "put it there, or fix the path",
        )
    return LaptopFile.of(path)


def _finding(stage: PlannedStage, name: str, what: str, expected: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(f"stage {stage.label}, with.{name}", what, expected, remedy)])
