import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.artifacts.rows import MAX_CHARACTERS, BadRow, Row, parse_row, user_message

GOOD = {"instruction": "Add.", "input": "1 2", "output": "3", "group": "g", "source": {"page": 4}}


def reason_of(line):
    with pytest.raises(BadRow) as caught:
        parse_row(line, "rows.jsonl", 7)
    assert caught.value.where == "rows.jsonl:7"
    assert str(caught.value) == f"rows.jsonl:7: {caught.value.reason}"
    return caught.value.reason


def test_reads_the_known_fields_and_drops_the_others():
    assert parse_row(json.dumps(GOOD), "f", 1) == Row("Add.", "3", "1 2", "g")


def test_optional_fields_may_be_absent_or_null():
    assert parse_row('{"instruction": "a", "output": "b"}', "f", 1) == Row("a", "b")
    assert parse_row(
        '{"instruction": "a", "output": "b", "input": null, "group": null}', "f", 1
    ) == Row("a", "b")


def test_a_number_may_name_a_group():
    assert parse_row(json.dumps({**GOOD, "group": 12}), "f", 1).group == "12"


def test_takes_bytes_with_a_byte_order_mark():
    assert parse_row(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "f", 1).output == "3"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes"),
        ("instruction,output", "not JSON: Expecting value"),
        ("[" * 100_000, "not JSON: JSON that is nested too deeply"),
        ("[1]", "not an object but a list"),
        ('"text"', "not an object but text"),
        ('{"output": "b"}', "lacks the field `instruction`"),
        ('{"instruction": "a"}', "lacks the field `output`"),
        ('{"instruction": " \\n", "output": "b"}', "`instruction` is empty"),
        ('{"instruction": "a", "output": ""}', "`output` is empty"),
        ('{"instruction": "a", "output": null}', "`output` is null, not text"),
        ('{"instruction": "a", "output": 3}', "`output` is a number, not text"),
        ('{"instruction": "a", "output": {"x": 1}}', "`output` is an object, not text"),
        ('{"instruction": "a", "input": [], "output": "b"}', "`input` is a list, not text"),
        (
            '{"instruction": "a", "output": "b", "group": true}',
            "`group` is true or false, not text",
        ),
        (
            '{"instruction": "a", "output": "\\ud83d"}',
            "`output` holds half a character (a lone surrogate)",
        ),
        (b'{"instruction": "\xff", "output": "b"}', "invalid UTF-8 at byte 17"),
        (
            json.dumps({"instruction": "a", "output": "b" * MAX_CHARACTERS}),
            "too long: 200,001 characters, at most 200,000",
        ),
    ],
)
def test_says_why_a_line_is_no_row(line, reason):
    assert reason_of(line) == reason


def test_the_user_message_holds_the_input_below_the_instruction():
    assert user_message(Row("Add.", "3", "1 2")) == "Add.\n\n1 2"
    assert user_message(Row("Say hello.", "hello")) == "Say hello."


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@given(TEXT, TEXT, st.text(st.characters(exclude_categories=("Cs",))))
def test_a_row_survives_its_own_line(instruction, output, extra):
    row = Row(instruction, output, extra, extra)
    line = row.to_line()
    assert len(line.splitlines()) == 1
    assert parse_row(line.encode(), "f", 1) == row


@given(st.one_of(st.text(), st.binary()))
def test_any_line_is_a_row_or_a_bad_row(line):
    with contextlib.suppress(BadRow):
        assert isinstance(parse_row(line, "f", 1), Row)


@pytest.mark.parametrize(
    "field", ["system", "history", "messages", "conversations", "tools", "images"]
)
def test_a_field_that_belongs_to_the_question_is_refused_by_name(field):
    row = {"instruction": "a", "output": "b"}
    with pytest.raises(
        BadRow,
        match=f"has the field `{field}`, which is not read: put what it says into `instruction`",
    ):
        parse_row(json.dumps({**row, field: [["earlier", "said"]]}), "rows.jsonl", 1)
    for nothing in ("", [], None, {}):
        assert parse_row(json.dumps({**row, field: nothing}), "rows.jsonl", 1).instruction == "a"
    assert (
        parse_row(json.dumps({**row, "id": 7, "source": "x", "text": "y"}), "rows.jsonl", 1).output
        == "b"
    )
