"""What the trainer needs of a recipe, typed. Standard library only."""

from dataclasses import asdict, dataclass
from typing import Any

from remote.contract.jobs import Cause
from remote.payload.job import StageFailed

_FREE = ("device", "base_name", "checkpoint_every", "validate_every", "recompute", "batch", "accumulation")


@dataclass(frozen=True)
class Settings:
    """How to train. `warmup` below 1 is a share of the steps, else a number of them; `max_steps` overrules `epochs`."""

    device: str
    base_name: str
    quantization: str
    double: bool
    compute_dtype: str
    r: int
    alpha: float
    dropout: float
    rslora: bool
    targets: tuple[str, ...]
    batch: int
    accumulation: int
    max_length: int
    learning_rate: float
    epochs: float
    max_steps: int | None
    warmup: float
    schedule: str
    weight_decay: float
    clip: float | None
    seed: int
    checkpoint_every: int
    validate_every: int
    recompute: bool
    overlong: str = "truncate"

    @classmethod
    def of_recipe(cls, recipe: dict[str, Any] | None) -> "Settings":
        """Read a composed recipe; raises StageFailed when a value is missing or not one we know."""
        if not recipe:
            raise StageFailed(Cause.CONFIG, "the stage `train` got no recipe", remedy="add `recipe:` to the stage in the playbook")
        quantization, lora = dict(recipe.get("quantization") or {}), dict(recipe.get("lora") or {})
        try:
            settings = cls(
                device=recipe.get("device", "cuda"),
                base_name=(recipe.get("base") or {}).get("name") or "",
                quantization=quantization["type"],
                double=quantization["double"],
                compute_dtype=quantization["compute_dtype"],
                targets=tuple(lora.pop("targets")),
                **lora,
                **(recipe.get("training") or {}),
            )
        except (KeyError, TypeError) as error:
            raise StageFailed(
                Cause.CONFIG, "the recipe lacks a value, or has one unknown here", str(error), "compare it with the shipped recipes"
            ) from None
        settings._check()
        return settings

    @property
    def rows_per_step(self) -> int:
        """How many rows the optimizer sees before it moves."""
        return self.batch * self.accumulation

    def identity(self) -> dict[str, Any]:
        """All that decides the trained weights: a checkpoint belongs to exactly one such value."""
        chosen = {name: value for name, value in asdict(self).items() if name not in _FREE}
        return {**chosen, "targets": sorted(self.targets), "rows_per_step": self.rows_per_step}

    def _check(self) -> None:
        known = {
            "device": ("cpu", "cuda"),
            "quantization": ("nf4", "fp4"),
            "compute_dtype": ("bfloat16", "float16", "float32"),
            "schedule": ("cosine", "linear", "constant"),
            "overlong": ("truncate", "drop"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise StageFailed(
                    Cause.CONFIG, f"{name}: {getattr(self, name)!r}", f"expected one of {', '.join(values)}", "edit the recipe"
                )
        for name in ("r", "batch", "accumulation", "max_length"):
            if getattr(self, name) < 1:
                raise StageFailed(Cause.CONFIG, f"{name}: {getattr(self, name)}", "expected at least 1", "edit the recipe")
        if "lm_head" in self.targets or not self.targets:
            raise StageFailed(
                Cause.CONFIG, f"lora.targets: {list(self.targets)}", "expected linear layers below the head", "edit the recipe"
            )
