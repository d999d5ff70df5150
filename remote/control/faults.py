"""Exceptions that nobody foresaw, as errors for people: what the laptop's system refused, and
faults of Windlass itself."""

import contextlib
import errno
import sys
import time
import traceback

from remote.contract.files import disk
from remote.control import project
from remote.control.errors import Fault, LaptopError, WindlassError
from remote.control.output.console import complain
from remote.control.secrets import masked

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def as_error(error: BaseException) -> WindlassError:
    """`error` itself where it is one for people; else what the system refused, or a Fault with its
    report in a file."""
    if isinstance(error, WindlassError):
        return error
    if isinstance(error, OSError) and (error.filename is not None or disk.is_full(error)):
        return _refused(error)
    return _fault(error)


def _refused(error: OSError) -> LaptopError:
    where, why = str(error.filename or project.root()), error.strerror or str(error)
    if disk.is_full(error):
        return LaptopError(
            "this laptop's disk is full",
            where=where,
            why=why,
            kept="all that was written before",
            remedy=f"free space (`df -h {project.root()}`), then run the same command again",
            disk_full=True,
        )
    if error.errno in _FORBIDDEN:
        remedy = f"give yourself the right (`ls -ld {where}`), then run the same command again"
        return LaptopError(
            "this laptop does not let Windlass read or write a file",
            where=where,
            why=why,
            remedy=remedy,
        )
    remedy = f"look at it with `ls -ld {where}`, then run the same command again"
    return LaptopError(
        "a file of this laptop is not what it should be", where=where, why=why, remedy=remedy
    )


def _fault(error: BaseException) -> Fault:
    return Fault(
        "a fault of Windlass itself, not of yours",
        why=f"{type(error).__name__}: {error}".strip()[:500],
        remedy=(
            "run the same command again; if it stays, report it with"
            f" {_report(error) or 'the lines above'}"
        ),
        kept="what is on the box and in runs/; `./inv status` shows it",
    )


def _report(error: BaseException) -> str:
    """The file that holds the traceback; without one it goes to standard error."""
    text = masked(f"$ inv {' '.join(sys.argv[1:])}\n{''.join(traceback.format_exception(error))}")
    with contextlib.suppress(OSError):
        path = project.state_folder() / "faults" / f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)
    complain(text)
    return ""
