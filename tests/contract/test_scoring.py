"""SQuAD's rules, and JSON compared as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.artifacts.scoring import exact_match, f1, normalise, percentile


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("The Cat.", "cat", True),
        ("  a  cat ", "the cat!", True),
        ("cats", "cat", False),
        ("", "", True),
        ("", "the", True),
        ("another", "other", False),
        ('{"score": 0.8}', '{"score":08}', False),
        ('{"score": 0.8}', '"score": 0.8', False),
        ('{"score": 0.8, "handle": "a"}', '{"handle":"a","score":0.8}', True),
        ('{"score": 8}', '{"score": 0.8}', False),
        ('{"score": 1}', '{"score": 1.0}', True),
        ('{"score": true}', '{"score": 1}', False),
        ('{"reason": "The Fit"}', '{"reason": "fit"}', False),
        ("[1, 2]", "1 2", True),
        ('{"a": ' * 100_000, "b", False),
    ],
)
def test_exact_match(answer: str, expected: str, same: bool) -> None:
    assert exact_match(answer, expected) is same
    assert exact_match(expected, answer) is same


@pytest.mark.parametrize(
    ("answer", "expected", "value"),
    [
        ("", "", 1.0),
        ("x", "", 0.0),
        ("", "x", 0.0),
        ("the cat sat", "cat sat down", 0.8),
        ("cat cat", "cat", 2 / 3),
        ("dog", "cat", 0.0),
        ("An", "the", 1.0),
    ],
)
def test_f1(answer: str, expected: str, value: float) -> None:
    assert f1(answer, expected) == pytest.approx(value)


@given(st.text(), st.text())
def test_f1_is_a_symmetric_share_and_one_where_the_text_is_the_same(
    answer: str, expected: str
) -> None:
    assert 0.0 <= f1(answer, expected) <= 1.0
    assert f1(answer, expected) == f1(expected, answer)
    if normalise(answer) == normalise(expected):
        assert f1(answer, expected) == 1.0


def test_order_of_the_rules() -> None:
    assert normalise("A.n apple, the\tpie") == "apple pie"  # punctuation goes before the articles


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, 0.0),
        ([3.0], 0.95, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        (list(range(1, 101)), 0.95, 95),
    ],
)
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected
