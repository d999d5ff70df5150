"""A recipe: how a model is trained. Recipes compose with `extends:`; the trainer gets
`model_dump()` as plain JSON."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from remote.contract.artifacts import chat_templates
from remote.control import project
from remote.control.config.yaml import compose, explain
from remote.control.config.yaml.section import Count, Section
from remote.control.config.yaml.source import Source
from remote.control.errors import ConfigError

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The linear layers of a Mistral block."""

PROJECTIONS: list[Projection] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
]

FOLDER = "playbooks/recipes"


class Base(Section):
    """The model that is tuned."""

    name: str = Field(
        description="what the model is called", examples=["mistralai/Mistral-7B-v0.3"]
    )
    path: str | None = Field(
        default=None,
        description="its folder on the box; used when no stage gives `base`",
        examples=["/home/ubuntu/mistral-7b-v0.3"],
    )
    chat_template: str | None = Field(
        default=None,
        description=(
            "how a chat is written for it, in place of its own: `mistral-v3`, or a Jinja file,"
            " relative to the recipe"
        ),
        examples=["mistral-v3"],
    )

    @field_validator("chat_template")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        if value is not None:
            chat_templates.text_of(value)
        return value


class Quantization(Section):
    """How the base's weights are held while training."""

    type: Literal["nf4", "fp4"] = Field(default="nf4", description="the 4-bit number format")
    double: bool = Field(
        default=True, description="quantise the scales too: saves 0.4 bit a weight"
    )
    compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        default="bfloat16",
        description="numbers of the arithmetic; bfloat16 needs compute capability 8.0",
    )


class Lora(Section):
    """The adapter."""

    r: int = Field(default=64, ge=1, le=1024, description="rank of the adapter")
    alpha: int = Field(
        default=16,
        ge=1,
        description="scale: the adapter counts alpha / r, or alpha / sqrt(r) with `rslora`",
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of the adapter's inputs dropped while training"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(r)")
    targets: list[Projection] = Field(
        default=PROJECTIONS, min_length=1, description="the projections that get an adapter"
    )


class Training(Section):
    """The run itself."""

    batch: Count = Field(default=4, description="rows in a micro-batch")
    accumulation: Count = Field(default=1, description="micro-batches in a step")
    max_length: int = Field(default=1024, ge=16, description="tokens of a row")
    overlong: Literal["truncate", "drop"] = Field(
        default="truncate", description="what happens to a row with more tokens"
    )
    learning_rate: float = Field(default=2e-4, gt=0, lt=1, description="peak learning rate")
    epochs: float = Field(default=1, gt=0, description="passes over the rows")
    max_steps: Count | None = Field(
        default=None, description="stop after so many steps, whatever `epochs` says"
    )
    warmup: float = Field(
        default=0.03,
        ge=0,
        description="the learning rate rises for this share of the steps; from 1 up, so many steps",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="how the learning rate falls afterwards"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, lt=1, description="decoupled weight decay of the adapter"
    )
    clip: float | None = Field(
        default=1.0, gt=0, description="largest gradient norm; null for none"
    )
    seed: int = Field(
        default=42, ge=0, description="seed of shuffling, dropout and initial weights"
    )
    checkpoint_every: Count = Field(default=50, description="steps between checkpoints")
    validate_every: Count = Field(
        default=50, description="steps between measurements on the held-out rows"
    )
    recompute: bool = Field(
        default=True,
        description="recompute activations in the backward pass: less memory, a third slower",
    )


class Pretraining(Section):
    """A small base of one's own, pre-trained from nothing: the demo's."""

    hidden_size: Count = Field(description="width of the model", examples=[256])
    intermediate_size: Count = Field(description="width of the feed-forward layers", examples=[768])
    layers: Count = Field(description="number of blocks", examples=[4])
    heads: Count = Field(description="attention heads", examples=[8])
    kv_heads: Count = Field(description="key/value heads; divides `heads`", examples=[2])
    head_dim: Count = Field(description="width of a head", examples=[32])
    rope_theta: float = Field(default=1_000_000.0, gt=0, description="base of the rotary positions")
    steps: Count = Field(description="optimiser steps", examples=[400])
    batch: Count = Field(default=8, description="sequences in a step")
    length: int = Field(default=256, ge=16, description="tokens of a sequence")
    learning_rate: float = Field(default=1e-3, gt=0, lt=1, description="peak learning rate")
    warmup: float = Field(
        default=0.03, ge=0, description="below 1 a share of the steps, else a number of steps"
    )
    seed: int = Field(default=42, ge=0, description="seed of everything random")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"`kv_heads` that divides `heads` ({self.heads})")
        return self


class Recipe(Section):
    """A whole recipe, composed."""

    device: Literal["cuda", "cpu"] = Field(default="cuda", description="where the arithmetic runs")
    base: Base = Field(description="the model that is tuned")
    quantization: Quantization = Field(
        default=Quantization(), description="how the base's weights are held"
    )
    lora: Lora = Field(default=Lora(), description="the adapter")
    training: Training = Field(default=Training(), description="the run itself")
    pretraining: Pretraining | None = Field(
        default=None, description="only for a base of one's own"
    )

    _source: Source = PrivateAttr(default_factory=lambda: Source(Path("recipe")))

    def where(self, *keys: str | int) -> str:
        """`file:line` of a value, in whichever of the composed files holds it."""
        return self._source.where(*keys)

    @property
    def path(self) -> Path:
        """The file that was loaded."""
        return self._source.path

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON values: what `JobSpec.recipe` holds."""
        return self.model_dump(mode="json")


def load_recipe(path: str | Path) -> Recipe:
    """Load and compose a recipe, by path or by its bare name (`demo` is
    playbooks/recipes/demo.yaml).

    Raises ConfigError with every finding in it and in the recipes it extends.
    """
    read = compose.compose(project.named_file(path, FOLDER), FOLDER)
    findings = list(read.findings)
    recipe = explain.validate(Recipe, read, findings)
    if findings or recipe is None:
        raise ConfigError(explain.in_order(findings))
    recipe._source = read
    return recipe
