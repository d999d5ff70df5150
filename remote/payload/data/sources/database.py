"""Rows of a query: PostgreSQL, SQLite, or tables exported as Parquet or DuckDB, by the same recipe.

Entry: `secret`, the variable of the job's environment that holds PostgreSQL's connection string
(`secrets:` of the inventory names it), or `path`, a file or a folder of Parquet files. `query`, one
SELECT whose ORDER BY tells every two rows apart; `parameters`, which it writes `:name` and
templates `parameters.name`. `columns`, our names for those of the result, and `template`, texts of
Jinja2 over them; without either, the result's own names count. `kind` of the rows, where it is not
to be guessed.

`pages: {by: COLUMN, rows: 5000}` reads it in ranges of a column, each a unit of its own; without it
the query is one unit. `balance: COLUMN` keeps as many rows of each value as its scarcest one has,
the first ones; of rows where it is null no more than that. `statement_seconds` (600); `tries` (4)
for a connection that breaks. `name` stands in what is told of its rows.
"""

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from datetime import time as time_of_day
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from remote.contract.artifacts import row_kinds
from remote.contract.artifacts.rows import NotARow
from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.data.databases import files
from remote.payload.data.databases.asking import Database, Dropped, Refusal, Span
from remote.payload.data.databases.postgres import Postgres
from remote.payload.data.databases.sql import BadQuery, Query, Term
from remote.payload.data.databases.templates import BadTemplate, Templates
from remote.payload.data.engine import Context
from remote.payload.data.files.readers import rejected
from remote.payload.data.units import SAMPLE_CHARACTERS, Given, Origin, Reject, Result, Unit
from remote.payload.job import StageFailed

_PAUSE = 1.0
"""Seconds before a connection is tried again; twice as long each time."""
_SECONDS = 600
_TRIES = 4
_PAGE = 5000
_NULL = "null"


@dataclass(frozen=True)
class Asked:
    """What an entry of the recipe asks for."""

    query: Query
    columns: Mapping[str, str]
    template: Mapping[str, str]
    kind: str = ""
    page_by: str = ""
    page_rows: int = _PAGE
    balance: str = ""
    seconds: float = _SECONDS
    tries: int = _TRIES

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Asked":
        """Out of an entry. Raises StageFailed for one that cannot be."""
        pages = entry.get("pages") or {}
        try:
            query = Query.of(entry["query"], entry.get("parameters"))
        except BadQuery as error:
            raise _wrong(f"the query {error}") from None
        if pages and entry.get("balance"):
            raise _wrong(
                "`balance` and `pages` together: what is scarce on one page need not be on another"
            )
        return cls(
            query,
            entry.get("columns") or {},
            entry.get("template") or {},
            entry.get("kind") or "",
            pages.get("by", ""),
            int(pages.get("rows", _PAGE)),
            entry.get("balance") or "",
            float(entry.get("statement_seconds") or _SECONDS),
            int(entry.get("tries") or _TRIES),
        )


@dataclass
class Queried:
    """A query as a source."""

    name: str
    asked: Asked
    path: Path | None
    secret: str
    memory_mb: int

    def units(self) -> Iterator[Unit]:
        """A unit a page, or one of all."""
        try:
            yield from self._steadily(self._listed)
        except (Refusal, Dropped, OSError) as error:
            raise StageFailed(
                Cause.DATA,
                f"{self.name}: {error}",
                "the database was asked what there is to read",
                f"see to the database, or correct {self._where}; then `./inv resume`",
            ) from None

    def read(self, unit: Unit) -> Iterator[Result]:
        """The rows of a page, in the query's order."""
        if not self.asked.balance:
            yield from (result for result, _ in self._results(unit))
            return
        sizes: Counter[str] = Counter()
        for result, label in self._results(unit):
            sizes[label] += isinstance(result, Given)
        labels = [label for label in sizes if label != _NULL and sizes[label]] or [_NULL]
        scarce = min(labels, key=lambda label: (sizes[label], label))
        yield from self._balanced(unit, scarce, sizes[scarce])

    def _balanced(self, unit: Unit, scarce: str, quota: int) -> Iterator[Result]:
        kept: Counter[str] = Counter()
        for result, label in self._results(unit):
            if isinstance(result, Given):
                kept[label] += 1
                if kept[label] > quota:
                    by = self.asked.balance
                    reason = f"more of {by} {label} than the {quota} of {by} {scarce}"
                    sample = result.row.words[:SAMPLE_CHARACTERS]
                    yield Reject(reason, result.origin, "balance", sample, is_bad=False)
                    continue
            yield result

    def _results(self, unit: Unit) -> "Iterator[tuple[Result, str]]":
        """Each row, or why it is none, with what it is balanced by."""
        for number, values in self._values(unit):
            origin = Origin(unit.id, number)
            label = _label(values.get(self.asked.balance))
            try:
                row = self._row(values)
            except (NotARow, BadTemplate) as error:
                yield rejected(str(error), origin, _shown(values)), label
            else:
                yield Given(row, origin), label

    def _row(self, values: Mapping[str, Any]) -> Any:
        columns, parameters = self.asked.columns, self.asked.query.parameters
        if not (columns or self.asked.template):
            return row_kinds.row_of(_without_null(values), self.asked.kind)
        given = _without_null({ours: values[theirs] for ours, theirs in columns.items()})
        filled = self._templates.filled({**values, "parameters": dict(parameters)})
        return row_kinds.row_of({**given, **filled}, self.asked.kind)

    def _values(self, unit: Unit) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows with their numbers from 1. A connection that breaks is had anew, and what was
        given already passed over, if it is still the same."""
        given, mark, tried = 0, b"", 0
        while True:
            number, again = 0, b""
            try:
                with self._opened() as database:
                    for number, values in enumerate(self._asked_of(database, unit), 1):
                        again = _mark(again, values)
                        if number <= given:
                            _refuse_change(number == given and again != mark)
                            continue
                        given, mark = number, again
                        yield number, values
                _refuse_change(number < given)
                return
            except Dropped as error:
                tried += 1
                self._wait(tried, error)

    def _asked_of(self, database: Database, unit: Unit) -> Iterator[dict[str, Any]]:
        """The rows as our values. Raises ValueError where two of them stand in no order."""
        columns = database.columns(self.asked.query)
        order = self.asked.query.order(columns)
        places = [columns.index(term.column) for term in order]
        before: list[Any] | None = None
        for number, row in enumerate(database.rows(self.asked.query, order, _span(unit)), 1):
            after = [row[place] for place in places]
            if after == before:
                raise ValueError(_tie(order, number))
            before = after
            yield {name: plain(value) for name, value in zip(columns, row, strict=True)}

    def _listed(self) -> list[Unit]:
        known = digest.of_value([digest.of_file(file) for file in self._files]) if self.path else ""
        with self._opened() as database:
            self._check(database.columns(self.asked.query))
            pages = database.pages(self.asked.query, self.asked.page_by, self.asked.page_rows)
        units = []
        for number, page in enumerate(pages):
            low = page.low if number else None
            high = pages[number + 1].low if number + 1 < len(pages) else None
            name = f"{self.name}/{number:06}" if self.asked.page_by else self.name
            what = {"low": low, "high": high, "by": self.asked.page_by}
            mark = digest.of_value([known, page.digest, what])
            units.append(Unit(name, mark, page.rows, what))
        return units

    def _check(self, columns: list[str]) -> None:
        """Raise StageFailed where the recipe asks for what the result does not have."""
        if len(set(columns)) < len(columns):
            raise _wrong(f"the result names a column twice: {', '.join(columns)}")
        try:
            self.asked.query.order(columns)
            names = self._templates.names - {"parameters", "range", "namespace"}
        except BadQuery as error:
            raise _wrong(f"the query {error}") from None
        except BadTemplate as error:
            raise _wrong(str(error)) from None
        names |= {*self.asked.columns.values(), self.asked.balance, self.asked.page_by} - {""}
        if lacking := sorted(names - set(columns)):
            raise _wrong(
                f"the result has no column {', '.join(lacking)}", f"it has {', '.join(columns)}"
            )

    def _steadily(self, ask: Any) -> Any:
        """What it gives, tried again where a connection breaks."""
        tried = 0
        while True:
            try:
                return ask()
            except Dropped as error:
                tried += 1
                self._wait(tried, error)

    def _wait(self, tried: int, error: Dropped) -> None:
        """Before the next try. Raises Refusal after the last."""
        if tried >= self.asked.tries:
            raise Refusal(f"{error} (tried {tried} times)") from None
        time.sleep(_PAUSE * 2 ** (tried - 1))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Database]:
        database = self._database()
        try:
            yield database
        finally:
            database.close()

    def _database(self) -> Database:
        if self.path is None:
            return Postgres(_secret(self.secret), self.asked.seconds)
        kind = files.kind_of(self.path)
        if kind == "sqlite":
            return files.Sqlite(self.path, self.asked.seconds)
        if kind:
            return files.Duckdb(self.path, self.asked.seconds, self.memory_mb // 2)
        raise Refusal("is no SQLite or DuckDB file, and no Parquet file or folder of such")

    @property
    def _files(self) -> list[Path]:
        return files.files_of(self.path) if self.path else []

    @property
    def _where(self) -> str:
        return f"`path`: {self.path}" if self.path else f"the variable {self.secret}"

    @cached_property
    def _templates(self) -> Templates:
        return Templates(self.asked.template)


def open_source(entry: Mapping[str, Any], context: Context) -> Queried:
    """The query of an entry. Raises StageFailed for one that cannot be."""
    path, secret = entry.get("path") or "", entry.get("secret") or ""
    if bool(path) == bool(secret):
        raise _wrong("a database is `secret`, the variable with its connection string, or `path`")
    place = context.root / Path(path).expanduser() if path else None
    name = entry.get("name") or (Path(path).name if path else secret)
    memory = int(context.limits.get("memory_mb") or 4096)
    return Queried(name, Asked.of(entry), place, secret, memory)


def plain(value: Any) -> Any:
    """A value of a database as plain JSON, the same from each: times as ISO text in UTC, numbers as
    numbers where nothing is lost, bytes as hexadecimal digits."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return next((told(value) for kind, told in _PLAIN if isinstance(value, kind)), str(value))


def _plain_number(value: Decimal) -> Any:
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _plain_moment(value: datetime) -> str:
    return (value.astimezone(timezone.utc) if value.tzinfo else value).isoformat(" ")


_PLAIN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Decimal, _plain_number),
    (datetime, _plain_moment),
    ((date, time_of_day), lambda value: value.isoformat()),
    ((bytes, bytearray, memoryview), lambda value: bytes(value).hex()),
    ((list, tuple), lambda value: [plain(each) for each in value]),
    (dict, lambda value: {str(name): plain(each) for name, each in value.items()}),
)


def _secret(name: str) -> str:
    if value := os.environ.get(name, ""):
        return value
    raise StageFailed(
        Cause.CONFIG,
        f"the variable {name} is not set",
        "the recipe's database is reached by it",
        f"list {name} under `secrets:` of the inventory, `export {name}=postgresql://…`, then"
        " `./inv resume`",
    )


def _wrong(what: str, why: str = "") -> StageFailed:
    return StageFailed(
        Cause.CONFIG, what, why, "correct the recipe's `database` source, and `./inv run` it anew"
    )


def _span(unit: Unit) -> Span:
    return Span(unit.what["by"], unit.what["low"], unit.what["high"])


def _tie(order: tuple[Term, ...], number: int) -> str:
    names = ", ".join(term.column for term in order)
    return (
        f"rows {number - 1} and {number} have the same {names}: their order is another each time;"
        " end ORDER BY with a column that no two rows share"
    )


def _refuse_change(is_changed: bool) -> None:
    if is_changed:
        raise ValueError("the connection broke, and what was read before is not the same any more")


def _mark(before: bytes, values: Mapping[str, Any]) -> bytes:
    """A digest of all rows so far."""
    said = repr(list(values.values())).encode(errors="surrogatepass")
    return hashlib.blake2b(before + said, digest_size=16).digest()


def _label(value: Any) -> str:
    """As each database says it: true is 1 in SQLite."""
    if isinstance(value, bool):
        return str(int(value))
    return _NULL if value is None else str(value)


def _without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
