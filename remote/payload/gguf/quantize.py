"""Quantises a float16 GGUF, tensor by tensor: with `llama-quantize` where it stands, else through
the ggml inside xllamacpp.

No compiler is needed: the xllamacpp wheel exports `ggml_quantize_chunk`, the very function that
`llama-quantize` calls.
"""

import ctypes
import os
import shutil
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from remote.contract.artifacts.gguf import (
    BLOCKS,
    MAGIC,
    QUANTIZATIONS,
    U32,
    VERSION,
    Head,
    Tensor,
    padded,
    read_head,
    size_of,
    string_bytes,
)
from remote.contract.files import atomic
from remote.contract.job.jobs import Cause
from remote.payload.gguf import convert
from remote.payload.gguf.mixture import MIXTURES, tensor_type
from remote.payload.job import StageFailed

_BLOCK_VALUES = 1 << 22
"""Values that one thread converts at once: 16 MiB in float32."""

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


def quantize(f16: Path, target: Path, mixture: str) -> str:
    """Write `f16` quantised to `target`, whole or not at all; returns what did it. Raises
    StageFailed."""
    if mixture not in MIXTURES:
        raise StageFailed(
            Cause.CONFIG,
            f"unknown quantisation {mixture!r}",
            remedy=f"set `quantize:` to one of {', '.join(QUANTIZATIONS)}",
        )
    program = shutil.which("llama-quantize")
    if program and _by_program(program, f16, target, mixture):
        return program
    _by_library(f16, target, mixture)
    return "ggml of xllamacpp"


def _by_program(program: str, f16: Path, target: Path, mixture: str) -> bool:
    partial = target.with_name(f".{target.name}.partial")
    command = [program, str(f16), str(partial), mixture.upper(), str(_threads())]
    code, output = convert.run(command)
    if code != 0 or not partial.is_file():
        partial.unlink(missing_ok=True)
        print(
            f"{program} ended with {code}; quantising without it. Its last words: {output[-300:]}"
        )
        return False
    convert.settle(partial, target)
    return True


def _by_library(f16: Path, target: Path, mixture: str) -> None:
    head = read_head(f16)
    types = types_of(head, mixture)
    with (
        f16.open("rb") as source,
        atomic.writing(target) as file,
        ThreadPoolExecutor(_threads()) as pool,
    ):
        file.write(_new_head(head, types, MIXTURES[mixture].file_type))
        file.write(bytes(-file.tell() % head.alignment))
        for tensor in head.tensors:
            for piece in _pieces(pool, source, tensor, types[tensor.name]):
                file.write(piece)
            file.write(bytes(-file.tell() % head.alignment))


def types_of(head: Head, mixture: str) -> dict[str, str]:
    """The type that each tensor of the model gets."""
    architecture = head.metadata["general.architecture"]
    layers = head.metadata.get(f"{architecture}.block_count", 0)
    tied = all(tensor.name != "output.weight" for tensor in head.tensors)
    return {tensor.name: tensor_type(mixture, tensor, layers, tied) for tensor in head.tensors}


def _new_head(head: Head, types: dict[str, str], file_type: int) -> bytes:
    changed = {
        "general.quantization_version": _QUANTIZATION_VERSION,
        "general.file_type": file_type,
    }
    pairs = head.raw | {
        key: string_bytes(key) + struct.pack("<II", U32, value) for key, value in changed.items()
    }
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(head.tensors), len(pairs)), *pairs.values()]
    offset = 0
    for tensor in head.tensors:
        number, dims = BLOCKS[types[tensor.name]][0], tensor.dims
        parts.append(
            string_bytes(tensor.name)
            + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
        )
        offset += padded(size_of(types[tensor.name], dims), head.alignment)
    return b"".join(parts)


def _pieces(
    pool: ThreadPoolExecutor, source: IO[bytes], tensor: Tensor, kind: str
) -> Iterator[bytes]:
    columns = tensor.dims[0]
    step = max(1, _BLOCK_VALUES // columns)
    rows = tensor.size // (columns * BLOCKS[tensor.type][2])
    bounds = [*range(0, rows, step), rows]

    def piece(first: int, last: int) -> bytes:
        width = columns * BLOCKS[tensor.type][2]
        raw = os.pread(source.fileno(), (last - first) * width, tensor.offset + first * width)
        return raw if kind == tensor.type else _quantized(raw, tensor, kind)

    # A tensor at a time: what waits to be written is never more than one quantised tensor.
    return pool.map(lambda pair: piece(*pair), pairwise(bounds))


def _quantized(raw: bytes, tensor: Tensor, kind: str) -> bytes:
    import numpy

    values = _as_float32(raw, tensor)
    if kind == "F16":
        return bytes(values.astype(numpy.float16).tobytes())
    columns = tensor.dims[0]
    rows = values.size // columns
    room = ctypes.create_string_buffer(size_of(kind, (columns, rows)))
    source = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    written = _ggml().ggml_quantize_chunk(BLOCKS[kind][0], source, room, 0, rows, columns, None)
    if written != len(room):
        raise StageFailed(
            Cause.CODE,
            f"quantising {tensor.name} to {kind} gave {written} bytes instead of {len(room)}",
        )
    return room.raw


def _as_float32(raw: bytes, tensor: Tensor) -> Any:
    import numpy

    if tensor.type == "F32":
        return numpy.frombuffer(raw, numpy.float32)
    if tensor.type != "F16":
        raise StageFailed(
            Cause.ARTIFACT,
            f"{tensor.name} is {tensor.type} already; only float16 GGUFs are quantised",
        )
    return numpy.frombuffer(raw, numpy.float16).astype(numpy.float32)


@cache
def _ggml() -> ctypes.CDLL:
    import xllamacpp.xllamacpp

    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    function = library.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_float),
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    return library


def _threads() -> int:
    return len(os.sched_getaffinity(0))
