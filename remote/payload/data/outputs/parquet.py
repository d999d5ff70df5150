"""Rows as Parquet files with the features that `datasets` reads, a folder of them a dataset."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from remote.contract.files import atomic

FILE_BYTES = 256 << 20
"""A file of Parquet holds about so many bytes of JSON Lines."""
_BATCH = 1000


@dataclass
class Split:
    """What was written of one file of rows."""

    name: str
    rows: int = 0
    bytes: int = 0
    files: list[str] = field(default_factory=list)


def features_of(rows: Mapping[str, Path]) -> Any:
    """The columns that any row has, as `datasets.Features`: those that rows of the kind do not have
    are left out."""
    from datasets import Features, List, Value

    found, is_weighted = set[str](), False
    for path in rows.values():
        for row in _objects(path):
            found |= row.keys()
            is_weighted |= any("weight" in turn for turn in row.get("messages") or ())
    message = {"role": Value("string"), "content": Value("string")}
    if is_weighted:  # 0 where an assistant's words are not learnt
        message["weight"] = Value("int8")
    columns = {
        "messages": List(message),
        "text": Value("string"),
        "group": Value("string"),
        "source": Value("string"),
        "weight": Value("float64"),
    }
    return Features({name: kind for name, kind in columns.items() if name in found})


def write(folder: Path, rows: Mapping[str, Path], features: Any) -> list[Split]:
    """Write each file of rows as `data/SPLIT-00000-of-0000N.parquet`; an empty one is left out. The
    same rows give the same bytes."""
    return [
        _split(folder, name, path, features) for name, path in rows.items() if path.stat().st_size
    ]


def _split(folder: Path, name: str, path: Path, features: Any) -> Split:
    count = max(1, math.ceil(path.stat().st_size / FILE_BYTES))
    split, objects = Split(name), _objects(path)
    total = sum(1 for _ in _objects(path))
    for number in range(count):
        wanted = total * (number + 1) // count - total * number // count
        file = f"data/{name}-{number:05d}-of-{count:05d}.parquet"
        _write(folder / file, islice(objects, wanted), features)
        split.files.append(file)
        split.bytes += (folder / file).stat().st_size
    split.rows = total
    return split


def _write(path: Path, objects: Iterator[dict[str, Any]], features: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = features.arrow_schema
    with (
        atomic.writing(path) as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        while batch := list(islice(objects, _BATCH)):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)  # written by `prepare`
