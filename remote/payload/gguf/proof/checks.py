"""Conditions that an exported model must meet, each with what was measured and what was expected.
Standard library only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from remote.contract.artifacts.gguf import Head

ARCHITECTURES = {"MistralForCausalLM": "llama", "LlamaForCausalLM": "llama"}
"""transformers' architecture -> the GGUF's. llama.cpp runs Mistral as llama."""

_NORMAL = 1  # llama.cpp's token type of an ordinary piece


@dataclass(frozen=True)
class Check:
    """One condition; `measured` and `expected` are for a person."""

    name: str
    measured: str
    expected: str
    ok: bool


@dataclass
class Checks:
    """The conditions looked at so far."""

    all: list[Check] = field(default_factory=list)

    def add(self, name: str, measured: object, expected: object, ok: bool) -> None:
        """Record a condition, and say so in the log."""
        check = Check(name, str(measured), str(expected), ok)
        self.all.append(check)
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {check.measured} (expected {check.expected})")

    def equal(self, name: str, measured: object, expected: object) -> None:
        """Record that two values are the same."""
        self.add(name, measured, expected, measured == expected)

    @property
    def failed(self) -> list[Check]:
        """Those that do not hold."""
        return [check for check in self.all if not check.ok]

    def to_json(self) -> list[dict[str, Any]]:
        """The checks for parity.json."""
        return [asdict(check) for check in self.all]


def check_head(
    checks: Checks,
    head: Head,
    config: dict[str, Any],
    special: dict[str, int | None],
    template: str,
) -> None:
    """Compare a GGUF's metadata with the base's config.json, the ids of its `special` tokens (bos,
    eos), and its chat template."""
    data = head.metadata
    architecture = data.get("general.architecture", "")
    checks.equal("architecture", architecture, ARCHITECTURES[config["architectures"][0]])
    heads = int(config["num_attention_heads"])
    rope = config.get("rope_parameters") or config
    checks.equal(
        "rope.freq_base",
        float(data.get(f"{architecture}.rope.freq_base", 10000)),
        float(rope.get("rope_theta", 10000)),
    )
    head_size = int(config.get("head_dim") or config["hidden_size"] // heads)
    implied = int(data.get(f"{architecture}.embedding_length", 0)) // heads
    checks.equal("key_length", data.get(f"{architecture}.attention.key_length", implied), head_size)
    checks.equal(
        "context", data.get(f"{architecture}.context_length"), config["max_position_embeddings"]
    )
    checks.equal("vocabulary", len(data.get("tokenizer.ggml.tokens", ())), config["vocab_size"])
    for name, token in special.items():
        checks.equal(f"{name} id", data.get(f"tokenizer.ggml.{name}_token_id"), token)
    same = data.get("tokenizer.chat_template") == template
    checks.add(
        "chat template", "as in training" if same else "absent or another", "as in training", same
    )
    scores = distinct_scores(data)
    checks.add("tokenizer scores", f"{scores} distinct", "more than 1", scores > 1)


def distinct_scores(metadata: dict[str, Any]) -> int:
    """How many different scores ordinary tokens have; 1 means that the SentencePiece model was
    lost, and merges are arbitrary."""
    kinds: Sequence[int] = metadata.get("tokenizer.ggml.token_type", ())
    scores: Sequence[float] = metadata.get("tokenizer.ggml.scores", ())
    return len({score for score, kind in zip(scores, kinds, strict=False) if kind == _NORMAL})
