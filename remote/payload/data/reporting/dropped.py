"""What was set aside, by step and reason, with samples. Reasons that differ in numbers and places
alone are one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from remote.payload.data.units import Reject

SAMPLES = 3
SAMPLE_CHARACTERS = 300
_MOST_REASONS = 60
"""So many reasons are told apart; the rest are "other reasons" of their step."""
_MOST_CHARACTERS = 200
_OTHER = "other reasons"
_PLACE = re.compile(r"\b(repeats) .+?( \(.*\))?$", re.DOTALL)
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclass
class Group:
    """What was set aside for one reason. `samples` are the first ones: where, the reason as it was,
    and what it said."""

    count: int = 0
    is_bad: bool = False
    samples: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Dropped:
    """All that was set aside."""

    groups: dict[tuple[str, str], Group] = field(default_factory=dict)

    def note(self, reject: Reject) -> None:
        """Count one."""
        key = (reject.step, folded(reject.reason))
        if key not in self.groups and len(self.groups) >= _MOST_REASONS:
            key = (reject.step, _OTHER)
        group = self.groups.setdefault(key, Group())
        group.count += 1
        group.is_bad |= reject.is_bad
        if len(group.samples) < SAMPLES:
            sample = reject.sample[:SAMPLE_CHARACTERS]
            told = {"where": str(reject.origin), "reason": reject.reason[:_MOST_CHARACTERS]}
            group.samples.append({**told, "sample": sample})

    def to_json(self) -> list[dict[str, Any]]:
        """The groups, what is bad first, then the most frequent."""
        ordered = sorted(
            self.groups.items(), key=lambda each: (not each[1].is_bad, -each[1].count, each[0])
        )
        return [
            {
                "step": step,
                "reason": reason,
                "rows": group.count,
                "is_bad": group.is_bad,
                "samples": group.samples,
            }
            for (step, reason), group in ordered
        ]


def folded(reason: str) -> str:
    """The reason without what is this one thing's: numbers, and the place it repeats."""
    line = " ".join(reason[: 4 * _MOST_CHARACTERS].split())
    line = _PLACE.sub(r"\1 an earlier one\2", line)
    return _NUMBER.sub("N", line)[:_MOST_CHARACTERS]


def total(groups: Iterable[dict[str, Any]], is_bad: bool) -> int:
    """How many things were set aside that are bad, or are not."""
    return sum(group["rows"] for group in groups if group["is_bad"] == is_bad)
