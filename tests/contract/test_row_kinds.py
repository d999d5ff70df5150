"""What people already have, as rows."""

import json

import pytest

from remote.contract.artifacts.row_kinds import KINDS, kind_of, likely_kind, row_of
from remote.contract.artifacts.rows import NotARow, Row, Turn

ADD = Row.of("Add.\n\n1 2", "3")


@pytest.mark.parametrize(
    ("raw", "kind", "row"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, "instruction", ADD),
        ({"instruction": "Add.\n\n1 2", "output": "3", "input": None}, "instruction", ADD),
        (
            {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]]},
            "instruction",
            Row(
                (
                    Turn("system", "s"),
                    Turn("user", "a"),
                    Turn("assistant", "b"),
                    Turn("user", "c"),
                    Turn("assistant", "d", is_learnt=True),
                )
            ),
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "chat",
            Row.of("a", "b"),
        ),
        (
            {
                "system": "s",
                "conversations": [
                    {"from": "human", "value": "a"},
                    {"from": "gpt", "value": "b"},
                    {"from": "human", "value": "bye"},
                ],
            },
            "chat",
            Row.of("a", "b", system="s"),
        ),
        ({"prompt": "a", "completion": " b"}, "completion", Row.of("a", "b")),
        ({"prompt": "a", "response": "b"}, "completion", Row.of("a", "b")),
        (
            {
                "prompt": [{"role": "user", "content": "a"}],
                "completion": [{"role": "assistant", "content": "b"}],
            },
            "completion",
            Row.of("a", "b"),
        ),
        (
            {"text": "words", "group": 7, "source": "s"},
            "text",
            Row(text="words", group="7", source="s"),
        ),
        (
            {"domain": "d", "category": "c", "source_file": "f.pdf", "content": "words"},
            "corpus",
            Row(text="words", source="f.pdf"),
        ),
    ],
)
def test_each_kind_is_recognised_and_read(raw, kind, row):
    assert kind_of(raw) == kind
    assert row_of(raw) == row
    assert row_of(json.loads(row.to_line())) == row


def test_other_names_are_mapped():
    row = row_of(
        {"question": "a", "answer": "b"}, columns={"instruction": "question", "output": "answer"}
    )
    assert row == Row.of("a", "b")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"question": "a", "answer": "b"}, "`--columns instruction=question,output=answer`"),
        ({"body": "a"}, "`--columns text=body`"),
        ({}, "holds nothing"),
        ({"messages": [{"role": "user", "content": "a"}]}, "nothing to learn"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "a role is system, user or assistant"),
        ({"messages": "a"}, "`messages` is text, not a list"),
        ({"text": "a", "images": ["x"]}, "has the field `images`, which is not read"),
        (
            {"messages": [{"role": "assistant", "content": "a"}]},
            "message 1 is the assistant's, and the user's is due there",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "weight": 0},
                ]
            },
            "no message of the assistant is to be learnt",
        ),
        ({"instruction": "a", "output": "b", "history": ["x"]}, "entry 1 of `history` is no pair"),
    ],
)
def test_what_is_no_row_says_why(raw, said):
    with pytest.raises(NotARow) as caught:
        row_of(raw)
    assert said in str(caught.value)


def test_a_row_of_another_kind_than_the_file_is_named():
    with pytest.raises(NotARow, match="is no `instruction` row; what would fit: `text`"):
        row_of({"text": "a"}, "instruction")
    assert row_of({"text": "a"}, "chat") == Row(text="a")  # as in files of our own


def test_the_kind_is_that_of_most():
    assert likely_kind([{"text": "a"}, {"messages": [1]}, {"text": "b"}]) == "text"
    assert likely_kind([{"x": 1}]) == ""


def test_the_help_of_the_commands_names_the_kinds():
    from remote.control.commands.data import data
    from remote.control.commands.runs import run

    for verb in (data.show, run.train):
        assert f"kind of its rows: {', '.join(KINDS)};" in verb.help["kind"]
