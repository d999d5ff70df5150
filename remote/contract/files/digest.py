"""SHA-256 of files, folders and plain values. A digest is 64 lower-case hexadecimal digits."""

import hashlib
import json
from pathlib import Path
from typing import Any

from remote.contract.files import regular_files


def of_file(path: Path) -> str:
    """SHA-256 of a regular file's bytes, read in pieces. Raises OSError, also for what never ends,
    such as a named pipe or a device."""
    with regular_files.opened(path) as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _of_stream(file)
        )


def of_folder(folder: Path) -> str:
    """SHA-256 over the sorted `digest  relative/path` lines of the files in `folder`: independent
    of times and owners."""
    lines = [f"{of_file(path)}  {path.relative_to(folder).as_posix()}" for path in files_in(folder)]
    return of_lines(lines)


def of_lines(lines: list[str]) -> str:
    """SHA-256 over `digest  relative/path` lines. Names need not be UTF-8."""
    return of_bytes("\n".join(lines).encode(errors="surrogateescape"))


def of_path(path: Path) -> str:
    """Digest of a file or a folder."""
    return of_folder(path) if path.is_dir() else of_file(path)


def of_value(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no spaces."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def of_bytes(content: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def files_in(folder: Path) -> list[Path]:
    """The regular files under `folder`, in a stable order."""
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix()
    )


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files of a folder."""
    return (
        sum(file.stat().st_size for file in files_in(path))
        if path.is_dir()
        else path.stat().st_size
    )


def _of_stream(file: Any) -> str:
    # Python 3.10, which Ubuntu 22.04 boxes still run, has no hashlib.file_digest.
    sha = hashlib.sha256()
    while chunk := file.read(1 << 20):
        sha.update(chunk)
    return sha.hexdigest()
