"""The types of a mixture, and the conditions on the result."""

import pytest

from remote.contract.artifacts.gguf import QUANTIZATIONS, Head, Tensor
from remote.control.serving.gguf import FILE_TYPES
from remote.payload.gguf.mixture import MIXTURES, tensor_type
from remote.payload.gguf.proof.checks import Checks, check_head, distinct_scores
from remote.payload.gguf.proof.parity import MOST_KL, divergence_of


def typed(mixture, name, columns=4096, layers=32, tied=False, rows=4):
    return tensor_type(mixture, Tensor(name, "F16", (columns, rows), 0, 0), layers, tied)


MORE_BITS = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
"""Layers of Mistral-7B whose attn_v and ffn_down are Q6_K in the published Q4_K_M files."""


def test_layers_that_deserve_more_bits():
    for part in ("attn_v", "ffn_down"):
        assert [
            layer for layer in range(32) if typed("q4_k_m", f"blk.{layer}.{part}.weight") == "Q6_K"
        ] == MORE_BITS
        assert typed("q5_k_m", f"blk.4.{part}.weight") == "Q5_K"


@pytest.mark.parametrize(
    ("mixture", "name", "kind"),
    [
        ("q4_k_m", "output.weight", "Q6_K"),
        ("q4_k_m", "token_embd.weight", "Q4_K"),
        ("q4_k_m", "blk.0.attn_q.weight", "Q4_K"),
        ("q4_k_m", "blk.0.attn_norm.weight", "F16"),
        ("q4_k_m", "rope_freqs.weird", "F16"),
        ("q4_k_s", "blk.3.attn_v.weight", "Q5_K"),
        ("q4_k_s", "blk.4.attn_v.weight", "Q4_K"),
        ("q4_k_s", "blk.3.ffn_down.weight", "Q5_K"),
        ("q4_k_s", "blk.4.ffn_down.weight", "Q4_K"),
        ("q4_0", "output.weight", "Q6_K"),
        ("q4_0", "token_embd.weight", "Q4_0"),
        ("q4_0", "blk.0.attn_v.weight", "Q4_0"),
        ("q4_0", "blk.0.ffn_down.weight", "Q4_0"),
        ("q4_0", "blk.0.ffn_norm.weight", "F16"),
        ("q6_k", "blk.4.ffn_down.weight", "Q6_K"),
        ("q8_0", "output.weight", "Q8_0"),
        ("q8_0", "blk.0.attn_v.weight", "Q8_0"),
    ],
)
def test_types_by_name(mixture, name, kind):
    assert typed(mixture, name) == kind


def test_every_quantisation_on_offer_can_be_made_and_is_bounded():
    assert set(QUANTIZATIONS) == {*MIXTURES, "f16"} == {*MOST_KL, "f16"}
    assert {
        mixture.file_type: name.upper() for name, mixture in MIXTURES.items()
    }.items() <= FILE_TYPES.items()


def test_tied_embeddings_are_typed_as_the_output():
    assert typed("q4_k_m", "token_embd.weight", tied=True) == "Q6_K"


@pytest.mark.parametrize(
    ("mixture", "columns", "name", "kind"),
    [
        ("q4_k_m", 96, "blk.4.attn_q.weight", "Q5_0"),
        ("q4_k_m", 96, "blk.0.attn_v.weight", "Q4_K-narrow"),
        ("q5_k_m", 96, "blk.4.attn_q.weight", "Q5_1"),
        ("q4_k_m", 96, "output.weight", "Q8_0"),
        ("q4_k_m", 40, "blk.4.attn_q.weight", "F16"),
        ("q8_0", 40, "output.weight", "F16"),
        ("q4_0", 96, "output.weight", "Q8_0"),
        ("q4_0", 96, "blk.4.attn_q.weight", "Q4_0"),
        ("q4_0", 40, "blk.4.attn_q.weight", "F16"),
    ],
)
def test_columns_that_fill_no_block_get_another_type(mixture, columns, name, kind):
    expected = "Q8_0" if kind == "Q4_K-narrow" else kind  # layer 0 of attn_v wanted Q6_K
    assert typed(mixture, name, columns) == expected


def test_vectors_stay_as_they_are():
    assert (
        tensor_type("q4_k_m", Tensor("blk.0.attn_q.weight", "F32", (4096,), 0, 0), 32, False)
        == "F32"
    )


CONFIG = {
    "architectures": ["MistralForCausalLM"],
    "num_attention_heads": 8,
    "hidden_size": 256,
    "head_dim": None,
    "rope_parameters": {"rope_theta": 1e6},
    "max_position_embeddings": 512,
    "vocab_size": 3,
}
HEAD = {
    "general.architecture": "llama",
    "llama.rope.freq_base": 1e6,
    "llama.attention.key_length": 32,
    "llama.context_length": 512,
    "tokenizer.ggml.tokens": ["<unk>", "a", "b"],
    "tokenizer.ggml.scores": [0.0, -1.0, -2.0],
    "tokenizer.ggml.token_type": [2, 1, 1],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": "T",
}


def head_checks(**changes):
    checks = Checks()
    check_head(checks, Head({**HEAD, **changes}, {}, (), 32), CONFIG, {"bos": 1, "eos": 2}, "T")
    return [check.name for check in checks.failed]


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("general.architecture", "gpt2", "architecture"),
        ("llama.rope.freq_base", 10000.0, "rope.freq_base"),
        ("llama.attention.key_length", 64, "key_length"),
        ("llama.context_length", 4096, "context"),
        ("tokenizer.ggml.tokens", ["a"], "vocabulary"),
        ("tokenizer.ggml.eos_token_id", None, "eos id"),
        ("tokenizer.chat_template", None, "chat template"),
        ("tokenizer.ggml.scores", [-1000.0] * 3, "tokenizer scores"),
    ],
)
def test_each_condition_can_fail(key, value, name):
    assert head_checks() == []
    assert name in head_checks(**{key: value})


def test_scores_of_special_tokens_do_not_count():
    data = {
        "tokenizer.ggml.scores": [0.0, -1000.0, -1000.0],
        "tokenizer.ggml.token_type": [3, 1, 1],
    }
    assert distinct_scores(data) == 1


def test_divergence():
    p = {1: -0.1, 2: -3.0}
    assert divergence_of(p, p) == pytest.approx(0, abs=1e-9)
    assert divergence_of(p, {1: -3.0, 2: -0.1}) > 2
