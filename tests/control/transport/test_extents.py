"""A set of ranges against a set of numbers."""

import itertools

from hypothesis import given
from hypothesis import strategies as some

from remote.control.transport.pull.extents import Extents

TOTAL = 40
RANGES = some.lists(
    some.tuples(some.integers(0, TOTAL), some.integers(0, TOTAL)).map(sorted).map(tuple),
    max_size=12,
)


@given(RANGES)
def test_whatever_comes_in_whatever_order(ranges):
    extents, numbers = Extents(), set()
    for start, end in ranges:
        extents.add(start, end)
        numbers |= set(range(start, end))
        assert extents.size == len(numbers)
    missing = extents.missing(TOTAL)
    assert {number for start, end in missing for number in range(start, end)} == set(
        range(TOTAL)
    ) - numbers
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(missing)), (
        "gaps never touch"
    )
    assert extents.front == next(number for number in range(TOTAL + 1) if number not in numbers)
