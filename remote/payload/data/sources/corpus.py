"""A file, or the files below a folder, in any format that `readers` knows.

Entry: `path`; `kind` of its rows and `columns` where they are not to be guessed. A path such as
`s3://bucket/prefix/` is read by `remote.payload.data.files.s3_corpus`, which has further ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.data.engine import Context
from remote.payload.data.files import object_store, s3_corpus
from remote.payload.data.files.readers import SUFFIXES, Reading, rows_of, suffix_of
from remote.payload.data.units import Result, Source, Unit
from remote.payload.job import StageFailed


@dataclass(frozen=True)
class Corpus:
    """Files as units."""

    path: Path
    reading: Reading

    def units(self) -> Iterator[Unit]:
        """A unit a file."""
        for path in files_of(self.path, self.reading.kind):
            name = path.relative_to(self.path).as_posix() if path != self.path else path.name
            yield Unit(name, digest.of_file(path), path.stat().st_size, {"path": str(path)})

    def read(self, unit: Unit) -> Iterator[Result]:
        """The rows of a file."""
        return rows_of(Path(unit.what["path"]), unit.id, self.reading)


def open_source(entry: Mapping[str, Any], context: Context) -> Source:
    """The corpus of an entry."""
    if object_store.is_address(entry["path"]):
        return s3_corpus.open_corpus(entry, context)
    reading = Reading(entry.get("kind") or "", entry.get("columns") or {})
    return Corpus(context.root / Path(entry["path"]).expanduser(), reading)


def files_of(path: Path, kind: str = "") -> list[Path]:
    """The file itself, or the files of a folder that may hold rows, in a stable order; texts only
    where nothing else is there, or `kind` asks for them. Raises StageFailed where there are
    none."""
    if not path.is_dir():
        return [path]
    files = sorted(each for each in path.rglob("*") if each.is_file() and _format(each))
    tables = [each for each in files if _format(each) != "text"]
    if not files:
        raise StageFailed(
            Cause.DATA,
            f"no file with rows in {path}",
            f"endings that are read: {', '.join(SUFFIXES)}, also packed",
            "name a file, or a folder that holds some, as `dataset`",
        )
    return files if kind == "text" or not tables else tables


def _format(path: Path) -> str:
    return "" if path.name.startswith(".") else SUFFIXES.get(suffix_of(path.name), "")
