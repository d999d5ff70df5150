"""Which files of rows the standard library reads, and which need a library of the box's Python
environment."""

from collections.abc import Iterator
from pathlib import Path

from remote.contract.files.file_kind import kind_of_file

_KINDS = ("an Excel workbook", "Parquet", "an Arrow file", "zstd")
_NAMES = {
    ".xlsx": "an Excel workbook",
    ".parquet": "Parquet",
    ".arrow": "an Arrow file",
    ".feather": "an Arrow file",
    ".zst": "Zstandard",
}


def name_needs_library(name: str) -> bool:
    """Whether a file of that name does, packed or not."""
    return any(suffix in _NAMES for suffix in Path(name.lower()).suffixes[-2:])


def first_with_library(path: Path) -> Path | None:
    """The file, or the first below a folder, that needs a library. Raises OSError."""
    return next((file for file in _files(path) if _needs_library(file)), None)


def name_of(file: Path) -> str:
    """What such a file is, for people. Raises OSError."""
    if (kind := kind_of_file(file)) in _KINDS:
        return "Zstandard" if kind == "zstd" else str(kind)
    suffixes = Path(file.name.lower()).suffixes[-2:]
    return next((_NAMES[suffix] for suffix in suffixes if suffix in _NAMES), "of another format")


def _needs_library(file: Path) -> bool:
    return name_needs_library(file.name) or kind_of_file(file) in _KINDS


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (each for each in sorted(path.rglob("*")) if each.is_file())
    else:
        yield path
