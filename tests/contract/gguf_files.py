"""Writes GGUF files without a library, good ones and bad ones."""

import struct

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def number(key, value):
    return pair(key, U32, struct.pack("<I", value))


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def words(key, *items):
    return pair(key, ARRAY, array(STRING, [text(item) for item in items]))


def info(name, dims, kind, offset):
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def content(pairs, infos=None, data=bytes(32), version=3, counts=None):
    """The file's bytes; `infos` are tensor infos as bytes, one float32 tensor of 4 x 2 where left
    out."""
    infos = [info("t", (4, 2), 0, 0)] if infos is None else infos
    tensors, keys = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(pairs) + b"".join(infos)
    return head + bytes(-len(head) % 32) + data


LLAMA = pair("general.architecture", STRING, text("llama"))
PAIRS = [
    LLAMA,
    number("n", 7),
    pair("f", F32, struct.pack("<f", 0.5)),
    pair("yes", BOOL, b"\x01"),
    words("words", "a", "ü"),
    pair("nested", ARRAY, array(ARRAY, [array(U32, [struct.pack("<I", 1)]), array(U32, [])])),
    words("tokenizer.ggml.tokens", "<unk>", "<s>", "</s>"),
    pair(
        "tokenizer.ggml.scores",
        ARRAY,
        array(F32, [struct.pack("<f", x) for x in (0.0, -1.0, -2.0)]),
    ),
    number("tokenizer.ggml.eos_token_id", 2),
    number("llama.context_length", 512),
]
