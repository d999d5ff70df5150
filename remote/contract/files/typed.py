"""What another machine tells, as dataclasses: each field is of its type, so that nothing of it
surprises who works with it.

A `float` is finite; a `float | None` may be NaN, as a loss may; an `int` has 64 bits. Keys that are
not known are those of a newer Windlass, and left out.
"""

import math
from dataclasses import is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_known: dict[type, dict[str, Any]] = {}


def read(cls: type[T], raw: Any) -> T:
    """An object of that dataclass out of one of JSON. Raises ValueError or TypeError when it is
    none."""
    if not isinstance(raw, dict):
        raise TypeError(f"{cls.__name__} is {type(raw).__name__}")
    return cls(
        **{name: value(hint, raw[name], name) for name, hint in _hints(cls).items() if name in raw}
    )


def loosely(cls: type[T], raw: Any) -> tuple[T | None, bool]:
    """What can be read of it, None where too little can; and whether that is all of it, with no
    field missing."""
    told = {}
    for name, hint in _hints(cls).items() if isinstance(raw, dict) else ():
        try:
            told[name] = value(hint, raw[name], name)
        except (KeyError, ValueError, TypeError):
            continue
    try:
        return cls(**told), len(told) == len(_hints(cls))
    except TypeError:
        return None, False


def value(hint: Any, raw: Any, name: str) -> Any:
    """`raw` as a value of that type. Raises ValueError or TypeError naming `name`."""
    origin, kinds = get_origin(hint), get_args(hint)
    if hint is Any or (is_dataclass(hint) and isinstance(raw, hint)):  # type: ignore[arg-type]
        return raw
    if origin in (Union, UnionType):
        (kind,) = (each for each in kinds if each is not type(None))
        return (
            None if raw is None else _number(raw, name) if kind is float else value(kind, raw, name)
        )
    if origin is list and isinstance(raw, list):
        return [value(kinds[0], each, name) for each in raw]
    if origin is dict and isinstance(raw, dict):
        return {
            value(kinds[0], key, name): value(kinds[1], each, name) for key, each in raw.items()
        }
    if is_dataclass(hint):
        return read(hint, raw)  # type: ignore[arg-type]
    return _plain(hint, raw, name)


def _plain(hint: Any, raw: Any, name: str) -> Any:
    if hint is float and math.isfinite(number := _number(raw, name)):
        return number
    if (
        hint is int
        and not isinstance(raw, bool)
        and (isinstance(raw, int) or (isinstance(raw, float) and raw.is_integer()))
    ):
        return _integer(raw, name)
    if hint in (str, bool) and isinstance(raw, hint):
        return raw
    if isinstance(hint, type) and issubclass(hint, Enum) and isinstance(raw, str | int):
        return hint(raw)
    raise TypeError(f"`{name}` is {str(raw)[:80]!r}")


def _integer(raw: int | float, name: str) -> int:
    if abs(raw) >= 1 << 63:  # no size, pid or count; what takes it for one ends in OverflowError
        raise ValueError(f"`{name}` is too large")
    return int(raw)


def _number(raw: Any, name: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise TypeError(f"`{name}` is {str(raw)[:80]!r}")
    try:
        return float(raw)
    except OverflowError:
        raise ValueError(f"`{name}` is too large") from None


def _hints(cls: type) -> dict[str, Any]:
    if cls not in _known:
        _known[cls] = get_type_hints(cls)
    return _known[cls]
