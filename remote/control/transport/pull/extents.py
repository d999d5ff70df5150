"""Which bytes of something are here: ranges, each from its first byte to before its end."""

from bisect import bisect_left, bisect_right

Range = tuple[int, int]


class Extents:
    """Ranges that never touch one another, in order; `size` is their sum in bytes."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.size = 0

    def add(self, start: int, end: int) -> None:
        """Add a range; what of it is here already counts once."""
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:  # it joins these
            self.size -= sum(self._ends[first:last]) - sum(self._starts[first:last])
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]
        self.size += end - start

    @property
    def front(self) -> int:
        """How many bytes are here from the very first on without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    def missing(self, total: int) -> list[Range]:
        """The gaps in the first `total` bytes."""
        starts, ends = [*self._starts, total], [0, *self._ends]
        return [(gap, until) for gap, until in zip(ends, starts, strict=True) if gap < until]
