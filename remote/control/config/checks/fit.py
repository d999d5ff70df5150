"""Does a recipe fit a box? Estimates from the shape of the model, good to about 20 %.

GPU memory while training, for a model of width h, feed-forward width f, L layers, V words, with N
weights in linear layers, A adapter parameters, T = batch x max_length tokens in a micro-batch and I
the summed input widths of the targeted projections of one layer:

    weights       N x 0.516 bytes (nf4 with double quantisation; 0.563 without) + the embeddings and
    the head, 2 x V x h, x 2 bytes adapter       A x 16 bytes: fp32 master, gradient, two moments of
    Adam activations   one layer T x (16 h + 6 f + 5 I) bytes; all L of them without recompute, else
    one and L x T x h x 2 bytes of checkpoints head          min(T, 1024) x V x 12 bytes: the
    trainer never holds the logits of more than 1,024 tokens

Mistral 7B, r 64 on seven projections, 4 x 1024 with recompute: 9.7 GB; 1 x 1024 without: 18.6 GB; 4
x 1024 without: 53 GB. On a CPU the linear weights are the same size and everything else is fp32.

Disk, for W = weights in 16 bits: the base, and with an export the merged model, the f16 and the
4-bit GGUF (0.31 W), three checkpoints of A x 12 bytes, and the Python environment (8 GB with CUDA,
2 GB without).
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remote.control.config.recipe import Recipe

GB = 1e9


@dataclass(frozen=True)
class Shape:
    """The shape of a Mistral-like model; `attention` and `key_value` are the widths of all heads
    together."""

    hidden: int
    feed_forward: int
    layers: int
    attention: int
    key_value: int
    words: int

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Input and output width of each projection of a layer."""
        h, f = self.hidden, self.feed_forward
        return {
            "q_proj": (h, self.attention),
            "k_proj": (h, self.key_value),
            "v_proj": (h, self.key_value),
            "o_proj": (self.attention, h),
            "gate_proj": (h, f),
            "up_proj": (h, f),
            "down_proj": (f, h),
        }

    @property
    def linear(self) -> int:
        """Weights in linear layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.projections.values())

    @property
    def embedding(self) -> int:
        """Weights of embeddings and head."""
        return 2 * self.words * self.hidden


@dataclass(frozen=True)
class Need:
    """What a recipe takes, in GB. `disk_gb` is all of it; `base_gb` the part that the base model
    is."""

    training_gb: float
    host_gb: float
    disk_gb: float
    base_gb: float
    environment_gb: float


_KNOWN = (
    (r"mistral-?7b", Shape(4096, 14336, 32, 4096, 1024, 32768)),
    (r"ministral-?8b", Shape(4096, 12288, 36, 4096, 1024, 131072)),
    (r"mistral-?nemo", Shape(5120, 14336, 40, 4096, 1024, 131072)),
    (r"mistral-?small", Shape(5120, 32768, 40, 4096, 1024, 131072)),
)
_DEMO_WORDS = 32768


def shape_of(recipe: "Recipe") -> Shape | None:
    """The shape of the recipe's base: its own pre-trained one, or a model known by name; None for
    any other."""
    if own := recipe.pretraining:
        attention, key_value = own.heads * own.head_dim, own.kv_heads * own.head_dim
        return Shape(
            own.hidden_size, own.intermediate_size, own.layers, attention, key_value, _DEMO_WORDS
        )
    return next(
        (shape for pattern, shape in _KNOWN if re.search(pattern, recipe.base.name.lower())), None
    )


def need_of(recipe: "Recipe", exports: bool = True) -> Need | None:
    """What training (and, with `exports`, exporting) takes; None when the model's shape is not
    known."""
    shape = shape_of(recipe)
    if shape is None:
        return None
    base_gb = 2 * (shape.linear + shape.embedding) / GB
    environment_gb = 8.0 if recipe.device == "cuda" else 2.0
    adapter = adapter_size(recipe, shape)
    made_gb = (2.31 * base_gb if exports else 0) + 3 * 12 * adapter / GB
    training_gb = training_bytes(recipe, shape) / GB
    host_gb = 4 + 0.4 * base_gb if recipe.device == "cuda" else 1 + training_gb
    return Need(training_gb, host_gb, base_gb + environment_gb + made_gb, base_gb, environment_gb)


def adapter_size(recipe: "Recipe", shape: Shape) -> int:
    """Parameters of the adapter."""
    return (
        shape.layers
        * recipe.lora.r
        * sum(sum(shape.projections[target]) for target in recipe.lora.targets)
    )


def training_bytes(recipe: "Recipe", shape: Shape) -> float:
    """Peak memory while training: see the module's formula."""
    on_cpu = recipe.device == "cpu"
    wide = 2 if on_cpu else 1
    tokens = recipe.training.batch * recipe.training.max_length
    weights = (
        shape.linear * (0.516 if recipe.quantization.double else 0.563) + 2 * wide * shape.embedding
    )
    inputs = sum(shape.projections[target][0] for target in recipe.lora.targets)
    layer = tokens * wide * (16 * shape.hidden + 6 * shape.feed_forward + 5 * inputs)
    activations = (
        layer + shape.layers * tokens * shape.hidden * 2 * wide
        if recipe.training.recompute
        else shape.layers * layer
    )
    return (
        weights
        + 16 * adapter_size(recipe, shape)
        + activations
        + 12 * min(tokens, 1024) * shape.words
    )
