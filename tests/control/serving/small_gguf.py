"""Writes a real GGUF of half a megabyte whose every answer is known beforehand: llama.cpp loads it
and generates from it.

The model is a Mistral of one block whose attention and feed-forward weights are zero, with one-hot
embeddings: what comes next depends on the last token alone, by a table (`chain`) laid down in the
output matrix. Standard library only.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORDS = ("▁hello", "▁world", "▁again", "▁base", "▁tuned", "▁caf", "▁one", "▁two", "▁three", "!")
LETTERS = tuple('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?{}"')
VOCABULARY = (
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    "▁",
    *LETTERS,
    *WORDS,
)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content']"
    " }}[/INST]{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% else %}{{"
    " m['content'] }}\n\n{% endif %}{% endfor %}"
)
HELLO = {"[/INST]": "▁hello", "▁hello": "▁world", "▁world": "</s>"}
"""Says "hello world" and stops."""
ENDLESS = {"[/INST]": "▁one", "▁one": "▁two", "▁two": "▁three", "▁three": "▁one"}
"""Never stops by itself."""

_WIDTH, _HEAD, _FEED = 352, 32, 32
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_F32, _F16 = 0, 1
_INT32 = 5


def rendered(text: str) -> str:
    """What the chat template makes of one user message."""
    return f"<s>[INST] {text}[/INST]"


def write_small_gguf(
    path: Path, chain: Mapping[str, str], template: str | None = TEMPLATE, **more: Any
) -> Path:
    """Write the model that follows `chain`; tokens without an entry are followed by `</s>`."""
    metadata = {**_metadata(template), **more}
    tensors = _tensors(chain)
    head = (
        b"GGUF"
        + struct.pack("<IQQ", 3, len(tensors), len(metadata))
        + b"".join(_pair(key, value) for key, value in metadata.items())
    )
    offset = 0
    for name, (shape, kind, data) in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += len(data) + _gap(len(data))
    body = b"".join(data + bytes(_gap(len(data))) for _, _, data in tensors.values())
    path.write_bytes(head + bytes(_gap(len(head))) + body)
    return path


def _metadata(template: str | None) -> dict[str, Any]:
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, _CONTROL, _CONTROL] + [_BYTE] * 256
    kinds += [_NORMAL] * (len(VOCABULARY) - len(kinds))
    chat = {"tokenizer.chat_template": template} if template else {}
    return {
        "general.architecture": "llama",
        "general.name": "small",
        "general.file_type": 1,
        "llama.block_count": 1,
        "llama.context_length": 512,
        "llama.embedding_length": _WIDTH,
        "llama.feed_forward_length": _FEED,
        "llama.attention.head_count": 1,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": _HEAD,
        "llama.attention.value_length": _HEAD,
        "llama.rope.dimension_count": _HEAD,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(VOCABULARY),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(VOCABULARY),
        "tokenizer.ggml.scores": [-float(index) for index in range(len(VOCABULARY))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
        **chat,
    }


def _tensors(chain: Mapping[str, str]) -> dict[str, tuple[tuple[int, ...], int, bytes]]:
    size = len(VOCABULARY)
    successor = [VOCABULARY.index(chain.get(token, "</s>")) for token in VOCABULARY]
    zeros = {
        "attn_q": (_WIDTH, _HEAD),
        "attn_k": (_WIDTH, _HEAD),
        "attn_v": (_WIDTH, _HEAD),
        "attn_output": (_HEAD, _WIDTH),
    }
    zeros |= {"ffn_gate": (_WIDTH, _FEED), "ffn_up": (_WIDTH, _FEED), "ffn_down": (_FEED, _WIDTH)}
    ones = ((_WIDTH,), _F32, struct.pack("<f", 1.0) * _WIDTH)
    return {
        "token_embd.weight": (
            (_WIDTH, size),
            _F16,
            _cells(size, {(token, token) for token in range(size)}),
        ),
        "output.weight": (
            (_WIDTH, size),
            _F16,
            _cells(size, {(after, token) for token, after in enumerate(successor)}),
        ),
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        **{
            f"blk.0.{name}.weight": (shape, _F16, bytes(2 * shape[0] * shape[1]))
            for name, shape in zeros.items()
        },
    }


def _cells(rows: int, set_cells: set[tuple[int, int]]) -> bytes:
    matrix = bytearray(2 * rows * _WIDTH)
    for row, column in set_cells:
        struct.pack_into("<e", matrix, 2 * (row * _WIDTH + column), 1.0)
    return bytes(matrix)


def _pair(key: str, value: Any) -> bytes:
    return _text(key) + _value(value)


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        items = [_value(item) for item in value]
        kind = (
            struct.pack("<I", _INT32) if isinstance(value[0], int) else items[0][:4]
        )  # llama.cpp wants token types signed
        return (
            struct.pack("<I", 9)
            + kind
            + struct.pack("<Q", len(items))
            + b"".join(item[4:] for item in items)
        )
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return (
        struct.pack("<If", 6, value)
        if isinstance(value, float)
        else struct.pack("<I", 8) + _text(value)
    )


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _gap(size: int) -> int:
    return -size % 32
