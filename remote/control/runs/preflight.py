"""Preflight from the laptop's side: what to ask the box for, one round trip, the table of
answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.dataset_file import EXPECTED
from remote.contract.job.checks import Check, Verdict
from remote.control.cloud.account import endpoint
from remote.control.config.checks.check import refusal_of
from remote.control.config.checks.fit import need_of
from remote.control.config.recipe import Recipe
from remote.control.errors import ConfigError, Finding, NotFound, PreflightFailed
from remote.control.output.console import print_table, say, tell
from remote.control.output.sanitize import counted
from remote.control.project import find_file
from remote.control.runs.state import RunState
from remote.control.runs.wiring import (
    Reference,
    base_by_name,
    box_reference,
    file_reference,
    inputs_of,
    local_path,
)
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, payload_command, understood

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import BoxEntry

_OTHER_CHECKS_SECONDS = 600.0
"""What the checks that need no torch may take: the base model's files may lie on a slow disk."""

_STYLE = {
    Verdict.OK: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.SKIP: "dim",
}


@dataclass(frozen=True)
class Report:
    """What preflight found. `seconds` were spent on the box; `round_trips` are the commands it
    took."""

    checks: list[Check]
    seconds: float
    round_trips: int = 1

    @property
    def failed(self) -> list[Check]:
        """The checks that keep a job from starting."""
        return [check for check in self.checks if check.verdict is Verdict.FAIL]

    @property
    def failures(self) -> int:
        """How many checks failed."""
        return len(self.failed)

    @property
    def warnings(self) -> int:
        """How many checks warn."""
        return sum(check.verdict is Verdict.WARN for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        counts = {"failures": self.failures, "warnings": self.warnings}
        return {
            "checks": [check.to_json() for check in self.checks],
            "seconds": self.seconds,
            "round_trips": self.round_trips,
            **counts,
        }


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


def preflight(
    transport: Transport,
    box: "Box",
    recipe: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    storage: str | None = None,
    requirements: str = "requirements.txt",
    probe_seconds: float = 180,
) -> Report:
    """Run every check on the box in one round trip.

    `recipe` is composed and plain; `inputs` are paths on the box, absolute or relative to its root;
    `storage` is a bucket; `probe_seconds` limit the checks that need torch. Failing checks are in
    the report; PreflightFailed is only raised where nothing is deployed on the box, or it has no
    Python.
    """
    asked = {
        "recipe": dict(recipe),
        "inputs": dict(inputs),
        "thresholds": thresholds(recipe),
        "requirements": requirements,
        "storage_url": f"{endpoint.storage_url(box)}/{storage}" if storage else "",
        "probe_seconds": probe_seconds,
    }
    before = transport.round_trips
    seconds = probe_seconds + _OTHER_CHECKS_SECONDS
    done = call(
        transport,
        payload_command(box.root, "preflight"),
        json.dumps(asked).encode(),
        seconds=seconds,
    )
    with understood(transport.where):
        return Report(
            [Check.from_json(check) for check in done["checks"]],
            float(done["seconds"]),
            transport.round_trips - before,
        )


def thresholds(recipe: Mapping[str, Any]) -> dict[str, float]:
    """What the box must have, in GB, besides the base model and the environment that are on it
    already."""
    composed = Recipe.model_validate(dict(recipe)) if recipe else None
    need = need_of(composed) if composed else None
    found: dict[str, float] = {}
    if need is not None:
        found = {
            "disk_gb": max(1.0, need.disk_gb - need.base_gb - need.environment_gb),
            "host_gb": need.host_gb,
        }
    if composed is None or composed.device == "cpu":
        return found
    if composed.quantization.compute_dtype == "bfloat16":
        found["capability"] = 8.0
    return {**found, "gpu_gb": need.training_gb} if need else found


def require(report: Report, where: str, remedy: str) -> None:
    """Raise ChecksFailed when a check failed."""
    if report.failures:
        raise ChecksFailed(report, where, remedy)


def show(report: Report, whole: bool = True) -> None:
    """The table for people: every check, and a remedy wherever there is one; not `whole`: only
    those that warn or fail."""
    from rich.text import Text

    rows = [
        (
            check.name,
            check.measured,
            check.expected,
            Text(check.verdict.value, _STYLE[check.verdict]),
            check.remedy,
        )
        for check in report.checks
        if whole or check.verdict in (Verdict.WARN, Verdict.FAIL)
    ]
    if rows:
        print_table("", ("check", "measured", "expected", "verdict", "remedy"), rows)
    tell(
        f"{counted(len(report.checks), 'check')} in {report.seconds:.1f} s: {report.failures}"
        f" failed, {report.warnings} warn"
    )


def preflight_box(
    entry: "BoxEntry",
    recipe: Mapping[str, Any],
    inputs: Mapping[str, Reference],
    storage: str | None,
) -> tuple[Report, str]:
    """Preflight on a running box: the code and the laptop's files are deployed where they are not,
    then every check.

    Returns the report and the box's name for people. Raises BoxStopped and its like.
    """
    from remote.control.cloud import boxes
    from remote.control.config.inventory import load_inventory
    from remote.control.transport.connect import connect
    from remote.control.transport.push.release import build_release, deploy
    from remote.control.transport.push.selection import Push

    box, files = (
        boxes.running(entry),
        [local_path(reference) for reference in inputs.values() if reference["kind"] == "file"],
    )
    release = build_release(files, push=Push.of(load_inventory()))
    with connect(box) as transport:
        deploy(
            transport, box.root, release, lambda line: say(f"  {line}", "dim"), shared=entry.shared
        )
        paths = {name: _on_box(reference, release.digest) for name, reference in inputs.items()}
        return preflight(transport, box, recipe, paths, storage=storage), transport.where


def inputs_of_run(run: RunState) -> tuple[dict[str, Any], dict[str, Reference]]:
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


def inputs_of_words(recipe: Mapping[str, Any], base: str, data: str) -> dict[str, Reference]:
    """The inputs behind `--base` and `--data`: `box:/path`, or a file on the laptop; a base by its
    name too. Without one the recipe's."""
    named = {"base": base_by_name(base, recipe), "train": data}
    return {name: _reference(name, value) for name, value in named.items() if value}


def _reference(name: str, value: str) -> Reference:
    if value.startswith("box:"):
        return box_reference(value)
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
    return file_reference(path)


def _on_box(reference: Reference, release: str) -> str:
    return (
        f"releases/{release}/files/{reference['path']}"
        if reference["kind"] == "file"
        else str(reference["path"])
    )
