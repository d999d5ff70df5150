"""Moments in words, for people and for scripts: always UTC, as boxes, what their jobs log, and the
cloud tell theirs.

A moment is in seconds since the epoch; 0 stands for none. Boxes tell moments: every number has
words here, senseless ones too.
"""

import math
from datetime import UTC, datetime

UNKNOWN = "--:--:--"


def clock(at: float) -> str:
    """`14:03:07`."""
    then = _then(at)
    return f"{then:%H:%M:%S}" if then else UNKNOWN


def day(at: float) -> str:
    """`2026-11-21 14:03:07`."""
    then = _then(at)
    return f"{then:%Y-%m-%d %H:%M:%S}" if then else UNKNOWN


def minute(at: float) -> str:
    """`2026-11-21 14:03`, and nothing where there is no such moment."""
    then = _then(at)
    return f"{then:%Y-%m-%d %H:%M}" if then else ""


def soon(at: float) -> str:
    """`14:03:07`, and `11-22 14:03` of another day than today."""
    then = _then(at)
    return (
        UNKNOWN
        if then is None
        else (
            f"{then:%H:%M:%S}" if then.date() == datetime.now(UTC).date() else f"{then:%m-%d %H:%M}"
        )
    )


def iso(at: float | None) -> str | None:
    """`2026-11-21T13:03:07.250+00:00`; None where there is none."""
    then = _then(at or 0.0)
    return then.isoformat(timespec="milliseconds") if then else None


def length(seconds: float) -> str:
    """`45s`, `12m`, `2h05`, `3d04h`."""
    whole = int(seconds) if math.isfinite(seconds) else 0
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    return (
        f"{whole // 3600}h{whole % 3600 // 60:02}"
        if whole < 172800
        else f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    )


def _then(at: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(at, UTC) if at else None
    except (OverflowError, ValueError, OSError):
        return None
