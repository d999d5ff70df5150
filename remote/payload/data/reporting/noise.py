"""Label noise: how far two teachers agree on what both have scored. No model that learns from them
can be told to agree better with one of them than they do with each other."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.contract.files import untrusted_json

FEWEST = 3
"""Of fewer pairs there is no correlation to speak of."""
_MOST_CHARACTERS = 20_000
_MOST_POINTS = 400
_LARGEST = 1e9
_FIRST_NUMBER = re.compile(r"\s*[\"'`(\[]?(-?\d{1,6}(?:[.,]\d{1,6})?)(?![\w.,:/-]*\d)")


@dataclass
class Scores:
    """What each source (the teacher) scored, by group (what was scored)."""

    by_group: dict[str, dict[str, float]] = field(default_factory=dict)
    unclear: set[tuple[str, str]] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Note the row's score, where it has one, a source and a group."""
        if not (row.source and row.group and row.messages):
            return
        value = score_of(row.answer)
        if value is None:
            return
        known = self.by_group.setdefault(row.group, {})
        if row.source in known and known[row.source] != value:
            self.unclear.add((row.group, row.source))  # several things of one group: none of them
        known.setdefault(row.source, value)

    def to_json(self) -> list[dict[str, Any]]:
        """For each two sources that scored three groups or more in common: how many, Pearson's and
        Spearman's correlation (None where one of them always says the same), mean absolute
        difference, and some pairs."""
        pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for group, scores in sorted(self.by_group.items()):
            clear = sorted(source for source in scores if (group, source) not in self.unclear)
            for one, other in combinations(clear, 2):
                pairs.setdefault((one, other), []).append((scores[one], scores[other]))
        ordered = sorted(pairs.items(), key=lambda each: (-len(each[1]), each[0]))
        return [_told(*each) for each in ordered if len(each[1]) >= FEWEST]


def _told(sources: tuple[str, str], points: list[tuple[float, float]]) -> dict[str, Any]:
    ones, others = [point[0] for point in points], [point[1] for point in points]
    differences = [abs(one - other) for one, other in points]
    every = max(1, len(points) // _MOST_POINTS)
    return {
        "sources": list(sources),
        "groups": len(points),
        "pearson": _rounded(correlation(ones, others)),
        "spearman": _rounded(correlation(ranks(ones), ranks(others))),
        "mean_difference": round(sum(differences) / len(points), 6),
        "points": [list(point) for point in points[::every][:_MOST_POINTS]],
    }


def score_of(answer: str) -> float | None:
    """The score in an answer: `score` of a JSON object, as a number or as text, else the number
    that it begins with; None where there is none."""
    text = answer[:_MOST_CHARACTERS]
    if text.lstrip().startswith("{"):
        try:
            told = untrusted_json.loads(text, lone_surrogates=True)
        except (ValueError, RecursionError):
            return None
        value = told.get("score") if isinstance(told, dict) else None
        if isinstance(value, str):
            return _number(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if abs(value) < _LARGEST else None
    return _number(text)


def _number(text: str) -> float | None:
    found = _FIRST_NUMBER.match(text)
    return float(found[1].replace(",", ".")) if found else None


def correlation(ones: Sequence[float], others: Sequence[float]) -> float | None:
    """Pearson's r; None where one side does not vary."""
    mean_one, mean_other = sum(ones) / len(ones), sum(others) / len(others)
    square_one = math.fsum((value - mean_one) ** 2 for value in ones)
    square_other = math.fsum((value - mean_other) ** 2 for value in others)
    if square_one <= 0 or square_other <= 0:
        return None
    common = math.fsum(
        (one - mean_one) * (other - mean_other) for one, other in zip(ones, others, strict=True)
    )
    return max(-1.0, min(1.0, common / math.sqrt(square_one * square_other)))


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each, from 1; equal ones share the mean of theirs."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    found = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and values[order[end + 1]] == values[order[at]]:
            end += 1
        for index in order[at : end + 1]:
            found[index] = (at + end) / 2 + 1
        at = end + 1
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
