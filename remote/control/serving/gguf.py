"""What the head of a GGUF file says of its model, for Ollama; a file that is none, or not whole, is
an error that says why."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from remote.contract.artifacts.gguf import NotGGUF, read_head
from remote.control.errors import ArtifactCorrupt

FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    32: "BF16",
}
"""Names of `general.file_type`."""


@dataclass(frozen=True)
class Gguf:
    """What the head of a GGUF says: its key-value pairs, the number of tensors and of
    parameters."""

    metadata: dict[str, Any]
    tensors: int
    parameters: int

    @property
    def architecture(self) -> str:
        """Such as `llama`."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def quantization(self) -> str:
        """Such as `Q4_K_M`, or `unknown`."""
        return FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def context_length(self) -> int:
        """Positions that the model was trained for; 0 where the file does not say."""
        return int(self.metadata.get(f"{self.architecture}.context_length", 0))

    @property
    def chat_template(self) -> str:
        """The Jinja template, or nothing."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    def special(self, word: str) -> str:
        """The text of the `bos` or `eos` token; empty where the file names none."""
        index = self.metadata.get(f"tokenizer.ggml.{word}_token_id", -1)
        tokens = self.metadata.get("tokenizer.ggml.tokens", [])
        return str(tokens[index]) if 0 <= index < len(tokens) else ""


def read_gguf(path: Path) -> Gguf:
    """Read and check a GGUF. Raises ArtifactCorrupt, saying what is wrong with the file, when it is
    none or not whole."""
    try:
        head = read_head(path)
    except (NotGGUF, OSError) as error:
        remedy = "`./inv pull RUN` brings it again, `./inv export RUN` makes it again"
        raise ArtifactCorrupt(
            "not a whole GGUF", where=str(path), why=str(error), remedy=remedy
        ) from error
    return Gguf(head.metadata, len(head.tensors), sum(prod(tensor.dims) for tensor in head.tensors))
