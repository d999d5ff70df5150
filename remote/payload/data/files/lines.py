"""Lines of files, packed or not, with their numbers and byte offsets; of an endless one no more
than a limit is ever held."""

import bz2
import contextlib
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from remote.contract.artifacts.rows import MAX_DOCUMENT_CHARACTERS

LINE_BYTES = 2 * MAX_DOCUMENT_CHARACTERS
_CHUNK = 1 << 16

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, unpacked as its first bytes say, whatever its name. Raises OSError."""
    with path.open("rb") as file:
        first = file.read(6)
        file.seek(0)
        packing = next((name for mark, name in PACKED.items() if first.startswith(mark)), "")
        with unpacked(file, packing) as content:
            yield content


def unpacked(file: IO[bytes], packing: str) -> IO[bytes]:
    """The content of an open file that is packed so; empty for one that is not."""
    if packing == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if packing == "bzip2":
        return bz2.BZ2File(file)
    if packing == "xz":
        return lzma.LZMAFile(file)
    if packing == "zstd":
        import zstandard

        reader: Any = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return cast(IO[bytes], reader.stream_reader(file, read_across_frames=True))
    return file


def lines(file: IO[bytes], limit: int = LINE_BYTES) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), byte offset and content of each line that is not blank. One longer than
    `limit` is given with `limit` + 1 bytes. A carriage return at its end is part of the ending."""
    number = offset = 0
    pending = b""
    is_overlong = False
    while chunk := file.read(_CHUNK):
        pending += chunk
        *whole, pending = pending.split(b"\n")
        for line in whole:
            number += 1
            if not is_overlong and line.strip():
                yield number, offset, line.removesuffix(b"\r")[: limit + 1]
            offset += len(line) + 1
            is_overlong = False
        if len(pending) > limit and not is_overlong:
            yield number + 1, offset, pending[: limit + 1]
            is_overlong = True
        if is_overlong:
            offset += len(pending)
            pending = b""
    if pending.strip() and not is_overlong:
        yield number + 1, offset, pending.removesuffix(b"\r")[: limit + 1]
