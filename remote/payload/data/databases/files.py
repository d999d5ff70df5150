"""Databases that are files: SQLite by the standard library; DuckDB's own, and Parquet as tables, by
duckdb. Nothing is written, and duckdb opens no other file."""

# ruff: noqa: S608  (the query is its user's own, and may only read; values are parameters)

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from remote.payload.data.databases.asking import (
    FETCHED,
    Dropped,
    Page,
    Refusal,
    Span,
    paged,
    refuse_null,
    selected,
)
from remote.payload.data.databases.sql import Query, Term, bound, quoted

_LOCKED_SECONDS = 30
_SQLITE, _DUCKDB = b"SQLite format 3\0", b"DUCK"


def kind_of(path: Path) -> str:
    """`sqlite`, `duckdb`, `parquet` (also for a folder of such files); empty for anything else."""
    if path.is_dir():
        return "parquet" if tables_of(path) else ""
    with path.open("rb") as file:
        first = file.read(16)
    if first == _SQLITE:
        return "sqlite"
    if first[8:12] == _DUCKDB:
        return "duckdb"
    return "parquet" if first.startswith(b"PAR1") else ""


def tables_of(path: Path) -> dict[str, list[Path]]:
    """The Parquet files of each table: a file is one by its name without the ending, and so is a
    folder of files."""
    if not path.is_dir():
        return {path.name.partition(".")[0]: [path]}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.parquet")):
        name = file.relative_to(path).parts[0].partition(".")[0]
        found.setdefault(name, []).append(file)
    return found


def files_of(path: Path) -> list[Path]:
    """All files that a query may read, with the logs of what is not yet written into them."""
    if path.is_dir():
        return [file for files in tables_of(path).values() for file in files]
    logs = (path.with_name(path.name + end) for end in ("-wal", ".wal"))
    return [path, *(log for log in logs if log.is_file())]


class _File:
    """A connection that gives a cursor; `_mark` is how it writes a parameter."""

    _mark = ""

    def __init__(self, connection: Any, seconds: float, errors: type[Exception]) -> None:
        self._connection, self._seconds, self._errors = connection, seconds, errors
        self._is_late = False

    def columns(self, query: Query) -> list[str]:
        """The names of the result's columns."""
        with self._telling():
            cursor = self._asked(query, f"{selected(query)} LIMIT 0")
            return [column[0] for column in cursor.description]

    def pages(self, query: Query, by: str, rows: int) -> list[Page]:
        """Ranges of `by`, without digests: the file's own is as good."""
        if not by:
            return [Page(None, 0)]
        with self._telling(), self._limited():
            found = self._asked(query, paged(query, by, rows)).fetchall()
        refuse_null(by, sum(nulls for _, _, nulls in found))
        if not all(isinstance(low, int | float | str) for low, _, _ in found):
            raise Refusal(f"`{by}` holds neither numbers nor text: pages of a file need one such")
        return [Page(low, count) for low, count, _ in found]

    def rows(self, query: Query, order: Sequence[Term], span: Span) -> Iterator[tuple[Any, ...]]:
        """The rows of a range."""
        with self._telling():
            with self._limited():
                cursor = self._asked(query, selected(query, order, span), **span.bounds)
            while True:
                with self._limited():
                    found = cursor.fetchmany(FETCHED)
                if not found:
                    return
                yield from found

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def _asked(self, query: Query, sql: str, **more: Any) -> Any:
        return self._connection.execute(*bound(query, sql, self._mark, **more))

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """Interrupted when it takes too long."""
        timer = threading.Timer(self._seconds, self._interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _interrupt(self) -> None:
        self._is_late = True
        self._connection.interrupt()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            words = (str(error).strip() or type(error).__name__).splitlines()[0]
            if self._is_late:
                words = f"a statement took more than {self._seconds:g} s: raise `statement_seconds`"
            raise (Dropped if "is locked" in words else Refusal)(words) from None


class Sqlite(_File):
    """A SQLite file, read only."""

    _mark = ":{}"

    def __init__(self, path: Path, seconds: float) -> None:
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fspath(path))}?mode=ro",
                uri=True,
                timeout=_LOCKED_SECONDS,
                check_same_thread=False,  # another thread interrupts it
            )
            connection.execute("PRAGMA query_only = 1")
        except sqlite3.Error as error:
            raise Refusal(str(error)) from None
        # What is no UTF-8 is one bad row, not the end of all.
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        super().__init__(connection, seconds, sqlite3.Error)


class Duckdb(_File):
    """A DuckDB file, or Parquet files as tables."""

    _mark = "${}"

    def __init__(self, path: Path, seconds: float, memory_mb: int) -> None:
        import duckdb

        self._scratch = tempfile.TemporaryDirectory(prefix="windlass-duckdb-")
        is_parquet = kind_of(path) == "parquet"
        config = {
            "threads": "1",
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": self._scratch.name,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        try:
            connection = duckdb.connect(
                ":memory:" if is_parquet else str(path), read_only=not is_parquet, config=config
            )
            super().__init__(connection, seconds, duckdb.Error)
            _closed_to_others(connection, path if is_parquet else None)
        except duckdb.Error as error:
            self._scratch.cleanup()
            raise Refusal(str(error).splitlines()[0]) from None

    def close(self) -> None:
        """Close it, and remove what it put aside."""
        super().close()
        self._scratch.cleanup()


def _closed_to_others(connection: Any, parquet: Path | None) -> None:
    """Tables of the Parquet files; no other file is opened from here on."""
    if parquet is not None:
        # A list of files, not their folder: what lies beside them is nobody's business.
        connection.execute("SET allowed_paths = " + _list(files_of(parquet)))
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    for name, files in tables_of(parquet).items() if parquet is not None else ():
        connection.execute(
            f"CREATE VIEW {quoted(name)} AS SELECT * FROM read_parquet({_list(files)},"
            " union_by_name = true)"
        )


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join("'" + str(file).replace("'", "''") + "'" for file in files) + "]"
