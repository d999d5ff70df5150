"""Reads the head of a GGUF file: its metadata and where its tensors lie. Bounded in time and
memory, whatever the file holds.

llama.cpp only says that it failed to load a file; this says what is wrong with it, by the rules
that llama.cpp has. The layout, after https://github.com/ggml-org/ggml/blob/master/docs/gguf.md:
magic, version, counts; key-value pairs; tensor infos; padding; data.
"""

import os
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Literal, get_args

from remote.contract.files.file_kind import FIRST_BYTES, kind_of

MAGIC, VERSION = b"GGUF", 3
VERSIONS = (2, 3)
"""Those that can be read: 3 differs from 2 in that files of the other byte order exist."""

MAX_HEAD_BYTES = 64 << 20
"""The largest vocabularies (262,000 tokens with their merges) take 10 MB."""

MAX_VALUES = 1 << 22
"""In all arrays of a head together; the largest vocabularies come to 1.3 million."""

MAX_STRING_BYTES = 4 << 20
MAX_PAIRS = MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 63
"""Of a tensor's name; ggml keeps 64 with the end."""

_MAX_KEY_BYTES = 1 << 16
_MAX_NESTING = 4
_MAX_DIMENSIONS = 4
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
U32 = 4

BLOCKS = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q8_1": (9, 32, 36),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "Q8_K": (15, 256, 292),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98),
    "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18),
    "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136),
    "I8": (24, 1, 1),
    "I16": (25, 1, 2),
    "I32": (26, 1, 4),
    "I64": (27, 1, 8),
    "F64": (28, 1, 8),
    "IQ1_M": (29, 256, 56),
    "BF16": (30, 1, 2),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17),
    "NVFP4": (40, 64, 36),
    "Q1_0": (41, 128, 18),
    "Q2_0": (42, 64, 18),
}
"""Tensor type -> its number in ggml, values in a block, bytes in a block."""

Quantization = Literal["q4_k_m", "q4_k_s", "q4_0", "q5_k_m", "q6_k", "q8_0", "f16"]
"""What `export` makes: llama.cpp's names in small letters; `f16` stands for no quantised file
beside the float16 one."""

QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)
DEFAULT_QUANTIZATION: Quantization = "q4_k_m"

_TYPE_NAMES = {number: name for name, (number, _, _) in BLOCKS.items()}

_TEXTS = ("general.architecture", "general.name", "tokenizer.ggml.model", "tokenizer.chat_template")
_NUMBERS = (
    "general.file_type",
    "general.quantization_version",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
)
_NUMBERS_OF_ARCHITECTURE = ("context_length", "block_count", "embedding_length")
_LISTS = {
    "tokenizer.ggml.tokens": (str, "texts"),
    "tokenizer.ggml.scores": (float, "floating-point numbers"),
    "tokenizer.ggml.token_type": (int, "whole numbers"),
}
_ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHOWN = 60


class NotGGUF(ValueError):
    """The file is no GGUF, not whole, or breaks a rule of the format. The message is fit for a
    terminal."""


@dataclass(frozen=True)
class Tensor:
    """A tensor: `dims` as the format has them (columns first), `offset` from the start of the file,
    `size` in bytes."""

    name: str
    type: str
    dims: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Head:
    """What stands before the data. `raw` holds each pair's bytes as they were, for copying."""

    metadata: dict[str, Any]
    raw: dict[str, bytes]
    tensors: tuple[Tensor, ...]
    alignment: int


def read_head(path: Path) -> Head:
    """Read and check everything before the data, and that the data is all there. Raises NotGGUF, or
    OSError where it cannot be read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(FIRST_BYTES)
        if not first.startswith(MAGIC):
            raise NotGGUF(_what_it_is(first))
        file.seek(len(MAGIC))
        return _read(_Cursor(file, len(MAGIC), size), size)


def size_of(kind: str, dims: tuple[int, ...]) -> int:
    """Bytes of a tensor of that type; its columns must fill whole blocks."""
    _, values, width = BLOCKS[kind]
    if dims and dims[0] % values:
        raise NotGGUF(f"{dims[0]} columns do not fill blocks of {values} values ({kind})")
    return prod(dims) // values * width


def padded(size: int, alignment: int) -> int:
    """`size` rounded up to the alignment."""
    return -(-size // alignment) * alignment


def string_bytes(text: str) -> bytes:
    """A string as the format writes it."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _what_it_is(first: bytes) -> str:
    if not first:
        return "it is empty"
    kind = kind_of(first)
    return f"it is {kind}, not a GGUF" if kind else f"it starts with {first[:4]!r}, not with GGUF"


def _shown(value: object) -> str:
    """A value from the file for a message: short, and without characters that a terminal would
    obey."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class _Cursor:
    """Reads little-endian values one after another, within the limits."""

    def __init__(self, file: IO[bytes], at: int, size: int) -> None:
        self._file, self._size, self._values_left = file, size, MAX_VALUES
        self.at = at

    def take(self, count: int) -> bytes:
        if count > self._size - self.at:
            raise NotGGUF(
                f"it breaks off: {count:,} bytes were to follow at byte {self.at:,}, it has"
                f" {self._size:,} in all"
            )
        if self.at + count > MAX_HEAD_BYTES:
            raise NotGGUF(f"its head is larger than {MAX_HEAD_BYTES:,} bytes")
        raw = self._file.read(count)
        if len(raw) != count:
            raise NotGGUF(f"it got shorter while it was read, at byte {self.at:,}")
        self.at += count
        return raw

    def since(self, start: int) -> bytes:
        """The bytes from `start` to here once more."""
        return os.pread(self._file.fileno(), self.at - start, start)

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))
        return value

    def text(self, limit: int = MAX_STRING_BYTES) -> str:
        at, length = self.at, self.number("Q")
        if length > self._size - self.at:
            raise NotGGUF(
                f"it breaks off: a text of {length:,} bytes at byte {at:,}, it has {self._size:,}"
                " in all"
            )
        if length > limit:
            raise NotGGUF(f"a text of {length:,} bytes at byte {at:,}; at most {limit:,} are read")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise NotGGUF(f"a text at byte {at:,} is not UTF-8") from None

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(depth + 1)
        if kind not in _SCALARS:
            raise NotGGUF(f"a value at byte {self.at:,} is of the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def _array(self, depth: int) -> list[Any]:
        if depth > _MAX_NESTING:
            raise NotGGUF(f"arrays are nested deeper than {_MAX_NESTING} levels")
        kind, count = self.number("I"), self.number("Q")
        if count > self._values_left:
            raise NotGGUF(
                f"an array of {count:,} values at byte {self.at:,}; at most {MAX_VALUES:,} in all"
                " arrays are read"
            )
        self._values_left -= count
        if kind not in _SCALARS:
            return [self.value(kind, depth) for _ in range(count)]
        form = f"<{count}{_SCALARS[kind]}"
        return list(struct.unpack(form, self.take(struct.calcsize(form))))


def _read(cursor: _Cursor, size: int) -> Head:
    tensor_count, pair_count = _counts(cursor)
    metadata: dict[str, Any] = {}
    raw: dict[str, bytes] = {}
    for _ in range(pair_count):
        start = cursor.at
        key = _name(cursor.text(_MAX_KEY_BYTES), "a key", metadata)
        kind = cursor.number("I")
        if key == "general.alignment" and kind != U32:
            raise NotGGUF(f"general.alignment is of type {kind}, not an unsigned 32-bit number")
        metadata[key] = cursor.value(kind)
        raw[key] = cursor.since(start)
    _check_metadata(metadata)
    alignment = metadata.get("general.alignment", 32)
    if alignment < 1 or alignment & (alignment - 1):
        raise NotGGUF(f"general.alignment is {alignment}, not a power of 2")
    return Head(metadata, raw, _tensors(cursor, tensor_count, alignment, size), alignment)


def _counts(cursor: _Cursor) -> tuple[int, int]:
    version = cursor.number("I")
    if version & 0xFFFF == 0:
        raise NotGGUF(
            "it is of the other byte order (big-endian); convert it on the machine that it was"
            " made for"
        )
    if version not in VERSIONS:
        raise NotGGUF(
            f"it is of GGUF version {version}; {' and '.join(map(str, VERSIONS))} are known"
        )
    tensors, pairs = cursor.number("Q"), cursor.number("Q")
    if not 0 < tensors <= MAX_TENSORS or pairs > MAX_PAIRS:
        raise NotGGUF(
            f"it claims {tensors:,} tensors and {pairs:,} properties; 1 to {MAX_TENSORS:,} and at"
            f" most {MAX_PAIRS:,} are read"
        )
    return tensors, pairs


def _name(name: str, what: str, before: Any) -> str:
    if not name or not name.isprintable():
        raise NotGGUF(f"{what} is {_shown(name) or 'empty'}: not a printable name")
    if name in before:
        raise NotGGUF(f"{what} stands there twice: {_shown(name)}")
    return name


def _tensors(cursor: _Cursor, count: int, alignment: int, size: int) -> tuple[Tensor, ...]:
    infos: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for _ in range(count):
        name = _name(cursor.text(MAX_NAME_BYTES), "the name of a tensor", infos)
        infos[name] = _info(cursor, name)
    data, end, tensors = padded(cursor.at, alignment), 0, []
    for name, (kind, dims, offset) in infos.items():
        # llama.cpp's rule, which leaves no room for overlaps, gaps and offsets out of line: each
        # starts where the one before ends.
        if offset != end:
            raise NotGGUF(
                f"tensor {_shown(name)} begins at byte {offset:,} of the data, not at {end:,} where"
                " the one before it ends"
            )
        tensors.append(Tensor(name, kind, dims, data + offset, size_of(kind, dims)))
        end = padded(offset + tensors[-1].size, alignment)
    needed = tensors[-1].offset + tensors[-1].size
    if needed > size:
        raise NotGGUF(f"it is cut off: its tensors need {needed:,} bytes, it has {size:,}")
    return tuple(tensors)


def _info(cursor: _Cursor, name: str) -> tuple[str, tuple[int, ...], int]:
    count = cursor.number("I")
    if not 0 < count <= _MAX_DIMENSIONS:
        raise NotGGUF(
            f"tensor {_shown(name)} has {count} dimensions; 1 to {_MAX_DIMENSIONS} are possible"
        )
    dims = tuple(cursor.number("Q") for _ in range(count))
    if 0 in dims or prod(dims) >= 1 << 60:
        raise NotGGUF(f"tensor {_shown(name)} has the impossible shape {list(dims)}")
    number, offset = cursor.number("I"), cursor.number("Q")
    if number not in _TYPE_NAMES:
        raise NotGGUF(f"tensor {_shown(name)} is of the unknown type {number}")
    return _TYPE_NAMES[number], dims, offset


def _check_metadata(metadata: dict[str, Any]) -> None:
    """The types of what Windlass reads, so that nobody who reads it need ask again."""
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
        raise NotGGUF(
            f"general.architecture is {'absent' if architecture is None else _shown(architecture)},"
            " not the name of one"
        )
    for key in _TEXTS:
        _check(metadata, key, "a text", lambda value: isinstance(value, str))
    for key in (*_NUMBERS, *(f"{architecture}.{word}" for word in _NUMBERS_OF_ARCHITECTURE)):
        _check(
            metadata,
            key,
            "a whole number below 2³¹",
            lambda value: type(value) is int and 0 <= value < 1 << 31,
        )
    for key, (kind, items) in _LISTS.items():
        _check(
            metadata,
            key,
            f"an array of {items}",
            lambda value, kind=kind: isinstance(value, list) and _all_are(kind, value),
        )
    _check_vocabulary(metadata)


def _check(metadata: dict[str, Any], key: str, expected: str, holds: Any) -> None:
    if key in metadata and not holds(metadata[key]):
        value = metadata[key]
        found = (
            f"an array that begins with {_shown(value[:2])}"
            if isinstance(value, list)
            else _shown(value)
        )
        raise NotGGUF(f"{key} is {found}, not {expected}")


def _all_are(kind: type, values: list[Any]) -> bool:
    """An array's values are of one type, so the first speaks for all."""
    return not values or type(values[0]) is kind


def _check_vocabulary(metadata: dict[str, Any]) -> None:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        if key in metadata and len(metadata[key]) != len(tokens):
            raise NotGGUF(f"{key} has {len(metadata[key]):,} values for {len(tokens):,} tokens")
    for word in ("bos", "eos"):
        index = metadata.get(f"tokenizer.ggml.{word}_token_id")
        if index is not None and index >= len(tokens):
            raise NotGGUF(
                f"tokenizer.ggml.{word}_token_id is {index:,}, the vocabulary has {len(tokens):,}"
                " tokens"
            )
