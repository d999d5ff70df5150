"""Files that are either whole or absent: write beside, fsync, rename."""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a file that appears under `path` only when the block ends without an error."""
    partial = path.with_name(f".{path.name}.{_own_mark()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `folder`, in place of an older one, only when the
    block ends without an error.

    For one maker at a time: what an earlier, killed one left half-made is thrown away first.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _sync_tree(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _sync_tree(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        sync_folder(path)  # fsync asks a file the same way


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `content`, whole or not at all."""
    with writing(path, mode) as file:
        file.write(content)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by `text` in UTF-8, whole or not at all."""
    write_bytes(path, text.encode(), mode)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def create(path: Path, content: bytes, mode: int = 0o644) -> bool:
    """Give `path` that content unless it exists, whole or not at all; returns whether this call
    did. Two callers get one winner."""
    partial = path.with_name(f".{path.name}.{_own_mark()}.new")
    write_bytes(partial, content, mode)
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    sync_folder(path.parent)
    return True


def remove_abandoned(folder: Path) -> None:
    """Remove what writers of `writing` that were killed have left in a folder; those of living
    processes stay."""
    for path in folder.glob(".*.partial"):
        pid = path.name.split(".")[-3:-2]
        if pid and pid[0].isdigit() and not _is_alive(int(pid[0])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (
        OSError,
        OverflowError,
    ):  # somebody else's, or no number of a process: not ours to judge
        return True
    return True


def _own_mark() -> str:
    """What no other writer has: several threads may write one file at once too."""
    return f"{os.getpid()}.{threading.get_native_id()}"
