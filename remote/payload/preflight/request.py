"""What the laptop asks preflight for: one JSON document on standard input."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.files import untrusted_json
from remote.contract.job.paths import BoxPaths


@dataclass(frozen=True)
class Request:
    """The recipe, where its inputs lie, and what the box must have.

    `inputs` are paths on the box, absolute or relative to its root; `thresholds` may hold
    `disk_gb`, `host_gb`, `gpu_gb` and `capability`; `storage_url` is an address of the bucket, or
    empty; `probe_seconds` limits the probe.
    """

    recipe: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    requirements: str = "requirements.txt"
    storage_url: str = ""
    probe_seconds: float = 180

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """Read a request; raises ValueError or TypeError when it is not one."""
        return cls(**untrusted_json.loads_object(text))

    @property
    def device(self) -> str:
        """Where the recipe computes: `cuda` or `cpu`."""
        return str(self.recipe.get("device") or "cuda")

    def path(self, name: str) -> Path | None:
        """An input on this box, or None when the request does not have it."""
        if not self.inputs.get(name):
            return None
        root = BoxPaths.of_release().root
        path = root / Path(self.inputs[name]).expanduser()
        return base_models.found(path, root, self.recipe) if name == "base" else path
