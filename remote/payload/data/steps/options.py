"""Options of steps, read from their entries in the recipe; and what steps have in common."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.contract.job.jobs import Cause
from remote.payload.data.units import SAMPLE_CHARACTERS, Given, Reject
from remote.payload.job import StageFailed


def wrong(entry: Mapping[str, Any], what: str, expected: str) -> StageFailed:
    """The error for an entry that cannot be."""
    step = entry.get("type", "step")
    return StageFailed(
        Cause.CONFIG, f"step {step}: {what}", expected, "correct it in the data recipe"
    )


def number(
    entry: Mapping[str, Any], name: str, default: float, low: float = 0, high: float = float("inf")
) -> float:
    """A number from `low` to `high`. Raises StageFailed."""
    value = entry.get(name)
    if value is None:
        return default
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        above = "" if high == float("inf") else f" to {high:g}"
        raise wrong(entry, f"`{name}` is {value!r}", f"expected a number from {low:g}{above}")
    return float(value)


def whole(entry: Mapping[str, Any], name: str, default: int, low: int = 0) -> int:
    """A whole number from `low`. Raises StageFailed."""
    value = number(entry, name, default, low)
    if value != int(value):
        raise wrong(entry, f"`{name}` is {value:g}", "expected a whole number")
    return int(value)


def one_of(entry: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """One of these words, the first by default. Raises StageFailed."""
    value = entry.get(name) or choices[0]
    if value not in choices:
        raise wrong(entry, f"`{name}` is {value!r}", f"expected one of {', '.join(choices)}")
    return str(value)


def names(entry: Mapping[str, Any], name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A word or a list of them. Raises StageFailed."""
    value = entry.get(name)
    if value is None:
        return default
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, str) for each in found):
        raise wrong(entry, f"`{name}` is {value!r}", "expected a word or a list of words")
    return tuple(found)


def path_in(entry: Mapping[str, Any], name: str, root: Path) -> Path | None:
    """A path that is there, below Windlass's folder where it is relative; None where the entry
    names none. Raises StageFailed."""
    if not (value := entry.get(name)):
        return None
    path = root / Path(str(value)).expanduser()
    if not path.exists():
        raise wrong(entry, f"`{name}`: {path} is not there", "expected a file or folder")
    return path


def with_texts(row: Row, change: Callable[[str], str]) -> Row:
    """The row with each of its texts changed; the same object where nothing did."""
    if row.is_document:
        text = change(row.text)
        return row if text == row.text else replace(row, text=text)
    turns = tuple(replace(turn, content=change(turn.content)) for turn in row.messages)
    return row if turns == row.messages else replace(row, messages=turns)


def set_aside(given: Given, step: str, reason: str, *, is_bad: bool = False) -> Reject:
    """The row as one that is not needed, or as one that is unusable."""
    sample = given.row.words[:SAMPLE_CHARACTERS]
    return Reject(reason, given.origin, step, sample, is_bad)
