"""A job's log on the box: one run of bytes, in files of a bounded size.

```
log             the newest part
log.000000000   older parts, each named by the offset of its first byte in the whole log; the oldest go when there are too many
log.times       `OFFSET TIME`: when the byte at OFFSET was written, in seconds since the epoch, UTC; at most a few lines a second
```
An offset means the same byte for ever, whatever has been rotated or dropped.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PART_BYTES = 64 * 1024 * 1024
KEPT_PARTS = 32
NAME = "log"
TIMES = "log.times"


@dataclass(frozen=True)
class Part:
    """The bytes `start` to `end` of a log, in the file `path`."""

    start: int
    end: int
    path: Path


def part_name(start: int) -> str:
    """The name of an older part."""
    return f"log.{start:015}"


def parts(folder: Path) -> list[Part]:
    """What is kept of the log of the job in `folder`, oldest first; the last is `log` itself, which may not exist yet."""
    older = sorted((int(path.suffix[1:]), path) for path in folder.glob("log.*") if path.suffix[1:].isdigit())
    found = []
    for start, path in older:
        with suppress(FileNotFoundError):  # dropped meanwhile
            found.append(Part(start, start + path.stat().st_size, path))
    start = found[-1].end if found else 0
    newest = folder / "log"
    with suppress(FileNotFoundError):
        return [*found, Part(start, start + newest.stat().st_size, newest)]
    return [*found, Part(start, start, newest)]


def times(folder: Path) -> Iterator[tuple[int, float]]:
    """When which byte was written: (offset, seconds since the epoch), oldest first."""
    with suppress(FileNotFoundError), (folder / TIMES).open() as file:
        for line in file:
            with suppress(ValueError):
                offset, moment = line.split()
                yield int(offset), float(moment)


def read(folder: Path, offset: int, size: int) -> tuple[int, bytes]:
    """At most `size` bytes from `offset` on, and the offset that they begin at: later than asked where older parts were dropped.

    Empty at the end of the log, and where a rotation came between: ask again.
    """
    for part in parts(folder):
        if offset < part.end:
            start = max(offset, part.start)
            return start, _bytes_of(part, start, size)
    return offset, b""


def _bytes_of(part: Part, start: int, size: int) -> bytes:
    try:
        descriptor = os.open(part.path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        if os.fstat(descriptor).st_size < part.end - part.start:
            return b""  # `log` was rotated between the two looks, and is another file now
        return os.pread(descriptor, min(size, part.end - start), start - part.start)
    finally:
        os.close(descriptor)
