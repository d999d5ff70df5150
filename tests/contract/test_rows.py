import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import MAX_CHARACTERS, BadRow, Row, Turn

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


def reason_of(line):
    with pytest.raises(BadRow) as caught:
        parse_row(line, "rows.jsonl", 7)
    assert caught.value.where == "rows.jsonl:7"
    assert str(caught.value) == f"rows.jsonl:7: {caught.value.reason}"
    return caught.value.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes"),
        ("instruction,output", "not JSON: Expecting value"),
        ("[" * 100_000, "not JSON: JSON that is nested too deeply"),
        ("[1]", "not an object but a list"),
        ('"text"', "not an object but text"),
        ('{"text": "a", "text": "b"}', "not JSON: JSON in which an object names something twice"),
        ('{"instruction": "a"}', "lacks the field `output`"),
        ('{"instruction": " \\n", "output": "b"}', "`instruction` is empty"),
        ('{"instruction": "a", "output": ""}', "`output` is empty"),
        ('{"instruction": "a", "output": null}', "`output` is null, not text"),
        ('{"instruction": "a", "output": 3}', "`output` is a number, not text"),
        ('{"instruction": "a", "output": {"x": 1}}', "`output` is an object, not text"),
        ('{"instruction": "a", "input": [], "output": "b"}', "`input` is a list, not text"),
        ('{"text": "a", "group": true}', "`group` is true or false, not text"),
        ('{"text": "a", "weight": NaN}', "`weight` is no number from 0 up"),
        ('{"text": "a", "weight": "1"}', "`weight` is text, not a number"),
        ('{"text": " "}', "`text` is empty"),
        ('{"text": "\\ud83d"}', "`text` holds half a character (a lone surrogate)"),
        (b'{"text": "\xff"}', "invalid UTF-8 at byte 10"),
        (
            json.dumps({"instruction": "a", "output": "b" * MAX_CHARACTERS}),
            "too long: 200,003 characters, at most 200,000",
        ),
    ],
)
def test_says_why_a_line_is_no_row(line, reason):
    assert reason_of(line) == reason


@given(TEXT, TEXT, st.text(st.characters(exclude_categories=("Cs",))), st.floats(0, 9))
def test_a_row_survives_its_own_line(asked, answer, group, weight):
    for row in (Row.of(asked, answer, group, weight=weight), Row(text=asked, group=group)):
        line = row.to_line()
        assert len(line.splitlines()) == 1
        assert parse_row(line.encode(), "f", 1) == row


@given(st.one_of(st.text(), st.binary()))
def test_any_line_is_a_row_or_a_bad_row(line):
    with contextlib.suppress(BadRow):
        assert isinstance(parse_row(line, "f", 1), Row)


def test_what_is_asked_ends_before_the_last_answer_to_learn():
    turns = (
        Turn("system", "Be brief."),
        Turn("user", "a"),
        Turn("assistant", "b"),
        Turn("user", "c"),
        Turn("assistant", "d", is_learnt=True),
    )
    row = Row(turns)
    assert [turn.content for turn in row.prompt] == ["Be brief.", "a", "b", "c"]
    assert (row.asked, row.answer) == ("c", "d")
    assert row.to_json()["messages"][2] == {"role": "assistant", "content": "b", "weight": 0}
    assert parse_row(row.to_line(), "f", 1) == row
    assert Row(text="x").is_document and Row(text="x").asked == ""
