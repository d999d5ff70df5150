"""Keeps classes of rows in proportion.

Entry: `by`, what names a row's class: `source`, `group`, `asked` or `answer`; `pattern`, a regular
expression whose first group (or whole match) in that is the class, rows without it being of the
class `other`; `bins`, numbers from 0 up where the class is a number: `[0.4, 0.7]` makes three
classes. Then one of: `quotas` (`{fr: 1000, en: 500}`; who is not named stays), `shares` (`{fr: 0.7,
en: 0.3}`; as many rows as these allow), `ratio` (each class at most so many times the smallest; 1
by default). Which rows stay is drawn by `seed` and content.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context
from remote.payload.data.steps import options
from remote.payload.data.steps.choosing import Lowest, rank_of
from remote.payload.data.units import Given, Result

WHOLE = True

_Quotas = Callable[[Mapping[str, int]], dict[str, int]]
_OTHER = "other"


class Balance:
    """Looks at all rows, then keeps each class's quota."""

    def __init__(self, name_of: Callable[[Row], str], quotas: _Quotas, seed: str) -> None:
        self._name_of, self._quotas, self._seed = name_of, quotas, seed
        self._lowest = Lowest()
        self._allowed: dict[str, int] | None = None

    def look(self, given: Given) -> None:
        """Count the row in its class."""
        self._lowest.note(self._name_of(given.row), rank_of(self._seed, given.row))

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or that its class is full."""
        if self._allowed is None:
            self._allowed = self._quotas(self._lowest.counts())
            self._lowest.choose(self._allowed)
        name = self._name_of(given.row)
        if self._lowest.keeps(name, rank_of(self._seed, given.row)):
            yield given
        else:
            count = self._lowest.count(name)
            reason = f"beyond the quota of {name!r}: {self._allowed[name]} of {count} rows"
            yield options.set_aside(given, "balance", reason)


def make_step(entry: Mapping[str, Any], context: Context) -> Balance:
    """The step of an entry."""
    return Balance(_name_of(entry), _quotas(entry), context.seed)


def _name_of(entry: Mapping[str, Any]) -> Callable[[Row], str]:
    field = options.one_of(entry, "by", ("source", "group", "asked", "answer"))
    try:
        pattern = re.compile(entry["pattern"]) if entry.get("pattern") else None
    except (re.error, TypeError) as error:
        raise options.wrong(entry, f"`pattern`: {error}", "expected a regular expression") from None
    bins = sorted(_numbers(entry, "bins"))

    def name_of(row: Row) -> str:
        value = str(getattr(row, field)).strip()
        if pattern:
            found = pattern.search(value)
            value = (found[1] if pattern.groups else found[0]) or "" if found else _OTHER
        return _bin(value, bins) if bins else value

    return name_of


def _bin(value: str, bins: list[float]) -> str:
    """The bin of a number, by its limits."""
    try:
        at = bisect_right(bins, float(value))
    except ValueError:
        return _OTHER
    low = f"{bins[at - 1]:g}" if at else ""
    high = f"{bins[at]:g}" if at < len(bins) else ""
    return f"{low}-{high}" if low and high else f"{low} and above" if low else f"below {high}"


def _numbers(entry: Mapping[str, Any], name: str) -> list[float]:
    found = entry.get(name) or []
    if not isinstance(found, list) or not all(
        isinstance(each, (int, float)) and not isinstance(each, bool) for each in found
    ):
        raise options.wrong(entry, f"`{name}` is {found!r}", "expected a list of numbers")
    return [float(each) for each in found]


def _quotas(entry: Mapping[str, Any]) -> _Quotas:
    named = [name for name in ("quotas", "shares", "ratio") if entry.get(name)]
    if len(named) > 1:
        raise options.wrong(entry, f"`{named[0]}` and `{named[1]}`", "expected one of them")
    if named == ["quotas"]:
        quotas = _table(entry, "quotas")
        return lambda counts: {
            name: min(count, int(quotas.get(name, count))) for name, count in counts.items()
        }
    if named == ["shares"]:
        shares = _table(entry, "shares")
        if not sum(shares.values()):
            raise options.wrong(entry, "`shares` are all 0", "expected some above it")
        return lambda counts: by_shares(counts, shares)
    ratio = options.number(entry, "ratio", 1, 1)
    return lambda counts: {
        name: min(count, int(ratio * min(counts.values()))) for name, count in counts.items()
    }


def by_shares(counts: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """The most rows of each class that stand in these proportions; none of others. A class without
    a row does not keep the others from staying."""
    wanted = {name: share for name, share in shares.items() if share and counts.get(name)}
    most = min((counts[name] / share for name, share in wanted.items()), default=0.0)
    return {name: min(count, round(most * wanted.get(name, 0))) for name, count in counts.items()}


def _table(entry: Mapping[str, Any], name: str) -> dict[str, float]:
    table = entry[name]
    if not isinstance(table, Mapping):
        raise options.wrong(entry, f"`{name}` is {table!r}", "expected a table: {fr: 1000}")
    return {key: options.number({"type": entry["type"], key: table[key]}, key, 0) for key in table}
