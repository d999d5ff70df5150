"""An artifact on its way here: the bytes that have arrived, the journal of which, and their digest.

Beside the partial file or folder lies its journal: a line with the artifact's files, then a line
`start end` for each write, in bytes over all files in the order of their names. A process killed at
any moment loses nothing that was written; a power cut may, and the digest finds that out.
"""

import hashlib
import json
import os
import shutil
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator
from itertools import accumulate
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, digest, listing, untrusted_json
from remote.contract.job.jobs import Artifact
from remote.control.transport.pull.extents import Extents, Range

_HASH_BYTES = 4 << 20
_LONGEST_LINE = 100
LONGEST_LIST_BYTES = 16 << 20
"""The list of an artifact's files: of `files.MOST_FILES` with names of some hundred characters."""

File = tuple[str, int]
"""A file's name relative to the artifact ("" for an artifact that is one file), and its size."""


class Partial:
    """What has arrived of `artifact`, at `path`. Threads may write at once. `close` it.

    `on_bytes` is told how many bytes are here: of an earlier time, then after each write.
    """

    def __init__(
        self, path: Path, artifact: Artifact, on_bytes: Callable[[int], None] = lambda done: None
    ) -> None:
        self.path, self.artifact, self._on_bytes = path, artifact, on_bytes
        self._journal_path, self._journal = path.with_suffix(".arrived"), -1
        self._files: list[File] | None = None
        self._starts: list[int] = []
        self._here, self._lock = Extents(), threading.Lock()
        self._hashing, self._digests = self._hash(), list[str]()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._start(self._read_journal())
        except (OSError, ValueError):
            self._here = Extents()
            self._clear()
        if self.done:
            on_bytes(self.done)

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return self._here.size

    @property
    def is_complete(self) -> bool:
        """Whether every byte is here."""
        return self._files is not None and self._here.size == self.artifact.size

    def missing(self) -> list[Range]:
        """The ranges still to come."""
        with self._lock:
            return self._here.missing(self.artifact.size)

    def set_files(self, listed: Any) -> None:
        """Take the list of the artifact's files. Raises ValueError when it cannot be its list."""
        found = _checked(listed, self.artifact)
        with self._lock:
            if self._files is None:
                self._create(found)
            elif found != self._files:
                self._journal_path.unlink(missing_ok=True)  # the next time starts from nothing
                raise ValueError("its files changed while it was on its way")

    def write(self, at: int, content: "bytes | memoryview") -> None:
        """Put bytes at their place. Raises OSError."""
        assert self._files is not None
        view, start, index = memoryview(content), at, bisect_right(self._starts, at) - 1
        while view:
            name, size = self._files[index]
            offset = start - self._starts[index]
            part = view[: size - offset]
            self._write_file(self._place(name), offset, part)
            view, start, index = view[len(part) :], start + len(part), index + 1
        os.write(self._journal, b"%d %d\n" % (at, start))
        with self._lock:
            self._here.add(at, start)
            next(self._hashing, None)
            self._on_bytes(self._here.size)

    def digest(self) -> str:
        """The SHA-256, as `remote.contract.files.digest` has it, once all is on the disk."""
        for _ in self._hashing:
            pass
        for name, size in self._files or ():
            if size:  # of an empty one there is nothing to keep but its name
                atomic.sync_folder(self._place(name))  # a file is synced the same way
        if self.artifact.is_folder:
            return digest.of_lines(self._digests)
        return self._digests[0].split()[0]

    def close(self) -> None:
        """Keep what is here for the next time."""
        self._hashing.close()
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def remove(self) -> None:
        """Throw everything away."""
        self.close()
        self._clear()

    def rename(self, destination: Path) -> None:
        """Give it its name. The journal goes last: without the part it means nothing."""
        self.close()
        if destination.is_dir():
            aside = destination.with_name(f".{destination.name}.{os.getpid()}.old")
            destination.rename(aside)
            self.path.rename(destination)
            aside.unlink() if aside.is_symlink() else shutil.rmtree(aside)
        else:
            self.path.replace(destination)
        self._journal_path.unlink(missing_ok=True)
        atomic.sync_folder(destination.parent)

    def _read_journal(self) -> list[File]:
        """The files, and what is here of them. Raises OSError or ValueError for no journal."""
        with self._journal_path.open("rb") as journal:
            first = journal.readline(LONGEST_LIST_BYTES + 1)
            listed = untrusted_json.loads(first, max_bytes=LONGEST_LIST_BYTES, lone_surrogates=True)
            known = _checked(listed, self.artifact)
            # The last line may be torn.
            while (line := journal.readline(_LONGEST_LINE)).endswith(b"\n"):
                start, end = map(int, line.split())
                if not 0 <= start <= end <= self.artifact.size:
                    raise ValueError("a range outside of the artifact")
                self._here.add(start, end)
        if self.path.is_dir() != self.artifact.is_folder:
            raise ValueError("a file where a folder should be, or a folder for a file")
        for name, size in known:
            if not self._place(name).is_file() or self._place(name).stat().st_size > size:
                raise ValueError(f"{name} is none of its files")
        return known

    def _create(self, found: list[File]) -> None:
        there: set[int] = set()
        if self.artifact.is_folder:
            self.path.mkdir(exist_ok=True)
        for name, _ in found:
            place = self._place(name)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
                there.add(place.stat().st_ino)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
        if len(there) != len(found):
            raise ValueError("two of its files have one name in this laptop's file system")
        self._journal_path.write_bytes(json.dumps(found).encode() + b"\n")
        self._start(found)

    def _start(self, known: list[File]) -> None:
        self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND)
        self._files, self._starts = known, [0, *accumulate(size for _, size in known)]

    def _clear(self) -> None:
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        return self.path / name if self.artifact.is_folder else self.path

    def _write_file(self, place: Path, offset: int, content: memoryview) -> None:
        descriptor = os.open(place, os.O_WRONLY)
        try:
            while content:
                written = os.pwrite(descriptor, content, offset)
                content, offset = content[written:], offset + written
        finally:
            os.close(descriptor)

    def _hash(self) -> Generator[None]:
        """Hash the files, each step as far as there is no gap: at the end only the end is left."""
        for (name, size), start in zip(self._files or (), self._starts, strict=False):
            sha, at = hashlib.sha256(), 0
            with self._place(name).open("rb", buffering=0) as file:
                while at < size:
                    here = min(self._here.front - start, size) - at
                    piece = file.read(min(here, _HASH_BYTES)) if here > 0 else b""
                    if here > 0 and not piece:
                        break  # made shorter by somebody else: it does not verify
                    sha.update(piece)
                    at += len(piece)
                    yield
            self._digests.append(f"{sha.hexdigest()}  {name}")


def _checked(listed: Any, artifact: Artifact) -> list[File]:
    """The list of files. Raises ValueError unless its sizes add up and its names stay inside."""
    is_list = isinstance(listed, list)
    if not is_list or not all(isinstance(each, list | tuple) and len(each) == 2 for each in listed):
        raise ValueError("the box lists its files in no way that is understood")
    found = [(name, listing.check_size(size)) for name, size in listed]
    names = [name for name, _ in found]
    if not artifact.is_folder and names != [""]:
        raise ValueError("it is a folder on the box, not a file")
    if artifact.is_folder:
        listing.check_names(names)
        if names != sorted(names):
            raise ValueError("the box names its files in another order")
    if (total := sum(size for _, size in found)) != artifact.size:
        raise ValueError(f"the box has {total:,} bytes of it, not {artifact.size:,}")
    return found
