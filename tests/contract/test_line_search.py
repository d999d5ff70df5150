"""A typed expression, on lines of any kind: found as `re` finds it, or given up in time."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.logs import search as line_search
from remote.contract.logs.lines import Filter
from remote.contract.logs.search import LineSearch, TooSlow

SLOW = [r"(a+)+$", r"(a|a)*$", r"(?:a?){40}a{40}$", r"(.*a){20}$", r"^(([a-z])+.)+[A-Z]([a-z])+$"]


@pytest.mark.parametrize("expression", SLOW)
def test_one_that_would_take_years(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_search, "SECONDS", 0.5)
    search, began = LineSearch(expression), time.monotonic()
    with pytest.raises(TooSlow, match="takes more than"):
        search.finds(["ok", "a" * 39 + "!" if "40" not in expression else "a" * 39 + "b"])
    assert time.monotonic() - began < 30
    assert search.finds([]) == [] and search.finds(["A"]) == [
        re.search(expression, "A") is not None
    ]  # goes on with a new one


def test_a_job_that_is_made_to_hang_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_search, "SECONDS", 0.5)
    wanted = Filter(r"(\w+\s?)+$")
    with pytest.raises(TooSlow):
        wanted.of(b"fine\n" + b"a" * 60 + b"!\n")
    with pytest.raises(TooSlow):
        wanted.takes_event("info", "first\n" + "a" * 60 + "!")


LINES = st.lists(st.text(st.characters(exclude_characters="\n"), max_size=20), max_size=20)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_found_as_re_finds_it(lines: list[str]) -> None:
    for expression in ("a", "a+|^b", r"\d{2}", "", "^$", "é?x"):
        pattern = re.compile(expression)
        assert LineSearch(expression).finds(lines) == [
            pattern.search(line) is not None for line in lines
        ]


def test_the_lines_that_weigh_enough() -> None:
    content = b"ERROR one\ninfo one\nERROR two\n\xff one|\n"
    assert Filter("one|x", "error").of(content) == b"ERROR one\n"
    assert Filter("one|x").of(content) == b"ERROR one\ninfo one\n\xff one|\n"


def test_no_expression() -> None:
    with pytest.raises(re.error):
        LineSearch("(")


def test_many_lines_at_once() -> None:
    assert sum(LineSearch("x+").finds(["x", ""] * 300_000)) == 300_000
