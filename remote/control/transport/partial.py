"""An artifact on its way home: the part that is here, which bytes of it, and their digest as they come.

Beside the part lies its journal: a line with the files, then a line `from to` for each write, in bytes over all files in the order of
their names. A process killed at any moment loses nothing that was written; a power cut may, and the digest finds that out.
"""

import contextlib
import hashlib
import json
import os
import shutil
import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from remote.contract import digest, files, untrusted_json
from remote.contract.jobs import Artifact
from remote.control.transport.extents import Extents, Range

_OPEN_FILES = 64
_READ_BYTES = 1 << 20
_SETTLE_BYTES = 32 << 20
_LONGEST_LINE = 100
LONGEST_LIST_BYTES = 16 << 20
"""The list of an artifact's files: of `files.MOST_FILES` with names of some hundred characters."""

File = tuple[str, int]
"""A file's name relative to the artifact, and its size."""


class Partial:
    """The part of `artifact` in `path`, and its journal. `close` it; `remove` ends it for good. Threads may write at once."""

    def __init__(self, path: Path, artifact: Artifact) -> None:
        self.path, self.artifact = path, artifact
        self._journal_path = path.with_suffix(".arrived")
        self._changed = threading.Condition()
        self._closed = False
        self._files: list[File] | None = None
        self._starts: list[int] = []
        self._here = Extents()
        self._open: dict[int, int] = {}
        self._journal = -1
        self._next_front, self._next_size = 0, artifact.size + 1  # nobody is woken for less
        self._digest = ""
        self._problem: OSError | None = None
        self._threads: list[threading.Thread] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._load()
        self.resumed_bytes = self._here.size

    # ---- what is here ------------------------------------------------------------------------------------------------

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
        with self._changed:
            return self._here.missing(self.artifact.size)

    def admit(self, told: Any) -> None:
        """Take the list of the artifact's files, as the box tells it. Raises ValueError when it cannot be this artifact's."""
        found = _checked(told, self.artifact)
        with self._changed:
            if self._files is None:
                self._begin(found)
            elif found != self._files:
                self._journal_path.unlink(missing_ok=True)  # what is here belongs to something else: next time from the start
                raise ValueError("its files changed while it was on its way")

    def write(self, at: int, content: "bytes | memoryview") -> int:
        """Put bytes at their place; returns how many are new. Raises OSError."""
        for index, offset, piece in self._split(at, memoryview(content)):
            self._put(index, offset, piece)
        end = at + len(content)
        os.write(self._journal, b"%d %d\n" % (at, end))
        with self._changed:
            new = self._here.add(at, end)
            if self._here.front >= self._next_front or self._here.size >= self._next_size:
                self._changed.notify_all()
        return new

    # ---- its end -----------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """The SHA-256 of the whole, as `remote.contract.digest` has it, once it is complete and on the disk. Raises OSError."""
        for thread in self._threads:
            thread.join()
        if self._problem is not None:
            raise self._problem
        self._close_files(sync=True)
        return self._digest

    def close(self) -> None:
        """Keep what is here for the next time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._close_files(sync=False)
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def remove(self) -> None:
        """Throw everything away."""
        self.close()
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def settle(self, destination: Path) -> None:
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

    # ---- beginning and going on --------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            known = self._read_journal()
        except (OSError, ValueError):
            known = None
        if known is None or not self._is_plausible(known):
            self._here = Extents()
            self._clear()
            return
        self._start(known)

    def _read_journal(self) -> list[File]:
        """The files, and what is here of them. Raises OSError, and ValueError for what no journal can say."""
        with self._journal_path.open("rb") as journal:
            first = journal.readline(LONGEST_LIST_BYTES + 1)
            known = _checked(untrusted_json.loads(first, max_bytes=LONGEST_LIST_BYTES, lone_surrogates=True), self.artifact)
            while (line := journal.readline(_LONGEST_LINE)).endswith(b"\n"):  # the last one may be torn
                start, end = map(int, line.split())
                if not 0 <= start <= end <= self.artifact.size:
                    raise ValueError("a range outside of the artifact")
                self._here.add(start, end)
        return known

    def _is_plausible(self, known: list[File]) -> bool:
        if self.path.is_dir() != self.artifact.is_folder:
            return False
        return all(self._place(name).is_file() and self._place(name).stat().st_size <= size for name, size in known)

    def _clear(self) -> None:
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def _begin(self, found: list[File]) -> None:
        there: set[int] = set()
        for name, _ in found:
            place = self._place(name)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise _clashes(name) from None
            if (number := place.stat().st_ino) in there:
                raise _clashes(name)
            there.add(number)
        if self.artifact.is_folder:
            self.path.mkdir(exist_ok=True)
        self._journal_path.write_bytes(json.dumps(found).encode() + b"\n")
        self._start(found)

    def _start(self, known: list[File]) -> None:
        self._files, self._starts = known, [0, *accumulate(size for _, size in known)]
        self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND)
        works = [self._digest_what_comes, *([self._settle_what_comes] if self.artifact.size >= 2 * _SETTLE_BYTES else [])]
        self._threads = [threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    # ---- files -------------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> Path:
        return self.path / name if self.artifact.is_folder else self.path

    def _split(self, at: int, content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        assert self._files is not None
        for index in range(max(0, bisect_right(self._starts, at) - 1), len(self._files)):
            start, size = self._starts[index], self._files[index][1]
            if start >= at + len(content):
                return
            first, last = max(at, start), min(at + len(content), start + size)
            if first < last:
                yield index, first - start, content[first - at : last - at]

    def _put(self, index: int, offset: int, piece: memoryview) -> None:
        with self._descriptor(index) as descriptor:
            while piece:
                written = os.pwrite(descriptor, piece, offset)
                piece, offset = piece[written:], offset + written

    @contextlib.contextmanager
    def _descriptor(self, index: int) -> Iterator[int]:
        assert self._files is not None
        path = self._place(self._files[index][0])
        with self._changed:
            if index not in self._open and len(self._open) < _OPEN_FILES:
                self._open[index] = os.open(path, os.O_RDWR)
            kept = self._open.get(index)
        if kept is not None:
            yield kept
            return
        descriptor = os.open(path, os.O_RDWR)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _close_files(self, sync: bool) -> None:
        if sync:
            for index, (_, size) in enumerate(self._files or ()):
                if size:  # of an empty one there is nothing to keep but its name
                    with self._descriptor(index) as descriptor:
                        os.fsync(descriptor)
        with self._changed:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    # ---- beside the transfer -----------------------------------------------------------------------------------------

    def _digest_what_comes(self) -> None:
        """Hash as far as there is no gap: at the end only the end is left to hash."""
        try:
            self._digest = self._combined([self._digest_of(index) for index in range(len(self._files or ()))])
        except OSError as error:
            self._problem = error
        except EOFError:
            return

    def _digest_of(self, index: int) -> str:
        assert self._files is not None
        before, size = self._starts[index], self._files[index][1]
        sha, at = hashlib.sha256(), 0
        while at < size:
            until = min(self._await(before + min(at + _READ_BYTES, size)) - before, size)
            while at < until:
                with self._descriptor(index) as descriptor:
                    piece = os.pread(descriptor, min(_READ_BYTES, until - at), at)
                if not piece:  # made shorter by somebody else: it does not verify
                    return ""
                sha.update(piece)
                at += len(piece)
        return sha.hexdigest()

    def _combined(self, digests: list[str]) -> str:
        if not self.artifact.is_folder:
            return digests[0]
        assert self._files is not None
        return digest.of_lines([f"{sha}  {name}" for (name, _), sha in zip(self._files, digests, strict=True)])

    def _settle_what_comes(self) -> None:
        """Write to the disk what the system would keep in memory to the end: then nobody waits for that."""
        settled = 0
        with contextlib.suppress(EOFError, OSError):  # what cannot be written is told at the end, by the last sync
            while settled + _SETTLE_BYTES < self.artifact.size:
                self._await_done(settled + _SETTLE_BYTES)
                settled = self._here.size
                for index in list(self._open):
                    with self._descriptor(index) as descriptor:
                        os.fsync(descriptor)

    def _await(self, front: int) -> int:
        with self._changed:
            self._next_front = front
            self._changed.wait_for(lambda: self._closed or self._here.front >= front)
            if self._here.front < front:
                raise EOFError
            return self._here.front

    def _await_done(self, size: int) -> None:
        with self._changed:
            self._next_size = size
            self._changed.wait_for(lambda: self._closed or self._here.size >= size)
            self._next_size = self.artifact.size + 1
            if self._here.size < size:
                raise EOFError


def _clashes(name: str) -> ValueError:
    return ValueError(f"{name!r} and another of its files have one name in this laptop's file system")


def _checked(told: Any, artifact: Artifact) -> list[File]:
    """The files that are told. Raises ValueError unless they can be the artifact's: sizes that add up, names in order that stay inside."""
    if not isinstance(told, list) or not all(isinstance(each, list | tuple) and len(each) == 2 for each in told):
        raise ValueError("the box lists its files in no way that is understood")
    found = [(name, files.check_size(size)) for name, size in told]
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
