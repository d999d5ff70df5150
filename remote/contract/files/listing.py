"""Files as another machine lists them: so many at most, each below one folder, none twice, none a
file and a folder at once."""

import os
import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

MOST_FILES = 100_000
"""Files of one artifact, job or folder. Each becomes a file here, however empty it is."""

LARGEST_BYTES = 4 << 40
"""No file, and no list of files, is larger."""

_LONGEST_NAME, _LONGEST_PART = 4096, 255
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_name(name: Any) -> str:
    """A name below a folder: relative, with `/` between its parts. Raises ValueError for what is
    none, or leads out."""
    if not isinstance(name, str) or not 0 < len(encoded := os.fsencode(name)) <= _LONGEST_NAME:
        raise ValueError(f"a name of no possible length: {str(name)[:80]!r}")
    parts = encoded.split(b"/")
    if b"\0" in encoded or any(
        part in (b"", b".", b"..") or len(part) > _LONGEST_PART for part in parts
    ):
        raise ValueError(f"a name that leads elsewhere, or that no file can have: {name[:200]!r}")
    return name


def check_names(names: Collection[Any]) -> None:
    """Raise ValueError where these cannot all be files below one folder."""
    if len(names) > MOST_FILES:
        raise ValueError(f"{len(names):,} files; at most {MOST_FILES:,} are taken")
    files = {check_name(name) for name in names}
    if len(files) < len(names):
        raise ValueError("a name that stands there twice")
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
    if both := sorted(files & folders):
        raise ValueError(f"a name that is a file and a folder at once: {both[0][:200]!r}")


def check_size(size: Any) -> int:
    """A number of bytes. Raises ValueError for what is none."""
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST_BYTES:
        raise ValueError(f"a size of {str(size)[:80]} bytes")
    return size


def check_sha256(sha256: Any) -> str:
    """A SHA-256: 64 lower-case hexadecimal digits. Raises ValueError for what is none."""
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"a SHA-256 that is none: {str(sha256)[:80]!r}")
    return sha256
