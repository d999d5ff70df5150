"""When the system says that a disk has no more room, and how amounts of bytes are set against each
other."""

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room: no space left, the quota used up, or a limit to what
    files may hold (`ulimit -f`)."""
    return isinstance(error, OSError) and error.errno in _FULL


def apart(*amounts: float) -> list[str]:
    """Amounts of bytes in GB, with so many decimals that no two different ones look alike:
    `0.104 GB`, `0.098 GB`."""
    for decimals in range(1, 10):
        shown = [f"{amount / 1e9:.{decimals}f} GB" for amount in amounts]
        if len(set(shown)) == len(set(amounts)):
            break
    return shown
