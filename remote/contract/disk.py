"""When the system says that a disk has no more room."""

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room: no space left, the quota used up, or a limit to what files may hold (`ulimit -f`)."""
    return isinstance(error, OSError) and error.errno in _FULL
