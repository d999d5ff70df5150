"""The one reader of JSON that another machine, a file or a client gave us: bounded in size and depth, and of the type that was asked for.

Whatever is wrong with it is a ValueError, so that a caller has one thing to catch. RFC 8259, section 9: a parser may set such limits.
"""

import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
"""Nothing that Windlass writes nests deeper than ten; what does would end a later recursive walk in RecursionError."""


def loads(data: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, unique: bool = False) -> Any:
    """The value of one JSON text. Raises ValueError for what is no JSON, larger than `max_bytes`, or nested deeper than `max_depth`.

    `max_bytes` counts characters where `data` is a string. With `unique`, an object that names something twice is refused.
    """
    if len(data) > max_bytes:
        raise ValueError(f"JSON of {len(data):,} bytes; at most {max_bytes:,} are read")
    try:
        value = json.loads(data, object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if _may_be_deep(data, max_depth) and not _depth_is_within(value, max_depth):
        raise ValueError(f"JSON that is nested deeper than {max_depth} levels")
    return value


def loads_object(data: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, unique: bool = False) -> dict[str, Any]:
    """The same for what must be an object. Raises ValueError."""
    value = loads(data, max_bytes=max_bytes, max_depth=max_depth, unique=unique)
    if not isinstance(value, dict):
        raise ValueError(f"JSON that is {type(value).__name__}, not an object")
    return value


def loads_list(data: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> list[Any]:
    """The same for what must be an array. Raises ValueError."""
    value = loads(data, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(value, list):
        raise ValueError(f"JSON that is {type(value).__name__}, not an array")
    return value


def read_object(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The object in a file, of which no more than `max_bytes` are read. Raises ValueError, and OSError where the file cannot be read."""
    with Path(path).open("rb") as file:
        return loads_object(file.read(max_bytes + 1), max_bytes=max_bytes, max_depth=max_depth)


def read_list(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> list[Any]:
    """The array in a file, as `read_object` reads an object."""
    with Path(path).open("rb") as file:
        return loads_list(file.read(max_bytes + 1), max_bytes=max_bytes, max_depth=max_depth)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("JSON in which an object names something twice")
    return found


def _may_be_deep(data: str | bytes, max_depth: int) -> bool:
    """Whether there are brackets enough: counting them costs far less than walking the value, and nearly all JSON has few."""
    count = data.count(b"[") + data.count(b"{") if isinstance(data, bytes) else data.count("[") + data.count("{")
    return count > max_depth


def _depth_is_within(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth + 1):
        containers = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        if not containers:
            return True
        level = list(chain.from_iterable(containers))
    return False
