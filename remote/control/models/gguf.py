"""Reads the head of a GGUF file and proves that the file is whole; llama.cpp itself only says that it failed.

Layout after https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: magic, version, counts, key-value pairs, tensor infos, data.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.control.errors import ArtifactCorrupt

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip
"""Names of `general.file_type`."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
# ggml's tensor types: elements in a block, bytes in a block.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2),
}  # fmt: skip
_MANY = 1_000_000


@dataclass(frozen=True)
class Gguf:
    """What the head of a GGUF says: its key-value pairs, the number of tensors and of parameters."""

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
    """Read and check a GGUF. Raises ArtifactCorrupt, saying what is wrong with the file, when it is none or not whole."""
    if path.stat().st_size < 24:
        raise _corrupt(path, f"it has {path.stat().st_size} bytes, too few for any GGUF")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _parse(path, _Cursor(content), len(content))
        except (struct.error, UnicodeDecodeError, KeyError, RecursionError) as error:
            raise _corrupt(path, f"its head breaks off or holds an unknown type ({type(error).__name__}: {error})") from error


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 0

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        size = self.scalar("<Q")
        if self.at + size > len(self.content):
            raise struct.error(f"a text of {size} bytes at {self.at}")
        self.at += size
        return self.content[self.at - size : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        inner, count = self.scalar("<I"), self.scalar("<Q")
        if count > len(self.content):
            raise struct.error(f"an array of {count} values at {self.at}")
        return [self.value(inner) for _ in range(count)]


def _parse(path: Path, cursor: _Cursor, size: int) -> Gguf:
    if cursor.content[:4] != b"GGUF":
        raise _corrupt(path, f"it begins with {cursor.content[:4]!r}, not with GGUF")
    cursor.at = 4
    version, tensors, pairs = cursor.scalar("<I"), cursor.scalar("<Q"), cursor.scalar("<Q")
    if version not in (2, 3):
        raise _corrupt(path, f"it is of GGUF version {version}; 2 and 3 are known")
    if not 0 < tensors < _MANY or pairs > _MANY:
        raise _corrupt(path, f"it claims {tensors} tensors and {pairs} properties")
    metadata = dict(_pair(cursor) for _ in range(pairs))
    infos = [_tensor(cursor) for _ in range(tensors)]
    _check_whole(path, cursor.at, int(metadata.get("general.alignment", 32)) or 32, infos, size)
    return Gguf(metadata, tensors, sum(elements for elements, _, _ in infos))


def _pair(cursor: _Cursor) -> tuple[str, Any]:
    return cursor.text(), cursor.value(cursor.scalar("<I"))


def _tensor(cursor: _Cursor) -> tuple[int, int, int]:
    """Elements, bytes (0 for a type that this table lacks), offset in the data."""
    cursor.text()
    dimensions = cursor.scalar("<I")
    elements = math.prod(cursor.scalar("<Q") for _ in range(min(dimensions, 8)))
    block, size = _BLOCKS.get(cursor.scalar("<I"), (1, 0))
    return elements, elements // block * size, cursor.scalar("<Q")


def _check_whole(path: Path, head: int, alignment: int, infos: list[tuple[int, int, int]], size: int) -> None:
    start = head + -head % alignment
    needed = max(start + offset + length for _, length, offset in infos)
    if needed > size:
        raise _corrupt(path, f"it is cut off: its tensors need {needed:,} bytes, it has {size:,}")


def _corrupt(path: Path, why: str) -> ArtifactCorrupt:
    remedy = "`./inv pull RUN` brings it again, `./inv export RUN` makes it again"
    return ArtifactCorrupt("not a whole GGUF", where=str(path), why=why, remedy=remedy)
