"""Which bytes of something are here: a set of ranges, each from its first byte up to, not including, its end."""

from bisect import bisect_left, bisect_right

Range = tuple[int, int]


class Extents:
    """Ranges that never touch one another, in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.size = 0

    def add(self, start: int, end: int) -> int:
        """Add a range; returns how many bytes of it are new."""
        if start >= end:
            return 0
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        touched = list(zip(self._starts[first:last], self._ends[first:last], strict=True))
        before = sum(ends - starts for starts, ends in touched)
        merged = min([start, *(each for each, _ in touched)]), max([end, *(each for _, each in touched)])
        self._starts[first:last], self._ends[first:last] = [merged[0]], [merged[1]]
        new = merged[1] - merged[0] - before
        self.size += new
        return new

    @property
    def front(self) -> int:
        """How many bytes are here from the very first on without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """Where the last range ends."""
        return self._ends[-1] if self._ends else 0

    def missing(self, total: int) -> list[Range]:
        """The gaps in the first `total` bytes."""
        starts, ends = [*self._starts, total], [0, *self._ends]
        return [(gap, until) for gap, until in zip(ends, starts, strict=True) if gap < until]
