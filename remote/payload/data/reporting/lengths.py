"""How long things are: every length counted, so that percentiles are exact and memory follows the
number of different lengths alone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SHARES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


@dataclass
class Lengths:
    """A distribution of whole numbers from 0 up."""

    counts: "Counter[int]" = field(default_factory=Counter)

    def add(self, length: int) -> None:
        """Count one."""
        self.counts[length] += 1

    @property
    def count(self) -> int:
        """How many were counted."""
        return self.counts.total()

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(length * count for length, count in self.counts.items())

    def to_json(self) -> dict[str, Any]:
        """Count, total, mean, extremes, nearest-rank percentiles, and a histogram of `[from, to,
        count]`, `to` exclusive, whose edges are the same for all distributions."""
        if not self.counts:
            return {"count": 0, "total": 0, "histogram": []}
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(self.total / self.count, 2),
            "min": min(self.counts),
            **self._percentiles(),
            "max": max(self.counts),
            "histogram": self._histogram(),
        }

    def _percentiles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        seen, wanted = 0, list(SHARES.items())
        for length in sorted(self.counts):
            seen += self.counts[length]
            while wanted and seen >= wanted[0][1] * self.count:
                found[wanted.pop(0)[0]] = length
        return found

    def _histogram(self) -> list[list[int]]:
        bins: list[list[int]] = []
        edges = _edges()
        low, high = 0, next(edges)
        for length in sorted(self.counts):
            while length >= high:
                low, high = high, next(edges)
            if not bins or bins[-1][0] != low:
                bins.append([low, high, 0])
            bins[-1][2] += self.counts[length]
        return bins


def _edges() -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 11, 16, 23, …: two bins for each doubling."""
    last, power = 0, 0
    while True:
        edge = round(2 ** (power / 2))
        if edge > last:
            yield edge
            last = edge
        power += 1
