"""The header of a .safetensors file, read and proved without loading a tensor. Standard library only.

The file is 8 bytes of little-endian length, that many bytes of JSON, then the tensors' bytes. A file that was cut off, padded
or scrambled does not pass `check`.
"""

import json
import math
from pathlib import Path
from typing import Any

from remote.contract import untrusted_json

MAX_HEADER_BYTES = 100 * 1024 * 1024
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def read_header(path: Path) -> dict[str, Any]:
    """The header: tensor name -> `{"dtype", "shape", "data_offsets"}`, and perhaps `__metadata__`. ValueError when it is none."""
    return _read(path)[0]


def check(path: Path) -> int:
    """Prove that the tensors fill the file exactly, without gap or overlap. Returns how many there are; ValueError says what is off."""
    return len(read_tensors(path)[0])


def read_tensors(path: Path) -> tuple[dict[str, Any], int]:
    """The header's entry by tensor name, and the byte where the data begins, of a file that passes `check`; ValueError otherwise."""
    header, start = _read(path)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    at = 0
    for name, begin, end in sorted(((name, *_extent(name, entry)) for name, entry in tensors.items()), key=lambda extent: extent[1:]):
        if begin != at:
            raise ValueError(f"tensor {name} begins at byte {begin}, not {at}")
        at = end
    size = path.stat().st_size
    if start + at != size:
        raise ValueError(f"the file has {size} bytes, its header speaks of {start + at}")
    return tensors, start


def _read(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MAX_HEADER_BYTES or 8 + length > path.stat().st_size:
            raise ValueError(f"no safetensors header: a length of {length} bytes in a file of {path.stat().st_size}")
        try:
            header = untrusted_json.loads(file.read(length), max_bytes=MAX_HEADER_BYTES, object_pairs_hook=_unique)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"the header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the header names something twice")
    return found


def _extent(name: str, entry: Any) -> tuple[int, int]:
    try:
        bits, shape, (begin, end) = BITS[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tensor {name} is described wrongly: {str(entry)[:100]}") from None
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"tensor {name} has a size that is no natural number")
    if (end - begin) * 8 != math.prod(shape) * bits:
        raise ValueError(f"tensor {name} of shape {shape} takes {end - begin} bytes, which does not fit {entry['dtype']}")
    return begin, end
