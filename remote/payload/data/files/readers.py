"""A file of a known kind as rows: JSON Lines, a JSON array, CSV, Excel, Parquet, Arrow, text and
Markdown. What is wrong with one row is a Reject with its line; the rest goes on.

Parquet and Arrow need pyarrow, Excel openpyxl, zstd zstandard.
"""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from remote.contract.artifacts import row_kinds
from remote.contract.artifacts.dataset_file import READABLE, first_refusal
from remote.contract.artifacts.rows import NotARow, Row
from remote.contract.files.file_kind import FIRST_BYTES, kind_of, kind_of_file
from remote.payload.data.files.lines import LINE_BYTES, lines, opened
from remote.payload.data.units import SAMPLE_CHARACTERS, Given, Origin, Reject, Result

_FIRST = 100
"""So many objects tell which kind of rows a file holds."""
_CSV_FIELD = 20_000_000
_ARRAY_BYTES = 512 << 20
"""A JSON array has to be held whole."""

SUFFIXES = {
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".xlsx": "excel",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".md": "text",
    ".markdown": "text",
    ".rst": "text",
}
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


class Unreadable(ValueError):
    """A whole file that cannot be read as rows; says why."""


@dataclass(frozen=True)
class Reading:
    """How a file is to be read: the kind of its rows (empty: whichever they are), and our names for
    its columns."""

    kind: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def format_of(path: Path) -> str:
    """What the file is: by its first bytes where they tell, else by its name; empty where neither
    does. Raises Unreadable for what can hold no rows, such as a PDF or a Git LFS pointer."""
    with opened(path) as file:
        first = file.read(FIRST_BYTES)
    # A workbook is told by what its archive lists, not by what comes first in it.
    found = kind_of_file(path) if first.startswith(b"PK") else kind_of(first)
    told = {"Parquet": "parquet", "an Arrow file": "arrow", "an Excel workbook": "excel"}
    if found in told:
        return told[found]
    if found == "a JSON array":
        return "json"
    if found:
        raise Unreadable(f"is {found}")
    return SUFFIXES.get(suffix_of(path.name), "")


def remedy_for(path: Path) -> str:
    """What to type about a file, or one below a folder, that can hold no rows; empty where nothing
    is known."""
    with contextlib.suppress(OSError):
        if found := first_refusal(path, "*", readable=READABLE):
            return found.remedy
    return ""


def suffix_of(name: str) -> str:
    """The ending that says what a file holds, that of a packing left out."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in _PACKED_SUFFIXES else path.suffix


def rows_of(path: Path, name: str, reading: Reading) -> Iterator[Result]:
    """The rows of a file, which is called `name` wherever one of them is told. Raises Unreadable,
    OSError."""
    found = format_of(path)
    if found == "text":
        yield _text(path, name)
        return
    yield from _as_rows(_objects(found, path, name), reading)


def objects_in(path: Path, name: str) -> "Iterator[Object | Reject]":
    """The objects of a file of any format but text, as they stand. Raises Unreadable, OSError."""
    return _objects(format_of(path), path, name)


def _objects(found: str, path: Path, name: str) -> "Iterator[Object | Reject]":
    read = _READERS.get(found or "json lines")
    if read is None:
        raise Unreadable(f"no reader for {found}")
    return read(path, name)


def _as_rows(objects: "Iterator[Object | Reject]", reading: Reading) -> Iterator[Result]:
    """Objects as rows of the one kind that most of the first ones are."""
    first = list(itertools.islice(objects, _FIRST))
    named = [
        {
            **each.value,
            **{ours: 0 for ours, theirs in reading.columns.items() if theirs in each.value},
        }
        for each in first
        if isinstance(each, Object)
    ]
    kind = reading.kind or row_kinds.likely_kind(named)
    for each in itertools.chain(first, objects):
        if isinstance(each, Reject):
            yield each
            continue
        try:
            row = row_kinds.row_of(each.value, kind, reading.columns)
        except NotARow as error:
            yield rejected(str(error), each.origin, json.dumps(each.value, default=str))
        else:
            yield Given(row, each.origin)


@dataclass(frozen=True)
class Object:
    """A JSON object, or a line of a table, with where it was read."""

    value: dict[str, Any]
    origin: Origin


def rejected(reason: str, origin: Origin, sample: str | bytes = "") -> Reject:
    """A Reject of a reader."""
    text = sample.decode("utf-8", "replace") if isinstance(sample, bytes) else sample
    return Reject(reason, origin, "read", text[:SAMPLE_CHARACTERS])


def _json_lines(path: Path, name: str) -> "Iterator[Object | Reject]":
    with opened(path) as file:
        yield from objects_of(file, name)


def objects_of(file: IO[bytes], name: str) -> "Iterator[Object | Reject]":
    """The objects of JSON Lines."""
    for number, offset, line in lines(file):
        origin = Origin(name, number, offset)
        if len(line) > LINE_BYTES:
            yield rejected(f"too long: more than {LINE_BYTES:,} bytes", origin, line)
            continue
        try:
            yield Object(row_kinds.parse_object(line), origin)
        except NotARow as error:
            yield rejected(str(error), origin, line)


def _json(path: Path, name: str) -> "Iterator[Object | Reject]":
    """A JSON array of objects, one object, or after all JSON Lines."""
    with opened(path) as file:
        content = file.read(_ARRAY_BYTES + 1)
    if len(content) > _ARRAY_BYTES:
        raise Unreadable(f"a JSON document of more than {_ARRAY_BYTES >> 20} MB: make lines of it")
    try:
        told = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if content.lstrip()[:1] == b"{":
            yield from objects_of(io.BytesIO(content), name)
            return
        raise Unreadable(f"not JSON: {error}") from None
    for number, value in enumerate(told if isinstance(told, list) else [told], 1):
        origin = Origin(f"{name}[{number - 1}]")
        try:
            yield Object(row_kinds.parse_object(json.dumps(value)), origin)
        except NotARow as error:
            yield rejected(str(error), origin, json.dumps(value))


def _csv(path: Path, name: str) -> "Iterator[Object | Reject]":
    csv.field_size_limit(_CSV_FIELD)
    with opened(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
        head = file.read(1 << 16)
        if "\0" in head:
            raise Unreadable("holds NUL: it is no CSV")
        try:
            dialect: Any = csv.Sniffer().sniff(head.partition("\n")[0], ",;\t|")
        except csv.Error:
            dialect = csv.excel
        table = csv.reader(itertools.chain(_rest_of_line(head, file)), dialect)
        names = next(table, [])
        if len(set(names)) < len(names):
            raise Unreadable(f"names a column twice: {', '.join(names)}")
        try:
            for fields in table:
                origin = Origin(name, table.line_num)
                if not any(fields):
                    continue
                if len(fields) != len(names):
                    yield rejected(
                        f"{len(fields)} fields, and {len(names)} columns: a quote or a delimiter is"
                        " wrong",
                        origin,
                        ",".join(fields),
                    )
                    continue
                yield Object(dict(zip(names, fields, strict=True)), origin)
        except csv.Error as error:
            yield rejected(f"not CSV: {error}", Origin(name, table.line_num))


def _rest_of_line(head: str, file: IO[str]) -> Iterator[str]:
    """The lines of a text of which `head` was read already."""
    pending = head
    while True:
        *whole, pending = pending.splitlines(keepends=True) or [""]
        yield from whole
        more = file.read(1 << 16)
        if not more:
            if pending:
                yield pending
            return
        pending += more


def _excel(path: Path, name: str) -> "Iterator[Object | Reject]":
    import openpyxl

    with opened(path) as file:
        book = openpyxl.load_workbook(io.BytesIO(file.read()), read_only=True, data_only=True)
    for sheet in book.worksheets:
        table = sheet.iter_rows(values_only=True)
        names = [str(cell) if cell is not None else "" for cell in next(table, ())]
        for number, cells in enumerate(table, 2):
            told = {
                column: value if isinstance(value, str) else str(value)
                for column, value in zip(names, cells, strict=False)
                if column and value is not None
            }
            if told:
                yield Object(told, Origin(f"{name}#{sheet.title}", number))


def _parquet(path: Path, name: str) -> "Iterator[Object | Reject]":
    from pyarrow import parquet

    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield Object(_without_none(value), Origin(name, number))


def _arrow(path: Path, name: str) -> "Iterator[Object | Reject]":
    from pyarrow import ArrowInvalid, ipc

    number = 0
    with path.open("rb") as file:
        try:
            reader: Any = ipc.open_file(file)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        except ArrowInvalid:
            file.seek(0)
            batches = iter(ipc.open_stream(file))
        for batch in batches:
            for value in batch.to_pylist():
                number += 1
                yield Object(_without_none(value), Origin(name, number))


def _without_none(value: Mapping[str, Any]) -> dict[str, Any]:
    """A column that a row does not have is null in these formats."""
    return {name: each for name, each in value.items() if each is not None}


def _text(path: Path, name: str) -> Result:
    """A text file is one document."""
    with opened(path) as file:
        content = file.read(LINE_BYTES + 1)
    origin = Origin(name)
    if len(content) > LINE_BYTES:
        return rejected(f"too long: more than {LINE_BYTES:,} bytes", origin)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return rejected(f"invalid UTF-8 at byte {error.start}", origin, content)
    if "\0" in text:
        return rejected("holds NUL: it is no text", origin, text)
    if not text.strip():
        return rejected("is empty", origin)
    return Given(Row(text=text, source=name, group=name), origin)


_READERS: dict[str, Callable[[Path, str], "Iterator[Object | Reject]"]] = {
    "json lines": _json_lines,
    "json": _json,
    "csv": _csv,
    "excel": _excel,
    "parquet": _parquet,
    "arrow": _arrow,
}
