"""Curves as text: one character a moment."""

import math
from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"
GAP = " "


def sparkline(
    values: Sequence[float | None], width: int, low: float | None = None, high: float | None = None
) -> str:
    """The values in at most `width` characters, each the highest of its share; None, what is no
    number and a share without values are gaps.

    Between `low` and `high` where they are given, else between the lowest and the highest value.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or width < 1:
        return ""
    floor, ceiling = min(known) if low is None else low, max(known) if high is None else high
    shares = [values[start:end] for start, end in _shares(len(values), min(width, len(values)))]
    highest = (
        max((value for value in share if value is not None and not math.isnan(value)), default=None)
        for share in shares
    )
    return "".join(_character(value, floor, ceiling) for value in highest)


def _shares(count: int, parts: int) -> list[tuple[int, int]]:
    return [(count * number // parts, count * (number + 1) // parts) for number in range(parts)]


def _character(value: float | None, floor: float, ceiling: float) -> str:
    if value is None:
        return GAP
    share = (
        (min(max(value, floor), ceiling) - floor) / (ceiling - floor) if ceiling > floor else 0.0
    )
    if not math.isfinite(share):
        return GAP
    return _LEVELS[min(len(_LEVELS) - 1, int(share * len(_LEVELS)))]


def bar(share: float, width: int) -> str:
    """A bar that is full at 1."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]).ljust(width)
