"""What the trainer needs of a recipe, typed. Standard library only."""

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from remote.contract.artifacts import chat_templates
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

_FREE = (
    "device",
    "base_name",
    "checkpoint_every",
    "validate_every",
    "recompute",
    "batch",
    "accumulation",
)

_UNREAD = "the recipe lacks a value, or has one unknown here"


@dataclass(frozen=True)
class Settings:
    """How to train. `warmup` below 1 is a share of the steps, else a number of them; `max_steps`
    overrules `epochs`."""

    device: str
    base_name: str
    chat_template: str | None
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
            raise StageFailed(
                Cause.CONFIG,
                "the stage `train` got no recipe",
                remedy="add `recipe:` to the stage in the playbook",
            )
        refuse_unknown(recipe)
        base, quantization, lora = (
            recipe.get(name) or {} for name in ("base", "quantization", "lora")
        )
        try:
            settings = cls(
                device=recipe.get("device", "cuda"),
                base_name=base.get("name") or "",
                chat_template=chat_template_of(recipe),
                quantization=quantization["type"],
                double=quantization["double"],
                compute_dtype=quantization["compute_dtype"],
                **{**lora, "targets": tuple(lora["targets"])},
                **(recipe.get("training") or {}),
            )
        except (KeyError, TypeError) as error:
            raise StageFailed(
                Cause.CONFIG, _UNREAD, str(error), "compare it with the shipped recipes"
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
                    Cause.CONFIG,
                    f"{name}: {getattr(self, name)!r}",
                    f"expected one of {', '.join(values)}",
                    "edit the recipe",
                )
        for name in ("r", "batch", "accumulation", "max_length"):
            if getattr(self, name) < 1:
                raise StageFailed(
                    Cause.CONFIG,
                    f"{name}: {getattr(self, name)}",
                    "expected at least 1",
                    "edit the recipe",
                )
        if "lm_head" in self.targets or not self.targets:
            raise StageFailed(
                Cause.CONFIG,
                f"lora.targets: {list(self.targets)}",
                "expected linear layers below the head",
                "edit the recipe",
            )


_LORA = ("r", "alpha", "dropout", "rslora", "targets")
_KEYS: dict[str, tuple[str, ...]] = {
    "base": ("name", "path", "chat_template"),
    "quantization": ("type", "double", "compute_dtype"),
    "lora": _LORA,
    "training": tuple(
        name
        for name in Settings.__dataclass_fields__
        if name
        not in (
            *_LORA,
            "device",
            "base_name",
            "chat_template",
            "quantization",
            "double",
            "compute_dtype",
        )
    ),
}
"""What a section of a recipe may hold. `pretraining` belongs to another stage, which knows its
keys."""


def refuse_unknown(recipe: dict[str, Any]) -> None:
    """Raise StageFailed for a key of a recipe that no code here looks at: what was meant by it
    would not happen."""
    given = [(name, ("device", "pretraining", *_KEYS), "the recipe") for name in recipe]
    for section, keys in _KEYS.items():
        values = recipe.get(section) or {}
        if not isinstance(values, dict):
            raise StageFailed(
                Cause.CONFIG,
                f"`{section}` is {values!r}",
                f"expected {', '.join(keys)}",
                "edit the recipe",
            )
        given += [(name, keys, f"`{section}`") for name in values]
    for name, keys, place in given:
        if name not in keys:
            close = get_close_matches(str(name), keys, 1)
            remedy = f"write `{close[0]}`, or remove it" if close else "remove it"
            why = f"{place} has the unknown key `{name}`; expected {', '.join(keys)}"
            raise StageFailed(Cause.CONFIG, _UNREAD, why, remedy)


def chat_template_of(recipe: dict[str, Any]) -> str | None:
    """The text of the recipe's `base.chat_template`, or None where the base brings its own."""
    given = (recipe.get("base") or {}).get("chat_template")
    try:
        return chat_templates.text_of(given) if given else None
    except ValueError as error:
        raise StageFailed(
            Cause.CONFIG, f"base.chat_template: {given!r}", str(error), "edit the recipe"
        ) from None
