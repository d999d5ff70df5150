"""An artifact on its way here: the bytes that have arrived, the journal of which they are, and their digest.

Beside the partial file or folder lies its journal: a line with the artifact's files, then a line `start end` for each write, in
bytes over all files in the order of their names. A process killed at any moment loses nothing that was written; a power cut may,
and the digest finds that out.
"""

import hashlib
import json
import os
import shutil
import threading
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from remote.contract import atomic, digest, files, untrusted_json
from remote.contract.jobs import Artifact
from remote.control.transport.extents import Extents, Range

_READ_BYTES = 1 << 20
_POLL_SECONDS = 0.01
_LONGEST_LINE = 100
LONGEST_LIST_BYTES = 16 << 20
"""The list of an artifact's files: of `files.MOST_FILES` with names of some hundred characters."""

File = tuple[str, int]
"""A file's name relative to the artifact ("" for the artifact that is a file), and its size."""


class Partial:
    """What has arrived of `artifact`, at `path`. Threads may write at once. `close` it.

    `on_bytes` is told after each write how many bytes are here.
    """

    def __init__(
        self, path: Path, artifact: Artifact, on_bytes: Callable[[int], None] = lambda done: None
    ) -> None:  # fmt: skip
        self.path, self.artifact, self._on_bytes = path, artifact, on_bytes
        self._journal_path = path.with_suffix(".arrived")
        self._journal = -1
        self._files: list[File] | None = None
        self._starts: list[int] = []
        self._here, self._lock = Extents(), threading.Lock()
        self._hashing = threading.Thread(target=self._hash, name="hash", daemon=True)
        self._digest: str | Exception = ""
        self._closed = threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._start(self._read_journal())
        except (OSError, ValueError):
            self._here = Extents()
            self._clear()

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

    def has(self, start: int, end: int) -> bool:
        """Whether a range is here."""
        with self._lock:
            return self._here.has(start, end)

    def set_files(self, listed: Any) -> None:
        """Take the list of the artifact's files. Raises ValueError when it cannot be this artifact's."""
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
        view, end = memoryview(content), at + len(content)
        start, index = at, bisect_right(self._starts, at) - 1
        while view:
            name, size = self._files[index]
            offset = start - self._starts[index]
            part = view[: size - offset]
            self._write_file(self._place(name), offset, part)
            view, start, index = view[len(part) :], start + len(part), index + 1
        os.write(self._journal, b"%d %d\n" % (at, end))
        with self._lock:
            self._here.add(at, end)
            self._on_bytes(self._here.size)

    def writer(self, start: int) -> Callable[[int, bytes], None]:
        """`write`, with offsets that count from `start`."""
        return lambda at, content: self.write(start + at, content)

    def digest(self) -> str:
        """The SHA-256, as `remote.contract.digest` has it, of what is complete, once it is on the disk. Raises OSError."""
        self._hashing.join()
        if isinstance(self._digest, Exception):
            raise self._digest
        for name, _ in self._files or ():
            atomic.sync_folder(self._place(name))  # a file is synced the same way
        return self._digest

    def close(self) -> None:
        """Keep what is here for the next time."""
        self._closed.set()
        if self._journal >= 0:
            self._hashing.join()
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
        """The files, and what is here of them. Raises OSError, and ValueError for what cannot be gone on with."""
        with self._journal_path.open("rb") as journal:
            first = journal.readline(LONGEST_LIST_BYTES + 1)
            known = _checked(untrusted_json.loads(first, max_bytes=LONGEST_LIST_BYTES, lone_surrogates=True), self.artifact)
            while (line := journal.readline(_LONGEST_LINE)).endswith(b"\n"):  # the last one may be torn
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
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise _clash(name) from None
            if (number := place.stat().st_ino) in there:
                raise _clash(name)
            there.add(number)
        self._journal_path.write_bytes(json.dumps(found).encode() + b"\n")
        self._start(found)

    def _start(self, known: list[File]) -> None:
        self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND)
        self._files, self._starts = known, [0, *accumulate(size for _, size in known)]
        self._hashing.start()

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

    def _hash(self) -> None:
        """Hash what is here without a gap while the rest arrives: at the end only the end is left to hash."""
        assert self._files is not None
        try:
            found = [(self._hash_file(name, start, size), name) for (name, size), start in zip(self._files, self._starts, strict=False)]
        except (OSError, EOFError) as error:
            self._digest = error
            return
        self._digest = digest.of_lines([f"{sha}  {name}" for sha, name in found]) if self.artifact.is_folder else found[0][0]

    def _hash_file(self, name: str, start: int, size: int) -> str:
        sha, at = hashlib.sha256(), 0
        with self._place(name).open("rb", buffering=0) as file:
            while at < size:
                until = min(self._front_after(start + at) - start, size)
                piece = file.read(min(until - at, _READ_BYTES))
                if not piece:  # made shorter by somebody else: it does not verify
                    return ""
                sha.update(piece)
                at += len(piece)
        return sha.hexdigest()

    def _front_after(self, at: int) -> int:
        """How far there is no gap, once that is beyond `at`. Raises EOFError when it is closed before."""
        while True:
            with self._lock:
                if (front := self._here.front) > at:
                    return front
            if self._closed.wait(_POLL_SECONDS):
                raise EOFError


def _clash(name: str) -> ValueError:
    return ValueError(f"{name!r} and another of its files have one name in this laptop's file system")


def _checked(listed: Any, artifact: Artifact) -> list[File]:
    """The list of files. Raises ValueError unless it can be the artifact's: sizes that add up, names in order that stay inside."""
    if not isinstance(listed, list) or not all(isinstance(each, list | tuple) and len(each) == 2 for each in listed):
        raise ValueError("the box lists its files in no way that is understood")
    found = [(name, files.check_size(size)) for name, size in listed]
    names = [name for name, _ in found]
    if not artifact.is_folder and names != [""]:
        raise ValueError("it is a folder on the box, not a file")
    if artifact.is_folder:
        files.check_names(names)
        if names != sorted(names):
            raise ValueError("the box names its files in another order")
    if (total := sum(size for _, size in found)) != artifact.size:
        raise ValueError(f"the box has {total:,} bytes of it, not {artifact.size:,}")
    return found
