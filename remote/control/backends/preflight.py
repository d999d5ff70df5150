"""The checks of a box before a job: what to ask for, in one round trip, and the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.contract.job.checks import Check, Verdict
from remote.control.cloud.account import endpoint
from remote.control.config.checks.fit import need_of
from remote.control.config.recipe import Recipe
from remote.control.transport.base import Transport
from remote.control.transport.payload import call, payload_command, understood

if TYPE_CHECKING:
    from remote.control.cloud.box import Box

_OTHER_CHECKS_SECONDS = 600.0
"""What the checks that need no torch may take: the base model's files may lie on a slow disk."""


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
