"""Files of one record a line that several processes write and nobody tends: bounded in size, and a
full disk costs the record alone."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from remote.contract.files import regular_files


def append(path: Path, line: str, kept_bytes: int) -> None:
    """Add a line, newline included, after what a full disk may have cut; when the file is larger
    than `kept_bytes` it becomes `PATH.1`.

    Never raises OSError: what happens must not fail for want of its record.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            os.write(
                descriptor,
                (b"\n" if _is_cut(descriptor, size) else b"") + line.encode(errors="replace"),
            )
            if size > kept_bytes:
                _turn(path, descriptor)
        finally:
            os.close(descriptor)


def lines(path: Path) -> Iterator[str]:
    """All that is kept, oldest first."""
    with contextlib.ExitStack() as files:
        # The newer first: a turn between the two shows one file twice, which can be seen; the other
        # way round it would be missed.
        newer, older = (_opened(each, files) for each in (path, _older(path)))
        if newer is not None and older is not None and os.path.sameopenfile(newer, older):
            older = None
        for descriptor in (older, newer):
            if descriptor is not None:
                with open(descriptor, errors="replace", closefd=False) as file:
                    # An empty line: a writer saw the beginning of another's, took it for one that
                    # was cut, and ended it.
                    yield from (line for line in file if line != "\n")


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _opened(path: Path, files: contextlib.ExitStack) -> int | None:
    try:
        return files.enter_context(regular_files.opened(path)).fileno()
    except OSError:
        return None


def _is_cut(descriptor: int, size: int) -> bool:
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _turn(path: Path, descriptor: int) -> None:
    # Of several writers one turns the file, once: a second turn would put the few lines since then
    # in place of all the older ones.
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.path.samestat(path.stat(), os.fstat(descriptor)):
        path.replace(_older(path))
