"""The golden configuration of the Mistral pipeline, and how a recipe differs from it."""

from dataclasses import dataclass
from typing import Any

BASE = "base.name"
"""The key that says which base the values belong to."""

GOLDEN: dict[str, Any] = {
    BASE: "mistralai/Mistral-7B-v0.3",
    "quantization.type": "nf4",
    "quantization.double": True,
    "lora.r": 64,
    "lora.alpha": 16,
    "lora.dropout": 0.1,
    "lora.targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "training.batch": 4,
    "training.max_length": 1024,
    "training.learning_rate": 2e-4,
}
"""The values that were tuned together on Mistral 7B v0.3."""


@dataclass(frozen=True)
class Deviation:
    """One value of a recipe that is not the golden one."""

    key: str
    value: Any
    golden: Any

    def __str__(self) -> str:
        return f"{self.key.rpartition('.')[2]}: {shown(self.value)}, golden {shown(self.golden)}"


def deviations(recipe: dict[str, Any]) -> list[Deviation]:
    """Every value of the composed recipe that differs from the golden configuration, in its order.
    A missing value differs."""
    found = ((key, _value(recipe, key), golden) for key, golden in GOLDEN.items())
    return [
        Deviation(key, value, golden) for key, value, golden in found if not _same(value, golden)
    ]


def shown(value: Any) -> str:
    """A value as it stands in a recipe."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(recipe: dict[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return (recipe.get(section) or {}).get(name)


def _same(value: Any, golden: Any) -> bool:
    if isinstance(golden, list):
        return isinstance(value, list) and sorted(map(str, value)) == sorted(golden)
    return bool(value == golden)
