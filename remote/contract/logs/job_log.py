"""A job's log on the box: one run of bytes, in files of a bounded size.

```
log             the newest part
log.000000000   older parts, each named by the offset of its first byte in the whole log; the oldest
go when there are too many log.times       `OFFSET TIME`: when the byte at OFFSET was written, in
seconds since the epoch, UTC; at most a few lines a second
```
An offset means the same byte for ever, whatever has been rotated or dropped.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from remote.contract.files import regular_files

PART_BYTES = 64 * 1024 * 1024
KEPT_PARTS = 32
NAME = "log"
TIMES = "log.times"

_TRIES = 100
_TIMES_BYTES = 16 * 1024 * 1024
"""More than the scribe lets it grow to: what is larger was put there by somebody else."""


@dataclass(frozen=True)
class Part:
    """The bytes `start` to `end` of a log, in the file `path` with that inode (0: there is none
    yet)."""

    start: int
    end: int
    path: Path
    inode: int = 0


def part_name(start: int, name: str = NAME) -> str:
    """The name of an older part."""
    return f"{name}.{start:015}"


def parts(folder: Path, name: str = NAME) -> list[Part]:
    """What is kept of the log in `folder`, oldest first; the last is `log` itself, which may not
    exist yet."""
    for _ in range(_TRIES):
        names = _older(folder, name)
        found = [*_stated(folder, names), _newest(folder, name)]
        if _older(folder, name) == names:
            break  # nothing was rotated between the looks
    start = found[-2].end if len(found) > 1 else 0
    return [*found[:-1], Part(start, start + found[-1].end, found[-1].path, found[-1].inode)]


def times(folder: Path) -> Iterator[tuple[int, float]]:
    """When which byte was written: (offset, seconds since the epoch), in the order of the offsets.
    Clocks jump: a time may be an earlier one than that before."""
    content = b""
    with suppress(OSError):
        content = regular_files.end_of(folder / TIMES, _TIMES_BYTES)
    for line in content.splitlines():
        with suppress(ValueError):
            offset, moment = line.split()
            yield int(offset), float(moment)


def note_time(folder: Path, offset: int) -> Path:
    """Note that the byte at `offset`, and what follows it, is written now; returns the file that
    says so. Raises OSError."""
    path = folder / TIMES
    with path.open("ab") as file:
        file.write(f"{offset} {time.time():.3f}\n".encode())
    return path


def read(folder: Path, offset: int, size: int, name: str = NAME) -> tuple[int, bytes]:
    """At most `size` bytes from `offset` on, and the offset that they begin at: later than asked
    where older parts were dropped. Empty at the end of the log."""
    for _ in range(_TRIES):
        part = next((part for part in parts(folder, name) if offset < part.end), None)
        if part is None:
            break
        with suppress(FileNotFoundError), opened(part) as descriptor:
            start = max(offset, part.start)
            return start, os.pread(descriptor, min(size, part.end - start), start - part.start)
    return offset, b""


def between(folder: Path, start: int, end: int, name: str = NAME) -> bytes | None:
    """The bytes from `start` to `end`, all of them; None where some are not there, or not any
    more."""
    found = bytearray()
    while start + len(found) < end:
        at, piece = read(folder, start + len(found), end - start - len(found), name)
        if at != start + len(found) or not piece:
            return None
        found += piece
    return bytes(found)


def tail(folder: Path, size: int, name: str = NAME) -> bytes:
    """The last bytes, at most `size`."""
    kept = parts(folder, name)
    end = kept[-1].end
    return between(folder, max(kept[0].start, end - size), end, name) or b""


@contextmanager
def opened(part: Part) -> Iterator[int]:
    """A file descriptor of the part. Raises FileNotFoundError where it was dropped or rotated since
    it was found: look again."""
    descriptor = os.open(part.path, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_ino != part.inode:
            raise FileNotFoundError(part.path)
        yield descriptor
    finally:
        os.close(descriptor)


def _older(folder: Path, name: str) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(
        each for each in names if each.startswith(f"{name}.") and each[len(name) + 1 :].isdigit()
    )


def _stated(folder: Path, names: list[str]) -> Iterator[Part]:
    for each in names:
        with suppress(OSError):  # dropped meanwhile
            found, start = (folder / each).stat(), int(each.rpartition(".")[2])
            if stat.S_ISREG(found.st_mode):
                yield Part(start, start + found.st_size, folder / each, found.st_ino)


def _newest(folder: Path, name: str) -> Part:
    """`log` as if it began at byte 0."""
    with suppress(OSError):
        found = (folder / name).stat()
        if stat.S_ISREG(found.st_mode):  # a named pipe would hold up whoever opens it
            return Part(0, found.st_size, folder / name, found.st_ino)
    return Part(0, 0, folder / name)
