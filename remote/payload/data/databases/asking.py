"""What the source needs of a database, whichever it is, and the SQL for it."""

# ruff: noqa: S608  (the query is its user's own, and may only read; values are parameters)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from remote.payload.data.databases.sql import Query, Term, quoted

FETCHED = 2000
"""So many rows are asked for at once."""


class Refusal(ValueError):
    """A database says no, and will again; says why, for people, without the secret."""


class Dropped(ValueError):
    """A connection that broke, or cannot be had now: worth another try."""


@dataclass(frozen=True)
class Page:
    """A range of keys: from `low`, which None leaves open. `digest` changes whenever its rows do;
    empty where the database cannot tell."""

    low: Any
    rows: int
    digest: str = ""


class Database(Protocol):
    """An open one. Each method raises Refusal or Dropped."""

    def columns(self, query: Query) -> list[str]:
        """The names of the result's columns."""
        ...

    def pages(self, query: Query, by: str, rows: int) -> list[Page]:
        """Ranges of the column `by` with about so many rows; one of all where it is empty."""
        ...

    def rows(self, query: Query, order: Sequence[Term], span: "Span") -> Iterator[tuple[Any, ...]]:
        """The rows of a range, in that order; no more than `FETCHED` are held."""
        ...

    def close(self) -> None:
        """Be done with it."""
        ...


@dataclass(frozen=True)
class Span:
    """A range of the column `by`: from `low` to before `high`, each None where it is open."""

    by: str = ""
    low: Any = None
    high: Any = None

    @property
    def bounds(self) -> dict[str, Any]:
        """The parameters of its condition."""
        both = {"windlass_low": self.low, "windlass_high": self.high}
        return {name: value for name, value in both.items() if value is not None}

    @property
    def condition(self) -> str:
        """WHERE and what stands behind it; empty for all rows."""
        ways = {"windlass_low": ">=", "windlass_high": "<"}
        each = [f"{quoted(self.by)} {ways[name]} :{name}" for name in self.bounds]
        return f" WHERE {' AND '.join(each)}" if each else ""


def selected(query: Query, order: Sequence[Term] = (), span: Span | None = None) -> str:
    """The SQL for the rows of a range in that order."""
    condition = span.condition if span else ""
    sorting = f" ORDER BY {', '.join(term.sql for term in order)}" if order else ""
    return f"SELECT * FROM (\n{query.text}\n) AS windlass{condition}{sorting}"


def paged(query: Query, by: str, rows: int) -> str:
    """The SQL for `(least key, how many rows, how many keys that are null)` of each page. The same
    key never stands on two."""
    return (
        "SELECT min(k), count(*), count(*) - count(k) FROM (SELECT k, place - place % "
        f"{int(rows)} AS page FROM (SELECT {quoted(by)} AS k, rank() OVER (ORDER BY {quoted(by)})"
        f" - 1 AS place FROM (\n{query.text}\n) AS windlass) AS placed) AS paged"
        " GROUP BY page ORDER BY page"
    )


def refuse_null(by: str, count: int) -> None:
    """Raise Refusal where keys are null: their rows would stand on no page."""
    if count:
        raise Refusal(f"`{by}` is null in {count} rows: pages need a column that never is")
