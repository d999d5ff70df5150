"""Options of a request: what llama.cpp gets, and what is refused before."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.embedded.ollama import options
from remote.embedded.ollama.wire import Refusal

NAMES = st.sampled_from(
    [
        "num_predict",
        "num_keep",
        "seed",
        "top_k",
        "repeat_last_n",
        "temperature",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "num_ctx",
        "stop",
        "unheard_of",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def test_names_and_types() -> None:
    given = {
        "num_predict": 5.0,
        "temperature": 0,
        "stop": "x",
        "repeat_last_n": 64,
        "typical_p": 0.5,
        "mirostat": 2,
        "seed": None,
    }
    taken = options.for_llama(options.checked(given))
    assert taken == {
        "n_predict": 5,
        "repeat_last_n": 64,
        "temperature": 0,
        "typical_p": 0.5,
        "stop": ["x"],
    }


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": "warm"},
        {"temperature": True},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 10**400},
        {"num_predict": [1]},
        {"num_predict": 2**40},
        {"num_ctx": "4096"},
        {"num_ctx": -1},
        {"num_ctx": 10**12},
        {"repeat_last_n": 10**9},
        {"stop": 3},
        {"stop": [3]},
        {"stop": ["x"] * 65},
        {"stop": ["x" * 1001]},
        {"seed": "1"},
    ],
)
def test_what_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="option") as caught:
        options.checked(given)
    assert caught.value.status == 400


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_anything_is_taken_or_refused(given: dict[str, Any]) -> None:
    try:
        checked = options.checked(given)
    except Refusal as refusal:
        assert refusal.status == 400
        return
    json.dumps(options.for_llama(checked), allow_nan=False)
    assert 0 <= options.context_of(checked) < 2**31
