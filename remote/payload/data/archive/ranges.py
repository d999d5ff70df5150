"""An archive's items in ranges, each of which is worked as one."""

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LEAST = 64
"""So many items are a range, or more."""
_SHARES, _STREAM_SHARES = 200, 8
"""No archive has more ranges than this: each reads its table of contents anew, and of a stream all
that comes before it."""


@dataclass(frozen=True)
class Range:
    """The items numbered from `first` to below `last`. To come to them begin with the member of
    this `index` and `offset`, `before` which there are so many items."""

    index: int
    offset: int
    before: int
    first: int
    last: int


def ranges(tops: Sequence[Sequence[int]], is_stream: bool, is_fine: bool) -> Iterator[Range]:
    """The ranges of an archive whose members have these `(index, offset, items)`. `is_fine` is for
    items that each take long: no range is then longer than LEAST."""
    starts, count = [], 0
    for _, _, items in tops:
        starts.append(count)
        count += items
    first = 0
    for last in _cuts(tops, starts, count, is_stream, is_fine):
        at = bisect.bisect_right(starts, first) - 1
        yield Range(tops[at][0], tops[at][1], starts[at], first, last)
        first = last


def _cuts(
    tops: Sequence[Sequence[int]], starts: list[int], count: int, is_stream: bool, is_fine: bool
) -> Iterator[int]:
    """The ends of the ranges. A stream is cut evenly; another archive between its members, but for
    one that is itself a large archive, which is again a stream."""
    if is_stream:
        step = _step(count, _STREAM_SHARES, is_fine)
        yield from (min(at + step, count) for at in range(0, count, step))
        return
    first, step = 0, _step(count, _SHARES, is_fine)
    for start, (_, _, items) in zip(starts, tops, strict=True):
        if items > step:
            if start > first:
                yield start
            within = _step(items, _STREAM_SHARES, is_fine)
            yield from (min(at + within, items) + start for at in range(0, items, within))
            first = start + items
        elif start + items - first >= step:
            first = start + items
            yield first
    if count > first:
        yield count


def _step(count: int, shares: int, is_fine: bool) -> int:
    return LEAST if is_fine else max(LEAST, math.ceil(count / shares))
