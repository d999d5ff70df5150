"""Reading a file that somebody else may have put there: a regular file, of which no more than a
bound is read.

A named pipe would hold up whoever opens it, a device never ends, and a folder cannot be read: each
is an OSError here, at once.
"""

import errno
import io
import os
import stat
from pathlib import Path


def opened(path: str | os.PathLike[str]) -> io.BufferedReader:
    """The regular file at `path`, open for reading. Raises OSError, also where it is something
    else."""
    # Without O_NONBLOCK a named pipe is waited for until somebody writes to it; a regular file does
    # not know the flag.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return io.BufferedReader(io.FileIO(descriptor))


def content_of(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """All bytes of a regular file. Raises OSError, and ValueError for one that holds more than
    `max_bytes`."""
    with opened(path) as file:
        content = file.read(max_bytes + 1) if os.fstat(file.fileno()).st_size <= max_bytes else b""
        if len(content) > max_bytes or os.fstat(file.fileno()).st_size > max_bytes:
            raise ValueError(
                f"{Path(path).name} holds more than {max_bytes:,} bytes, the most that is read"
                " of it"
            )
    return content


def end_of(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The last bytes of a regular file, at most so many. Raises OSError."""
    with opened(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
        return file.read(max_bytes)
