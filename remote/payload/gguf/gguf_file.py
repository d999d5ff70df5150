"""Reads the head of a GGUF file (version 3): its metadata and where its tensors lie. Standard library only.

The format: magic, version, counts; key-value pairs; tensor infos; padding; data. Written down in llama.cpp's `docs/gguf.md`.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

MAGIC, VERSION = b"GGUF", 3
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
U32, U64 = 4, 10

BLOCKS = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "BF16": (30, 1, 2),
}
"""Tensor type -> its number in ggml, values in a block, bytes in a block."""

_TYPE_NAMES = {number: name for name, (number, _, _) in BLOCKS.items()}


class NotGGUF(ValueError):
    """The file is no GGUF of this version, or not whole."""


@dataclass(frozen=True)
class Tensor:
    """A tensor: `dims` as the format has them (columns first), `offset` from the start of the file, `size` in bytes."""

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


def size_of(kind: str, dims: tuple[int, ...]) -> int:
    """Bytes of a tensor of that type; its columns must fill whole blocks."""
    _, values, width = BLOCKS[kind]
    if dims and dims[0] % values:
        raise NotGGUF(f"{dims[0]} columns do not fill blocks of {values} values ({kind})")
    return prod(dims) // values * width


def padded(size: int, alignment: int) -> int:
    """`size` rounded up to the alignment."""
    return -(-size // alignment) * alignment


def read_head(path: Path) -> Head:
    """Read and check everything before the data, and that the data is all there; raises NotGGUF."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _read(view)
    except (struct.error, IndexError, ValueError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise NotGGUF(f"{path}: {error}") from None


def string_bytes(text: str) -> bytes:
    """A string as the format writes it."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


class _Cursor:
    def __init__(self, view: mmap.mmap) -> None:
        self.view, self.at = view, 0

    def take(self, form: str) -> Any:
        value = struct.unpack_from(f"<{form}", self.view, self.at)
        self.at += struct.calcsize(f"<{form}")
        return value[0] if len(value) == 1 else value

    def string(self) -> str:
        length = self.take("Q")
        if length > len(self.view) - self.at:
            raise NotGGUF("a string runs past the end of the file")
        self.at += length
        return self.view[self.at - length : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise NotGGUF(f"unknown type {kind} of a metadata value")
        return self.take(_SCALARS[kind])

    def array(self) -> list[Any]:
        kind, count = self.take("I"), self.take("Q")
        if count > len(self.view) - self.at:
            raise NotGGUF("an array runs past the end of the file")
        if kind in _SCALARS:
            values = struct.unpack_from(f"<{count}{_SCALARS[kind]}", self.view, self.at)
            self.at += struct.calcsize(f"<{count}{_SCALARS[kind]}")
            return list(values)
        read: Callable[[], Any] = self.string if kind == _STRING else lambda: self.value(kind)
        return [read() for _ in range(count)]


def _read(view: mmap.mmap) -> Head:
    cursor = _Cursor(view)
    if view[:4] != MAGIC:
        raise NotGGUF("it does not start with GGUF")
    cursor.at = 4
    version, tensor_count, pair_count = cursor.take("I"), cursor.take("Q"), cursor.take("Q")
    if version != VERSION:
        raise NotGGUF(f"version {version}, expected {VERSION}")
    metadata, raw = {}, {}
    for _ in range(pair_count):
        start = cursor.at
        key = cursor.string()
        metadata[key] = cursor.value(cursor.take("I"))
        raw[key] = view[start : cursor.at]
    alignment = int(metadata.get("general.alignment", 32))
    infos = [_info(cursor) for _ in range(tensor_count)]
    data = padded(cursor.at, alignment)
    tensors = tuple(Tensor(name, kind, dims, data + offset, size_of(kind, dims)) for name, kind, dims, offset in infos)
    end = max((tensor.offset + tensor.size for tensor in tensors), default=0)
    if end > len(view):
        raise NotGGUF(f"it holds {len(view):,} of {end:,} bytes")
    return Head(metadata, raw, tensors, alignment)


def _info(cursor: _Cursor) -> tuple[str, str, tuple[int, ...], int]:
    name, count = cursor.string(), cursor.take("I")
    if not 0 < count <= 4:
        raise NotGGUF(f"tensor {name} has {count} dimensions")
    dims = tuple(cursor.take("Q") for _ in range(count))
    number, offset = cursor.take("I"), cursor.take("Q")
    if number not in _TYPE_NAMES:
        raise NotGGUF(f"tensor {name} is of type {number}, unknown here")
    return name, _TYPE_NAMES[number], dims, offset
