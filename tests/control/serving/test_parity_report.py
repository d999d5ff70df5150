"""parity.json and report.json come from a box: read in full when they are right, one clear error
when they are not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.control.errors import ArtifactCorrupt
from remote.control.serving.install import prompts_of
from remote.control.serving.validate import _bases

PROMPT = {
    "messages": [{"role": "user", "content": "x"}],
    "rendered": "<s>[INST] x[/INST]",
    "base_answer": "y",
    "token_ids": [1, 3, 4],
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "parity.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_prompts_are_read_with_and_without_what_is_optional(tmp_path: Path) -> None:
    prompts = [
        PROMPT,
        {**PROMPT, "tuned_answer": "z", "tuned_ended": False},
        {key: PROMPT[key] for key in list(PROMPT)[:3]},
    ]
    assert prompts_of(write(tmp_path, {"prompts": prompts, "checks": []})) == prompts


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[", "Expecting value"),
        ([], "not an object"),
        ({}, "no prompts"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": {"a": 1}}, "no prompts"),
        ({"prompts": [7]}, "prompt 1 is no object"),
        ({"prompts": [PROMPT, {**PROMPT, "messages": []}]}, "`messages` of prompt 2"),
        ({"prompts": [{**PROMPT, "messages": "x"}]}, "`messages`"),
        ({"prompts": [{**PROMPT, "messages": [{"role": "user"}]}]}, "`messages`"),
        ({"prompts": [{**PROMPT, "messages": [{"role": "user", "content": 7}]}]}, "`messages`"),
        ({"prompts": [{**PROMPT, "rendered": None}]}, "`rendered`"),
        ({"prompts": [{**PROMPT, "base_answer": ["y"]}]}, "`base_answer`"),
        ({"prompts": [{**PROMPT, "tuned_answer": 7}]}, "`tuned_answer`"),
        ({"prompts": [{**PROMPT, "tuned_ended": "yes"}]}, "`tuned_ended`"),
        ({"prompts": [{**PROMPT, "token_ids": 3}]}, "`token_ids`"),
        ({"prompts": [{**PROMPT, "token_ids": ["1"]}]}, "`token_ids`"),
        ("[" * 50_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_parity_file_is_said(tmp_path: Path, value: Any, says: str) -> None:
    with pytest.raises(ArtifactCorrupt) as caught:
        prompts_of(write(tmp_path, value))
    assert says in caught.value.why and "./inv export" in caught.value.remedy


KEYS = st.sampled_from(
    [
        "prompts",
        "messages",
        "role",
        "content",
        "rendered",
        "base_answer",
        "token_ids",
        "tuned_ended",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None
)
@given(value=VALUES | st.fixed_dictionaries({"prompts": st.lists(VALUES, min_size=1, max_size=2)}))
def test_any_json_is_prompts_or_the_one_error(tmp_path: Path, value: Any) -> None:
    try:
        assert prompts_of(write(tmp_path, value))
    except ArtifactCorrupt as error:
        assert error.why


CHAT = [{"role": "user", "content": "a"}]
ANSWER = {"prompt": CHAT, "base": "b", "tuned": "c"}


@pytest.mark.parametrize(
    "report",
    [
        [],
        {"answers": 7},
        {"answers": [7]},
        {"answers": [{"prompt": CHAT}]},
        {"answers": [{**ANSWER, "prompt": "a"}]},
        {"base": []},
        {"base": {"f1": "high"}},
    ],
)
def test_a_report_of_the_wrong_shape_is_one_error(tmp_path: Path, report: Any) -> None:
    with pytest.raises(ArtifactCorrupt, match="report of `evaluate`"):
        _bases(write(tmp_path, report))


def test_a_report_gives_the_bases_answer_to_each_row(tmp_path: Path) -> None:
    assert _bases(
        write(tmp_path, {"answers": [ANSWER], "base": {"f1": 0.5, "exact_match": 0}})
    ) == {json.dumps(CHAT, sort_keys=True): "b"}
