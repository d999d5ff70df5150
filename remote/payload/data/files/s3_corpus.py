"""A corpus below `s3://bucket/prefix/`, with a copy of it here, whole or in part.

Entry, beside what `sources.corpus` has: `local`, the folder here (relative to Windlass's on the
box); `prefer`, which of the two is read: `both` (a file here where there is one, else its object),
`local` or `s3` alone; `region` and `endpoint` of the store. Objects are fetched one at a time and
kept no longer than they are read.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.data.engine import Context
from remote.payload.data.files import object_store, readers
from remote.payload.data.files.object_store import Access, StoredObject
from remote.payload.data.units import Result, Unit
from remote.payload.job import StageFailed

CHOICES = ("both", "local", "s3")


@dataclass(frozen=True)
class S3Corpus:
    """Files here, and objects, as units. A unit's name is the file's below the folder, which is the
    object's below the prefix."""

    address: str
    local: Path | None
    prefer: str
    reading: readers.Reading
    access: Access = field(default_factory=Access)
    scratch: Path = Path()

    def units(self) -> Iterator[Unit]:
        """A unit a file. Raises StageFailed where there is none, or the bucket cannot be
        listed."""
        here = self._here() if self.prefer != "s3" else {}
        there = self._there() if self.prefer != "local" else {}
        missing = {name: stored for name, stored in there.items() if name not in here}
        print(f"{self.address}: {len(here)} files from {self.local or 'no folder here'},"
              f" {len(missing)} from the bucket", flush=True)  # fmt: skip
        if not here and not missing:
            raise StageFailed(
                Cause.DATA,
                f"no file with rows in {self._asked()}",
                f"endings that are read: {', '.join(readers.SUFFIXES)}, also packed",
                "correct `path`, `local` or `prefer` of the source",
            )
        for name, path in here.items():
            yield Unit(name, digest.of_file(path), path.stat().st_size, {"path": str(path)})
        for name, stored in missing.items():
            mark = f"{stored.size}-{stored.etag}"
            yield Unit(name, mark, stored.size, {"stored": stored.plain()})

    def read(self, unit: Unit) -> Iterator[Result]:
        """The rows of a file. Raises ObjectLost for an object that changed, or vanished."""
        if "path" in unit.what:
            yield from readers.rows_of(Path(unit.what["path"]), unit.id, self.reading)
            return
        with self._fetched(StoredObject(**unit.what["stored"])) as path:
            yield from readers.rows_of(path, unit.id, self.reading)

    @contextlib.contextmanager
    def _fetched(self, stored: StoredObject) -> Iterator[Path]:
        """An object as a file, whose ending is the object's and which has no other name: nothing of
        it is left, whatever ends this process."""
        with (
            tempfile.TemporaryFile(dir=self.scratch) as file,
            tempfile.TemporaryDirectory() as folder,
            object_store.opened(stored, self.access) as content,
        ):
            while piece := content.read(1 << 22):
                file.write(piece)
            file.flush()
            path = Path(folder) / f"object{''.join(Path(stored.key).suffixes[-2:])}"
            path.symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
            yield path

    def _here(self) -> dict[str, Path]:
        if self.local is None or not self.local.is_dir():
            return {}
        return {
            path.relative_to(self.local).as_posix(): path
            for path in sorted(self.local.rglob("*"))
            if path.is_file() and self._is_wanted(path.name)
        }

    def _there(self) -> dict[str, StoredObject]:
        return {
            name: stored
            for name, stored in object_store.listed(self.address, self.access)
            if self._is_wanted(name.rpartition("/")[2])
        }

    def _is_wanted(self, name: str) -> bool:
        return not name.startswith(".") and readers.suffix_of(name) in readers.SUFFIXES

    def _asked(self) -> str:
        places = {"local": [str(self.local)], "s3": [self.address]}
        return " or ".join(places.get(self.prefer) or [str(self.local), self.address])


def open_corpus(entry: Mapping[str, Any], context: Context) -> S3Corpus:
    """The corpus of an entry whose `path` is an address. Raises StageFailed for a `prefer` that is
    none."""
    prefer = entry.get("prefer") or "both"
    if prefer not in CHOICES:
        raise StageFailed(
            Cause.CONFIG, f"prefer: {prefer}", remedy=f"write one of {', '.join(CHOICES)}"
        )
    local = entry.get("local")
    return S3Corpus(
        str(entry["path"]),
        context.root / Path(local).expanduser() if local else None,
        prefer,
        readers.Reading(entry.get("kind") or "", entry.get("columns") or {}),
        Access.of(entry),
        context.folder,
    )
