"""The one reader of JSON that another machine, a file or a client gave us: bounded in size and
depth, and of the type that was asked for.

Whatever is wrong with it is a ValueError, so that a caller has one thing to catch. RFC 8259,
section 9: a parser may set such limits.
"""

import json
import os
from collections.abc import Callable
from itertools import chain
from typing import Any

from remote.contract.files import regular_files

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
"""Nothing that Windlass writes nests deeper than ten; what does would end a later recursive walk in
RecursionError."""

RECORD_BYTES = 4 << 20
"""A record of one job or one process, such as its state. A reader that goes through all of a box's
jobs has to come to the last of them."""


def loads(
    data: str | bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    lone_surrogates: bool = False,
    unique: bool = False,
    parse_int: Callable[[str], Any] | None = None,
) -> Any:
    """The value of one JSON text. Raises ValueError for what is no JSON in UTF-8, larger than
    `max_bytes`, or nested too deep.

    `max_bytes` counts characters where `data` is a string. `lone_surrogates`: halves of characters
    are let through, as they stand for the bytes of a file name that is not UTF-8; nobody could
    print or encode them elsewhere. With `unique`, an object that names something twice is refused.
    `parse_int` is as for `json.loads`.
    """
    if len(data) > max_bytes:
        raise ValueError(f"JSON of {len(data):,} bytes; at most {max_bytes:,} are read")
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8-sig")
        value = json.loads(text, parse_int=parse_int, object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if _may_be_deep(text, max_depth) and not _depth_is_within(value, max_depth):
        raise ValueError(f"JSON that is nested deeper than {max_depth} levels")
    if not lone_surrogates and _holds_lone_surrogates(text, value):
        raise ValueError("JSON with half a character (a lone surrogate)")
    return value


def loads_object(data: str | bytes, **bounds: Any) -> dict[str, Any]:
    """The same for what must be an object. Raises ValueError."""
    value = loads(data, **bounds)
    if not isinstance(value, dict):
        raise ValueError(f"JSON that is {type(value).__name__}, not an object")
    return value


def loads_list(data: str | bytes, **bounds: Any) -> list[Any]:
    """The same for what must be an array. Raises ValueError."""
    value = loads(data, **bounds)
    if not isinstance(value, list):
        raise ValueError(f"JSON that is {type(value).__name__}, not an array")
    return value


def read_object(
    path: str | os.PathLike[str], max_bytes: int = MAX_BYTES, **bounds: Any
) -> dict[str, Any]:
    """The object in a regular file, of which no more than `max_bytes` are read. Raises ValueError,
    and OSError where it cannot be read."""
    return loads_object(regular_files.content_of(path, max_bytes), **bounds)


def read_list(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES, **bounds: Any) -> list[Any]:
    """The array in a file, as `read_object` reads an object."""
    return loads_list(regular_files.content_of(path, max_bytes), **bounds)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("JSON in which an object names something twice")
    return found


def _may_be_deep(text: str, max_depth: int) -> bool:
    """Whether there are brackets enough: counting them costs far less than walking the value, and
    nearly all JSON has few."""
    return text.count("[") + text.count("{") > max_depth


def _holds_lone_surrogates(text: str, value: Any) -> bool:
    """A pair of surrogates is how JSON in ASCII spells a character beyond the basic plane: only
    what was read tells a half from a whole."""
    try:
        if not text.isascii():
            text.encode()
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return True
    return False


def _depth_is_within(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth + 1):
        containers = [
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        if not containers:
            return True
        level = list(chain.from_iterable(containers))
    return False
