"""Initial weights that can copy.

Repeating a handle that stands in the prompt is what a small model learns last: attention must find
the place where the present token stood before, and say what followed there. Two heads that do so
are known as an induction circuit, and usually take millions of tokens to appear. Here they are
written into the initial weights, after which ordinary training of all weights goes on from there:
head 0 of layer 0 looks one token back, head 0 of layer 1 finds the place and copies.

The residual stream is laid out for it: dimension 0 is a constant, then comes room for the previous
token, then room for the copy, then the embeddings.
"""

import math
from typing import Any

LONGEST_TURN = 0.05
"""Rotary pairs that turn by less than this (radians a token) still match over a prompt of a hundred
tokens."""

CONSTANT = 6.0
BACK_WEIGHTS = (1.7, 1.2, 0.8)
MATCH_GAIN, WRITE_GAIN, COPY_GAIN = 3.0, 4.0, 4.0


def write_copying(model: Any) -> None:
    """Write the two heads into a new MistralForCausalLM with at least two layers."""
    import torch

    width, head = model.config.hidden_size, model.config.head_dim
    turns = model.config.rope_parameters["rope_theta"] ** (-torch.arange(head // 2) / (head // 2))
    slow = torch.arange(head // 2)[turns < LONGEST_TURN]
    matched = torch.cat([slow, slow + head // 2])
    previous, copied = slice(1, 1 + len(matched)), slice(1 + len(matched), 1 + len(matched) + head)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight.normal_()
        embeddings[:, : copied.stop] = 0
        embeddings[:, 0] = CONSTANT
        match, value = (
            torch.randn(rows, width) / math.sqrt(width) for rows in (len(matched), head)
        )
        match[:, : copied.stop] = value[:, : copied.stop] = 0
        first, second = (layer.self_attn for layer in model.model.layers[:2])
        for attention in (first, second):
            _silence(
                attention,
                head,
                model.config.num_attention_heads // model.config.num_key_value_heads,
            )
        _look_back(first, turns)
        first.v_proj.weight[: len(matched)] = match
        first.o_proj.weight[previous, : len(matched)] = WRITE_GAIN * torch.eye(len(matched))
        second.q_proj.weight[matched] = MATCH_GAIN * match
        second.k_proj.weight[matched, previous] = torch.eye(len(matched))
        second.v_proj.weight[:head] = value
        second.o_proj.weight[copied, :head] = WRITE_GAIN * torch.eye(head)
        model.get_output_embeddings().weight[:, copied] = COPY_GAIN / head * embeddings @ value.T


def _silence(attention: Any, head: int, group: int) -> None:
    # Query heads that share the key/value head keep their random queries; what they would write is
    # left to training.
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[:head] = 0
    attention.o_proj.weight[:, : group * head] = 0


def _look_back(attention: Any, turns: Any) -> None:
    # Keys are the same everywhere; the query is that key turned on by one position, so that the
    # place before fits best.
    half = len(turns)
    for pair, weight in enumerate(BACK_WEIGHTS):
        attention.k_proj.weight[pair, 0] = weight
        attention.q_proj.weight[pair, 0] = weight * turns[pair].cos()
        attention.q_proj.weight[half + pair, 0] = -weight * turns[pair].sin()
