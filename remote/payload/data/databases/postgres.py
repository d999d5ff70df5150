"""PostgreSQL by psycopg 3: a transaction that reads one moment and writes nothing, a cursor on the
server, a limit of time for each statement. What the connection string holds is told nowhere."""

# ruff: noqa: S608  (the query is its user's own, and may only read; values are parameters)

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from remote.payload.data.databases.asking import (
    FETCHED,
    Dropped,
    Page,
    Refusal,
    Span,
    refuse_null,
    selected,
)
from remote.payload.data.databases.sql import Query, Term, bound, quoted

_MARK = "%({})s"
_CONNECTING = {
    "connect_timeout": "15",
    "application_name": "windlass",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""Where the connection string does not say otherwise. A line that is dead without a word is noticed
within a minute."""
_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "idle_in_transaction_session_timeout": "0",
    "cursor_tuple_fraction": "1",
}
"""The same text of the same value wherever the server stands; plans for all rows, not the first."""
_PASSING = ("57P01", "57P02", "57P03", "53300", "40001", "40P01")
_PASSING_WORDS = ("starting up", "shutting down", "too many", "recovery", "remaining connection")


class Postgres:
    """A connection. Raises Refusal or Dropped."""

    def __init__(self, dsn: str, seconds: float) -> None:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        self._seconds = seconds
        try:
            told = conninfo_to_dict(dsn)
        except psycopg.Error:  # its words repeat the string
            raise Refusal("the connection string is none: postgresql://USER@HOST/NAME") from None
        self._hidden = _hidden(dsn, told)
        try:
            self._connection = psycopg.connect(
                **{**_CONNECTING, **told}, client_encoding="utf8", prepare_threshold=None
            )
        except psycopg.Error as error:
            raise _at_connecting(self._plain(error)) from None
        self._connection.read_only = True
        self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        settings = {**_SETTINGS, "statement_timeout": f"{int(seconds * 1000)}"}
        with self._telling():
            for name, value in settings.items():
                self._connection.execute("SELECT set_config(%s, %s, true)", (name, value))

    def columns(self, query: Query) -> list[str]:
        """The names of the result's columns."""
        sql, values = bound(query, f"{selected(query)} LIMIT 0", _MARK)
        with self._telling():
            described = self._connection.execute(sql.encode(), values).description or []
            return [column.name for column in described]

    def pages(self, query: Query, by: str, rows: int) -> list[Page]:
        """Ranges of `by`. The server makes their digests: a sum of hashes of the rows' texts."""
        sql, values = bound(query, _paged(query, by, rows) if by else _whole(query), _MARK)
        with self._telling():
            found = self._connection.execute(sql.encode(), values).fetchall()
        refuse_null(by, sum(nulls for _, _, _, nulls in found))
        return [Page(low, count, f"{count} {total}") for low, count, total, _ in found]

    def rows(self, query: Query, order: Sequence[Term], span: Span) -> Iterator[tuple[Any, ...]]:
        """The rows of a range, by a cursor on the server."""
        sql, values = bound(query, selected(query, order, span), _MARK, **span.bounds)
        with self._telling(), self._connection.cursor(name="windlass") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(sql.encode(), values)
            yield from cursor

    def close(self) -> None:
        """End the transaction and the connection."""
        self._connection.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            state, words = error.sqlstate or "", self._plain(error)
            if state == "57014":
                raise Refusal(
                    f"a statement took more than {self._seconds:g} s: raise `statement_seconds`,"
                    " or read it by `pages`"
                ) from None
            is_broken = self._connection.closed or state.startswith("08") or state in _PASSING
            raise (Dropped if is_broken else Refusal)(words) from None

    def _plain(self, error: Any) -> str:
        """The first line of what an error says, without anything of the connection string."""
        words = error.diag.message_primary or str(error).strip() or type(error).__name__
        for each in self._hidden:
            words = words.replace(each, "***")
        return str(words).splitlines()[0]


def _hidden(dsn: str, told: Mapping[str, Any]) -> list[str]:
    secret = [str(told[name]) for name in ("password", "sslpassword") if told.get(name)]
    return [dsn, *secret, *(quote(each, safe="") for each in secret)]


def _at_connecting(words: str) -> ValueError:
    """What the server itself says to a newcomer it will say again, unless it is only busy."""
    is_final = "FATAL" in words and not any(each in words for each in _PASSING_WORDS)
    return (Refusal if is_final else Dropped)(words)


_HASHED = "hashtextextended(windlass::text, 0)::numeric"


def _whole(query: Query) -> str:
    return (
        f"SELECT NULL, count(*), coalesce(sum({_HASHED}), 0), 0 FROM (\n{query.text}\n) AS windlass"
    )


def _paged(query: Query, by: str, rows: int) -> str:
    # No min(): PostgreSQL before 18 has none of uuid.
    key = quoted(by)
    return (
        "SELECT (array_agg(k ORDER BY k))[1]::text, count(*), sum(hash), count(*) - count(k) FROM"
        f" (SELECT k, hash, place - place % {int(rows)} AS page FROM (SELECT {key} AS k, {_HASHED}"
        f" AS hash, rank() OVER (ORDER BY {key}) - 1 AS place FROM (\n{query.text}\n) AS windlass)"
        " AS placed) AS paged GROUP BY page ORDER BY page"
    )
