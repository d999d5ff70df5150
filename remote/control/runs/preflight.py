"""Preflight from the laptop's side: what to check, and where, and the error of a failed check."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.dataset_file import EXPECTED
from remote.control import backends
from remote.control.backends.preflight import Report
from remote.control.backends.resolved import LaptopFile, Resolved
from remote.control.config.checks.check import refusal_of
from remote.control.errors import ConfigError, Finding, NotFound, PreflightFailed
from remote.control.output.sanitize import counted
from remote.control.progress import Bytes, Say, no_bytes, silent
from remote.control.project import find_file
from remote.control.runs.state import RunState
from remote.control.runs.wiring import base_by_name, box_path, inputs_of

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, Inventory


class ChecksFailed(PreflightFailed):
    """Preflight ended, and at least one check failed: the report is in it."""

    def __init__(self, report: Report, where: str, remedy: str) -> None:
        named = ", ".join(check.name for check in report.failed)
        what = (
            f"preflight: {report.failures} of {counted(len(report.checks), 'check')} failed:"
            f" {named}"
        )
        super().__init__(what, where=where, remedy=remedy, kept="everything; nothing was started")
        self.report = report

    def to_json(self) -> dict[str, object]:
        """The error for scripts, with every check."""
        return {**super().to_json(), **self.report.to_json()}


def require(report: Report, where: str, remedy: str) -> None:
    """Raise ChecksFailed when a check failed."""
    if report.failures:
        raise ChecksFailed(report, where, remedy)


def preflight_box(
    entry: "BoxEntry",
    inventory: "Inventory",
    recipe: Mapping[str, Any],
    inputs: Mapping[str, Resolved],
    say: Say = silent,
    progress: Bytes = no_bytes,
) -> tuple[Report, str]:
    """Preflight on a running box: the code and the laptop's files are deployed where they are not,
    then every check.

    Returns the report and the box's name for people. Raises BoxStopped and its like.
    """
    with backends.of_entry(
        entry, inventory, may_launch=False, say=say, progress=progress
    ) as backend:
        files = [each for each in inputs.values() if isinstance(each, LaptopFile)]
        backend.files = [file.local_path for file in files]
        return backend.preflight(recipe, inputs), backend.where


def inputs_of_run(run: RunState) -> tuple[dict[str, Any], dict[str, Resolved]]:
    """The recipe and the inputs of a run's preflight stage, else of its training. Raises NotFound
    where it has neither."""
    stages = sorted(run.plan.stages, key=lambda stage: stage.uses != "preflight")
    stage = next((stage for stage in stages if stage.uses in ("preflight", "train")), None)
    if stage is None:
        raise NotFound(
            f"run {run.run_id} has no stage to check",
            remedy="name a recipe: `./inv preflight --recipe FILE --data FILE`",
        )
    return stage.recipe or {}, inputs_of(stage, run)


def inputs_of_words(recipe: Mapping[str, Any], base: str, data: str) -> dict[str, Resolved]:
    """The inputs behind `--base` and `--data`: `box:/path`, or a file on the laptop; a base by its
    name too. Without one the recipe's."""
    named = {"base": base_by_name(base, recipe), "train": data}
    return {name: _reference(name, value) for name, value in named.items() if value}


def _reference(name: str, value: str) -> Resolved:
    if value.startswith("box:"):
        return box_path(value)
    path = find_file(value)
    if not path.is_file():
        remedy = "correct the path, or write `box:/path` for a file on the box"
        raise ConfigError(
            [
                Finding(
                    f"--{'data' if name == 'train' else name}",
                    f"there is no file {value}",
                    "a file",
                    remedy,
                )
            ]
        )
    if name == "train" and (refused := refusal_of(path)):
        raise ConfigError([Finding("--data", f"{value}: {refused}", EXPECTED, refused.remedy)])
    return LaptopFile.of(path)
