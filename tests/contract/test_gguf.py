"""The head of a GGUF file: what it says, and one clear error for everything that is not right."""

import struct
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract.artifacts import gguf
from remote.contract.artifacts.gguf import BLOCKS, NotGGUF, read_head, size_of
from tests.contract.gguf_files import (
    ARRAY,
    F32,
    LLAMA,
    PAIRS,
    STRING,
    U32,
    array,
    content,
    info,
    number,
    pair,
    text,
    words,
)

WHOLE = content(PAIRS)
TOKENS = words("tokenizer.ggml.tokens", "a", "b")


def read(tmp_path, raw):
    (tmp_path / "m.gguf").write_bytes(raw)
    return read_head(tmp_path / "m.gguf")


def test_metadata_and_tensors_are_read(tmp_path):
    head = read(
        tmp_path, content(PAIRS, [info("t", (4, 2), 0, 0), info("u", (8,), 0, 32)], bytes(64))
    )
    assert head.metadata == {
        "general.architecture": "llama",
        "n": 7,
        "f": 0.5,
        "yes": True,
        "words": ["a", "ü"],
        "nested": [[1], []],
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
        "tokenizer.ggml.scores": [0.0, -1.0, -2.0],
        "tokenizer.ggml.eos_token_id": 2,
        "llama.context_length": 512,
    }
    assert [(tensor.name, tensor.type, tensor.dims, tensor.size) for tensor in head.tensors] == [
        ("t", "F32", (4, 2), 32),
        ("u", "F32", (8,), 32),
    ]
    assert b"".join(head.raw.values()) == b"".join(PAIRS)
    assert head.tensors[1].offset + 32 == (tmp_path / "m.gguf").stat().st_size


def test_version_2_is_read_too(tmp_path):
    assert read(tmp_path, content([LLAMA], version=2)).metadata == {"general.architecture": "llama"}


def test_every_cut_is_noticed(tmp_path):
    for length in range(0, len(WHOLE), 3):
        with pytest.raises(NotGGUF):
            read(tmp_path, WHOLE[:length])


REFUSED = {
    "another file": (b"not a gguf at all, but long enough", "starts with b'not '"),
    "an LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "Git LFS pointer",
    ),
    "an HTML page": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
    "gzip": (b"\x1f\x8b\x08\x00", "gzip"),
    "nothing": (b"", "empty"),
    "a version": (content([LLAMA], version=9), "version 9"),
    "byte order": (content([LLAMA], version=3 << 24), "byte order"),
    "no tensors": (content([LLAMA], []), "0 tensors"),
    "many tensors": (content([LLAMA], counts=(1 << 60, 1)), "tensors"),
    "many pairs": (content([LLAMA], counts=(1, 1 << 60)), "properties"),
    "long key": (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1 << 62), "breaks off"),
    "a key of 64 KiB": (content([LLAMA, number("k" * 70000, 1)]), "at most 65,536"),
    "unknown type": (content([LLAMA, pair("k", 77, b"")]), "unknown type 77"),
    "endless array": (
        content([LLAMA, pair("k", ARRAY, struct.pack("<IQ", STRING, 1 << 60))]),
        "at most",
    ),
    "cut array": (
        content([LLAMA, pair("k", ARRAY, struct.pack("<IQ", U32, 1 << 20))]),
        "breaks off",
    ),
    "endless text": (content([LLAMA, pair("k", STRING, struct.pack("<Q", 1 << 63))]), "breaks off"),
    "no UTF-8": (content([LLAMA, pair("k", STRING, text(b"\xff\xfe"))]), "UTF-8"),
    "nested arrays": (
        content([LLAMA, pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)]),
        "nested",
    ),
    "empty key": (content([LLAMA, number("", 1)]), "empty"),
    "NUL in a key": (content([LLAMA, number("a\0b", 1)]), "printable"),
    "escape in a key": (content([LLAMA, number("a\x1b[2J", 1)]), "printable"),
    "a key twice": (content([LLAMA, number("a", 1), number("a", 2)]), "twice: a"),
    "alignment as text": (
        content([LLAMA, pair("general.alignment", STRING, text("32"))]),
        "alignment",
    ),
    "alignment 0": (content([LLAMA, number("general.alignment", 0)]), "power of 2"),
    "alignment 33": (content([LLAMA, number("general.alignment", 33)]), "power of 2"),
    "no architecture": (content([number("n", 1)]), "absent"),
    "architecture as array": (
        content([words("general.architecture", "\x1b]0;x\x07")]),
        "general.architecture",
    ),
    "architecture with escape": (
        content([pair("general.architecture", STRING, text("\x1b[31mllama"))]),
        "general.architecture",
    ),
    "file type as text": (
        content([LLAMA, pair("general.file_type", STRING, text("1"))]),
        "file_type is 1, not a whole number",
    ),
    "context as text": (
        content([LLAMA, pair("llama.context_length", STRING, text("many"))]),
        "context_length is many",
    ),
    "context as float": (
        content([LLAMA, pair("llama.context_length", F32, struct.pack("<f", 1e30))]),
        "context_length",
    ),
    "blocks below zero": (
        content([LLAMA, pair("llama.block_count", 5, struct.pack("<i", -1))]),
        "block_count is -1",
    ),
    "template as array": (
        content([LLAMA, words("tokenizer.chat_template", "a")]),
        "chat_template is an array",
    ),
    "tokens as numbers": (
        content([LLAMA, pair("tokenizer.ggml.tokens", ARRAY, array(U32, [bytes(4)] * 3))]),
        "tokens is an array that begins with [0, 0], not an array of texts",
    ),
    "tokens as a number": (
        content([LLAMA, number("tokenizer.ggml.tokens", 5)]),
        "tokens is 5, not an array of texts",
    ),
    "too few scores": (
        content([LLAMA, TOKENS, pair("tokenizer.ggml.scores", ARRAY, array(F32, [bytes(4)]))]),
        "1 values for 2 tokens",
    ),
    "eos out of range": (
        content([LLAMA, TOKENS, number("tokenizer.ggml.eos_token_id", 2)]),
        "eos_token_id is 2, the vocabulary has 2",
    ),
    "eos as text": (
        content([LLAMA, TOKENS, pair("tokenizer.ggml.eos_token_id", STRING, text("b"))]),
        "eos_token_id is b",
    ),
    "a tensor twice": (
        content([LLAMA], [info("t", (4, 2), 0, 0), info("t", (4, 2), 0, 32)], bytes(64)),
        "twice",
    ),
    "NUL in a tensor's name": (content([LLAMA], [info("t\0", (4, 2), 0, 0)]), "printable"),
    "a long tensor name": (content([LLAMA], [info("t" * 64, (4, 2), 0, 0)]), "at most 63"),
    "no dimensions": (content([LLAMA], [info("t", (), 0, 0)]), "0 dimensions"),
    "99 dimensions": (content([LLAMA], [text("t") + struct.pack("<I", 99)]), "99 dimensions"),
    "a dimension of 0": (content([LLAMA], [info("t", (0, 4), 0, 0)]), "impossible shape"),
    "overflow": (content([LLAMA], [info("t", (1 << 63, 1 << 63), 0, 0)]), "impossible shape"),
    "unknown tensor type": (content([LLAMA], [info("t", (4, 2), 99, 0)]), "unknown type 99"),
    "half a block": (content([LLAMA], [info("t", (16, 2), 2, 0)]), "fill blocks"),
    "beyond the end": (content([LLAMA], [info("t", (1 << 40, 1), 0, 0)]), "cut off"),
    "an offset beyond the end": (
        content([LLAMA], [info("t", (4, 2), 0, 1 << 62)]),
        "begins at byte",
    ),
    "overlap": (
        content([LLAMA], [info("t", (4, 4), 0, 0), info("u", (4, 2), 0, 32)], bytes(128)),
        "begins at byte 32 of the data, not at 64",
    ),
    "out of line": (
        content([LLAMA], [info("t", (4, 1), 0, 0), info("u", (4, 1), 0, 16)], bytes(64)),
        "begins at byte 16",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_fault_has_one_error_that_says_it(tmp_path, name):
    raw, says = REFUSED[name]
    with pytest.raises(NotGGUF) as caught:
        read(tmp_path, raw)
    message = str(caught.value)
    assert says in message and message.isprintable() and len(message) < 300


@pytest.mark.parametrize("kind", [0, U32, 12])
def test_an_array_of_hundreds_of_megabytes_takes_no_time_and_no_memory(tmp_path, kind):
    """A sparse file: the array is all there."""
    start = content(
        [LLAMA, pair("k", ARRAY, struct.pack("<IQ", kind, 200_000_000))], [], b"", counts=(1, 2)
    )
    (tmp_path / "m.gguf").write_bytes(start)
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.truncate(2_000_000_000)
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(NotGGUF, match="an array of 200,000,000 values"):
        read_head(tmp_path / "m.gguf")
    assert time.monotonic() - began < 1 and tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_many_arrays_within_the_limit_are_too_many_together(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "MAX_VALUES", 10)
    pairs = [pair(f"k{index}", ARRAY, array(0, [b"\x01"] * 4)) for index in range(3)]
    with pytest.raises(NotGGUF, match="at most 10 in all arrays"):
        read(tmp_path, content([LLAMA, *pairs]))


def test_a_head_that_does_not_end_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "MAX_HEAD_BYTES", 1000)
    with pytest.raises(NotGGUF, match="larger than 1,000"):
        read(
            tmp_path,
            content([LLAMA, *(pair(f"k{index}", STRING, text("x" * 90)) for index in range(20))]),
        )


def outcome(tmp_path, raw):
    """What the reader made of some bytes: nothing but the one error may come out, fit for a
    terminal, and soon."""
    began = time.monotonic()
    try:
        head = read(tmp_path, raw)
        assert all(tensor.offset + tensor.size <= len(raw) for tensor in head.tensors)
    except NotGGUF as error:
        assert str(error).isprintable() and str(error)
    assert time.monotonic() - began < 2


fuzzed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None
)


@fuzzed
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_a_file_with_other_bytes_here_and_there(tmp_path, changes):
    raw = bytearray(WHOLE)
    for at, value in changes:
        raw[at] = value
    outcome(tmp_path, bytes(raw))


@fuzzed
@given(at=st.integers(4, len(WHOLE)), put=st.binary(max_size=40), drop=st.integers(0, 40))
def test_a_file_with_bytes_put_in_and_taken_out(tmp_path, at, put, drop):
    outcome(tmp_path, WHOLE[:at] + put + WHOLE[at + drop :])


@fuzzed
@given(
    at=st.integers(8, len(WHOLE) - 8),
    value=st.integers(0, (1 << 64) - 1) | st.sampled_from([1 << n for n in range(64)]),
)
def test_a_file_with_another_number_anywhere(tmp_path, at, value):
    outcome(tmp_path, WHOLE[:at] + struct.pack("<Q", value) + WHOLE[at + 8 :])


@fuzzed
@given(raw=st.binary(max_size=400), pairs=st.integers(0, 5))
def test_random_bytes_behind_the_magic(tmp_path, raw, pairs):
    outcome(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 1, pairs) + raw)
    outcome(tmp_path, raw)


def test_sizes_of_types():
    assert size_of("Q4_K", (256, 2)) == 288
    with pytest.raises(NotGGUF):
        size_of("Q4_K", (128, 2))
    assert {kind: 8 * width / values for kind, (_, values, width) in BLOCKS.items()}[
        "Q6_K"
    ] == 6.5625
