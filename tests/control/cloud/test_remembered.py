"""One question for many who ask the same."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remote.control.cloud.account.coalesce import for_seconds


def test_many_at_once_ask_once():
    asked, everyone = [], threading.Barrier(8)

    @for_seconds(60)
    def ask(what):
        asked.append(what)
        return object()

    def one(_):
        everyone.wait()
        return ask("quota")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(8)))) == 1
    ask("another")
    assert asked == ["quota", "another"]


def test_an_answer_grows_old():
    asked = []
    ask = for_seconds(-1)(asked.append)
    ask(1)
    ask(1)
    assert asked == [1, 1]


def test_an_error_is_not_kept():
    answers = iter([ValueError("no"), "yes"])

    @for_seconds(60)
    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ValueError, match="no"):
        ask()
    assert ask() == "yes"
