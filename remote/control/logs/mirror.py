"""A job's files on this laptop, byte for byte at the same place as on the box.

The size of such a copy is the offset to go on from. What the box has dropped before it could be
fetched is a hole: no bytes on the disk, and a line `START END` in a file beside it, `NAME.holes`.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from remote.contract.files import disk
from remote.contract.job.jobs import Cause, JobState
from remote.contract.logs.frames import MARK_BYTES, mark
from remote.contract.logs.lines import line_start
from remote.contract.logs.query import JobFacts
from remote.control.errors import JobFailed
from remote.control.logs.record import LogRecord, LogSink

_LARGEST_BYTES = 1 << 42
"""No log is longer; what a box says beyond that is not believed."""

_READ_BYTES = 1024 * 1024


class Mirror:
    """A local file that is a byte-exact beginning of one on the box, holes apart.

    Bytes are written at their own offset, so two commands that follow one job into one file write
    the same thing twice. `offset` is where to go on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.offset = os.fstat(self._file).st_size

    def take(self, offset: int, content: bytes) -> None:
        """Take a piece of the box's file. Raises ValueError where it leaves bytes out, OSError."""
        if not 0 <= offset <= self.offset:
            raise ValueError(f"{self.path.name}: byte {offset} came, byte {self.offset} is next")
        if offset + len(content) > _LARGEST_BYTES:
            raise ValueError(
                f"{self.path.name}: byte {offset + len(content):,} is more than any log has"
            )
        fresh = memoryview(content)[self.offset - offset :]
        while fresh:
            written = os.pwrite(self._file, fresh, self.offset)
            self.offset += written
            fresh = fresh[written:]

    def skip(self, offset: int, until: int) -> None:
        """Leave out what the box has dropped. Raises ValueError where that is more."""
        if until > _LARGEST_BYTES:
            raise ValueError(
                f"{self.path.name}: a hole up to byte {until:,} is more than any log has"
            )
        if offset > self.offset:
            raise ValueError(
                f"{self.path.name}: byte {offset} was dropped, byte {self.offset} is next"
            )
        size = os.fstat(
            self._file
        ).st_size  # another command may have been faster, and have these bytes
        if until > size:
            with _holes_file(self.path).open("a") as file:
                file.write(f"{max(size, self.offset)} {until}\n")
            os.ftruncate(self._file, until)
        self.offset = max(until, self.offset)

    def restart(self) -> Path:
        """The box's file is another one now: begin anew; returns where the old copy is kept."""
        aside = _free_name(self.path)
        self._copy_to(aside)
        if _holes_file(self.path).exists():
            _holes_file(self.path).replace(_holes_file(aside))
        os.ftruncate(self._file, 0)
        self.offset = 0
        return aside

    def position(self) -> tuple[int, str]:
        """Where to go on, and the mark of what is here before that."""
        solid_from = max((end for _, end in holes(self.path) if end <= self.offset), default=0)
        start = max(solid_from, self.offset - MARK_BYTES)
        return self.offset, mark(self.offset, os.pread(self._file, self.offset - start, start))

    def close(self) -> None:
        """Close the local file."""
        os.close(self._file)

    def unfinished_line(self) -> bytes:
        """What is here of a line that has no end yet."""
        start = line_start(FileLog(self.path), self.offset)
        return os.pread(self._file, self.offset - start, start)

    def _copy_to(self, aside: Path) -> None:
        """Copy what is here, and leave holes holes. Not a rename: other commands follow into this
        very file."""
        with aside.open("wb") as copy:
            for start, content in _stretches(self._file, holes(self.path)):
                copy.seek(start)
                copy.write(content)
            copy.truncate(os.fstat(self._file).st_size)


class FileLog:
    """A copy, holes and all, as a `remote.contract.logs.lines.Log`: when which line was written is
    not known."""

    def __init__(self, path: Path) -> None:
        self._path, self._holes = path, holes(path)

    def bounds(self) -> tuple[int, int]:
        """The offsets of the first byte that is there, and behind the last."""
        return 0, self._path.stat().st_size

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """At most `size` bytes from `offset` on, and the offset that they begin at."""
        offset = next((end for start, end in self._holes if start <= offset < end), offset)
        size = min([size, *(start - offset for start, _ in self._holes if start > offset)])
        with self._path.open("rb") as file:
            return offset, os.pread(file.fileno(), size, offset)

    def times(self) -> Iterable[tuple[int, float]]:
        """Not known."""
        return ()


class CopySink(LogSink):
    """Copies the files of one job, by their names, and hands every record on, in whole lines: what
    an earlier command has copied of a line that had no end goes before the rest of it."""

    def __init__(self, files: dict[str, Path], inner: LogSink) -> None:
        self._inner = inner
        self._mirrors = {name: Mirror(path) for name, path in files.items()}
        self._unfinished = {
            name: line
            for name, mirror in self._mirrors.items()
            if (line := mirror.unfinished_line())
        }

    def positions(self) -> dict[str, tuple[int, str]]:
        """How far each file is here."""
        return {name: mirror.position() for name, mirror in self._mirrors.items()}

    def introduce(self, job: JobFacts) -> None:
        """Hand it on."""
        self._inner.introduce(job)

    def take(self, record: LogRecord) -> None:
        """Copy it, and hand it on. Raises ValueError where it leaves bytes out, JobFailed where the
        disk is full."""
        mirror = self._mirrors.get(record.source)
        if mirror and not record.is_partial:
            with _room_at(mirror.path):
                if record.dropped:
                    mirror.skip(record.next - record.dropped, record.next)
                else:
                    mirror.take(record.next - len(record.content), record.content)
            if unfinished := self._unfinished.pop(record.source, b""):
                if record.dropped:
                    self._inner.take(replace(record, content=unfinished, dropped=0))
                else:
                    record = replace(record, content=unfinished + record.content)
        self._inner.take(record)

    def restart(self, job_id: str, name: str) -> None:
        """Set the copy aside."""
        if mirror := self._mirrors.get(name):
            with _room_at(mirror.path):
                aside = mirror.restart()
            self._unfinished.pop(name, None)
            self.notice(
                f"the box's {name} is another file now: beginning anew, the old one is kept as"
                f" {aside.name}"
            )
        self._inner.restart(job_id, name)

    def live(self) -> None:
        """Hand it on."""
        self._inner.live()

    def ended(self, job: JobFacts, state: JobState) -> None:
        """Hand it on, behind a last line that never got an end."""
        for name, content in self._unfinished.items():
            self._inner.take(LogRecord(0.0, "", job.run, job.job, job.stage, name, content=content))
        self._unfinished = {}
        self._inner.ended(job, state)

    def notice(self, text: str) -> None:
        """Hand it on."""
        self._inner.notice(text)

    def close(self) -> None:
        """Close the files."""
        for mirror in self._mirrors.values():
            mirror.close()


@contextmanager
def _room_at(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not disk.is_full(error):
            raise
        again = f"`./inv logs {path.parents[1].name} -f`"  # RUN/logs/STAGE.log
        raise JobFailed(
            "this laptop's disk is full",
            cause=Cause.DISK_FULL,
            where=str(path.parent),
            remedy=f"free space, then {again}",
            kept="the job goes on on the box; what has arrived is in the local log",
        ) from None


def holes(path: Path) -> list[tuple[int, int]]:
    """The holes of a copy: from the first byte that is missing to the first that is there again."""
    try:
        return sorted(
            (int(start), int(end))
            for start, end in map(str.split, _holes_file(path).read_text().splitlines())
        )
    except (OSError, ValueError):  # a damaged record of them is none
        return []


def _holes_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holes")


def _stretches(file: int, left: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """What is there between the holes, piece by piece with its offset."""
    offset = 0
    for start, end in [*left, (_LARGEST_BYTES, _LARGEST_BYTES)]:
        while offset < start and (
            content := os.pread(file, min(_READ_BYTES, start - offset), offset)
        ):
            yield offset, content
            offset += len(content)
        offset = max(offset, end)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return aside
