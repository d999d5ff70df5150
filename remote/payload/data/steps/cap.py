"""Keeps at most so many rows.

Entry: `total`, `per_source`, `per_group`: the most rows in all, of a source, of a group; at least
one of them. Which stay is drawn by `seed` and content: the same ones each time, and of a corpus
that grew as many of them as can be.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from remote.payload.data.engine import Context
from remote.payload.data.split import grouped
from remote.payload.data.steps import options
from remote.payload.data.steps.choosing import Lowest, rank_of
from remote.payload.data.units import Given, Result

WHOLE = True
_NAMES = ("total", "per_source", "per_group")


class Cap:
    """Looks at all rows, then keeps those of the lowest hashes."""

    def __init__(self, total: int | None, per_class: int | None, field: str, seed: str) -> None:
        self._total, self._per_class, self._field, self._seed = total, per_class, field, seed
        self._lowest = Lowest()
        self._is_chosen = False

    def look(self, given: Given) -> None:
        """Count the row."""
        self._lowest.note(self._name(given), rank_of(self._seed, given.row))

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or that there are more than may be."""
        if not self._is_chosen:
            counts = self._lowest.counts() if self._per_class is not None else {}
            self._lowest.choose(dict.fromkeys(counts, self._per_class or 0), self._total)
            self._is_chosen = True
        name = self._name(given)
        if self._lowest.keeps(name, rank_of(self._seed, given.row)):
            yield given
        else:
            yield options.set_aside(given, "cap", self._reason(name))

    def _name(self, given: Given) -> str:
        row = given.row
        return grouped(row).group if self._field == "group" else row.source

    def _reason(self, name: str) -> str:
        count, kept = self._lowest.count(name), self._lowest.kept(name)
        if self._per_class is not None and count > self._per_class:
            return f"beyond {self._per_class} rows of {self._field} {name!r}, which has {count}"
        return f"beyond {self._total} rows in all; of {self._field} {name!r} {kept} of {count} stay"


def make_step(entry: Mapping[str, Any], context: Context) -> Cap:
    """The step of an entry."""
    limits = {name: options.whole(entry, name, 0) for name in _NAMES if entry.get(name) is not None}
    if not limits or ("per_source" in limits and "per_group" in limits):
        raise options.wrong(
            entry, "no limit, or two", "expected `total`, and `per_source` or `per_group`"
        )
    field = "group" if "per_group" in limits else "source"
    return Cap(limits.get("total"), limits.get(f"per_{field}"), field, context.seed)
