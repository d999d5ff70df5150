"""Curves as text."""

from hypothesis import given
from hypothesis import strategies as st

from remote.control.observe.curves import bar, sparkline


def test_it_rises_from_the_lowest_to_the_highest():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, 0.5, 1.0], 3, 0.0, 1.0) == "▁▅█"
    assert (
        sparkline([5, 5, 5], 3) == "▁▁▁" and sparkline([], 5) == "" and sparkline([None], 5) == ""
    )


def test_a_share_shows_its_highest_and_nothing_is_a_gap():
    assert sparkline([0, 7, 0, 0, None, None], 3, 0, 7) == "█▁ "
    assert sparkline([1.0, 2.0, float("nan"), float("inf")], 4) == "▁█ █", (
        "a loss that is no number any more"
    )


@given(st.lists(st.one_of(st.none(), st.floats())), st.integers(1, 50))
def test_it_is_never_wider_than_asked(values, width):
    assert len(sparkline(values, width)) <= width


@given(st.floats(allow_nan=False, width=32), st.integers(1, 20))
def test_a_bar_is_as_wide_as_asked(share, width):
    assert len(bar(share, width)) == width
    assert bar(1.0, width) == "█" * width and bar(0.0, width) == " " * width
