"""The header of a .safetensors file, read and proved without loading a tensor. Standard library
only.

The file is 8 bytes of little-endian length, that many bytes of JSON, then the tensors' bytes. A
file that was cut off, padded or scrambled does not pass `check`. Bounded in time and memory,
whatever the file holds; messages are fit for a terminal.
"""

import math
import os
import reprlib
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.files.file_kind import FIRST_BYTES, kind_of

MAX_HEADER_BYTES = 32 << 20
"""A shard of the largest models has a header of a few hundred kilobytes."""

_MAX_DEPTH = 3  # the object, a tensor in it, a list in that
_MAX_DIMENSIONS = 16
_MAX_NUMBER = 1 << 63
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "U32": 32,
    "I32": 32,
    "U64": 64,
    "I64": 64,
    "F16": 16,
    "BF16": 16,
    "F32": 32,
    "F64": 64,
    "C64": 64,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


def read_header(path: Path) -> dict[str, Any]:
    """The header: tensor name -> `{"dtype", "shape", "data_offsets"}`, and perhaps `__metadata__`.
    ValueError when it is none."""
    return _read(path)[0]


def check(path: Path) -> int:
    """Prove that the tensors fill the file exactly, without gap or overlap. Returns how many there
    are; ValueError says what is off."""
    return len(read_tensors(path)[0])


def read_tensors(path: Path) -> tuple[dict[str, Any], int]:
    """The header's entry by tensor name, and the byte where the data begins, of a file that passes
    `check`; ValueError otherwise."""
    header, start = _read(path)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    at = 0
    for name, begin, end in sorted(
        ((name, *_extent(name, entry)) for name, entry in tensors.items()),
        key=lambda extent: extent[1:],
    ):
        if begin != at:
            raise ValueError(f"tensor {_shown(name)} begins at byte {begin}, not {at}")
        at = end
    size = path.stat().st_size
    if start + at != size:
        raise ValueError(f"the file has {size} bytes, its header speaks of {start + at}")
    return tensors, start


def _read(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        size, first = os.fstat(file.fileno()).st_size, file.read(FIRST_BYTES)
        length = int.from_bytes(first[:8], "little")
        if not 2 <= length <= MAX_HEADER_BYTES or 8 + length > size:
            kind = kind_of(first)
            raise ValueError(
                f"it is {kind}"
                if kind
                else f"no safetensors header: a length of {length} bytes in a file of {size}"
            )
        file.seek(8)
        try:
            header = untrusted_json.loads_object(
                file.read(length), max_bytes=MAX_HEADER_BYTES, max_depth=_MAX_DEPTH, unique=True
            )
        except ValueError as error:
            raise ValueError(f"the header is damaged: {error}") from None
    return header, 8 + length


def _extent(name: str, entry: Any) -> tuple[int, int]:
    try:
        bits, shape, (begin, end) = BITS[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"tensor {_shown(name)} is described wrongly: {reprlib.repr(entry)!a}"
        ) from None
    if (
        not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers)
        or len(numbers) > _MAX_DIMENSIONS + 2
    ):
        raise ValueError(
            f"tensor {_shown(name)} has a size that is no natural number below 2⁶³, or more than"
            f" {_MAX_DIMENSIONS} of them"
        )
    if (end - begin) * 8 != math.prod(shape) * bits:
        raise ValueError(
            f"tensor {_shown(name)} of shape {shape} takes {end - begin} bytes, which does not fit"
            f" {entry['dtype']}"
        )
    return begin, end


def _shown(name: str) -> str:
    """A tensor's name for a message: short, and without characters that a terminal would obey."""
    return name if name.isprintable() and len(name) <= 200 else ascii(name)[:200]
