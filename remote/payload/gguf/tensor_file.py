"""Safetensors files read and written piece by piece: 8 bytes of length, a JSON header, then the
data in the header's order."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

from remote.contract.artifacts import safetensors

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""torch's name for each floating-point dtype of the format."""

OTHERS = {"I64": "int64", "I32": "int32", "U8": "uint8", "BOOL": "bool"}
"""The same of dtypes that are no floating-point ones."""


def header_bytes(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> bytes:
    """The start of a file that holds tensors of these dtypes and shapes, one after the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + prod(shape) * safetensors.BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


class TensorFile:
    """An open safetensors file of floating-point tensors; ValueError when it is not whole."""

    def __init__(self, path: Path) -> None:
        self.entries, self._start = safetensors.read_tensors(path)
        self._file = path.open("rb")

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def values(self, name: str, first: int = 0, last: int | None = None) -> Any:
        """The values [first, last) of a tensor in row-major order, as one flat torch tensor of its
        own dtype."""
        import torch

        entry = self.entries[name]
        dtype, width = getattr(torch, FLOATS[entry["dtype"]]), safetensors.BITS[entry["dtype"]] // 8
        count = (prod(entry["shape"]) if last is None else last) - first
        if not count:
            return torch.empty(0, dtype=dtype)
        buffer = bytearray(count * width)
        self._file.seek(self._start + entry["data_offsets"][0] + first * width)
        self._file.readinto(buffer)
        return torch.frombuffer(buffer, dtype=dtype)

    def matrix(self, name: str) -> Any:
        """A whole tensor in its shape."""
        return self.values(name).view(self.entries[name]["shape"])
