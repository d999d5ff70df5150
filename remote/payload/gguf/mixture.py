"""Which type each tensor of a llama or mistral model gets when it is quantised: llama.cpp's
mixtures. Standard library only.

The rules are those of `src/llama-quant.cpp` in the pinned llama.cpp for dense models; the result is
type for type what `llama-quantize` gives without an importance matrix.
"""

import re
from dataclasses import dataclass

from remote.contract.artifacts.gguf import BLOCKS, Tensor


@dataclass(frozen=True)
class Mixture:
    """A quantisation by name: most tensors get `most`, sensitive ones more; `file_type` is its
    number in `general.file_type`."""

    most: str
    file_type: int


MIXTURES = {
    "q4_k_m": Mixture("Q4_K", 15),
    "q4_k_s": Mixture("Q4_K", 14),
    "q4_0": Mixture("Q4_0", 2),
    "q5_k_m": Mixture("Q5_K", 17),
    "q6_k": Mixture("Q6_K", 18),
    "q8_0": Mixture("Q8_0", 7),
}

_NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Instead of a type whose blocks of 256 the columns do not fill: one with blocks of 32."""


def tensor_type(mixture: str, tensor: Tensor, layers: int, tied: bool) -> str:
    """The type of `tensor`; `layers` of the model, `tied` when its embeddings are its output matrix
    too."""
    if len(tensor.dims) < 2 or not tensor.name.endswith("weight") or "_norm.weight" in tensor.name:
        return tensor.type
    columns = tensor.dims[0]
    wanted = _wanted(mixture, tensor.name, columns, layers, tied)
    for kind in (wanted, _NARROWER.get(wanted, "F16"), "F16"):
        if columns % BLOCKS[kind][1] == 0:
            return kind
    raise AssertionError("every number of columns fits F16")


def _wanted(mixture: str, name: str, columns: int, layers: int, tied: bool) -> str:
    most = MIXTURES[mixture].most
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return "Q8_0" if most == "Q8_0" or columns % BLOCKS[most][1] else "Q6_K"
    block = re.match(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight$", name)
    if not block:
        return most
    return _sensitive(mixture, most, int(block[1]), layers, block[2])


def _sensitive(mixture: str, most: str, layer: int, layers: int, part: str) -> str:
    if mixture in ("q4_k_m", "q5_k_m") and _deserves_more(layer, layers):
        return "Q6_K"
    if mixture == "q4_k_s" and layer < (4 if part == "attn_v" else layers // 8):
        return "Q5_K"
    return most


def _deserves_more(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
