"""What the exported model is asked."""

import json

import pytest

from remote.contract.job.jobs import Cause
from remote.payload.gguf.proof.prompts import conversations, questions
from remote.payload.gguf.proof.reference import choose_precision
from remote.payload.job import StageFailed


def rows(path, count):
    lines = [json.dumps({"instruction": f"ask {number}", "output": "x"}) for number in range(count)]
    path.write_text("\n".join([*lines, "not json", lines[0]]) + "\n")
    return path


def test_questions_are_spread_over_the_rows_and_never_repeat(tmp_path):
    assert questions(rows(tmp_path / "v.jsonl", 20), 5) == [
        "ask 0",
        "ask 4",
        "ask 8",
        "ask 12",
        "ask 16",
    ]
    assert questions(rows(tmp_path / "v.jsonl", 2), 5) == ["ask 0", "ask 1"]


def test_built_in_questions_without_rows(tmp_path):
    empty = tmp_path / "v.jsonl"
    empty.write_text("")
    assert len(questions(None, 3)) == 3
    assert questions(empty, 3) == questions(None, 3)


def test_at_least_fifty_chats_of_one_and_more_turns(tmp_path):
    chats = conversations(None)
    assert len(chats) >= 50
    assert {len(chat) for chat in chats} == {1, 3}
    assert len({json.dumps(chat) for chat in chats}) == len(chats)
    assert len(conversations(rows(tmp_path / "v.jsonl", 200))) == len(chats) + 64


@pytest.mark.parametrize(
    ("gpu", "host", "chosen"),
    [
        (80e9, 10e9, ("float32", "cuda")),
        (24e9, 64e9, ("float32", "cpu")),
        (24e9, 30e9, ("float16", "cuda")),
        (0, 20e9, ("bfloat16", "cpu")),
    ],
)
def test_the_reference_is_as_precise_as_memory_allows(gpu, host, chosen):
    precision = choose_precision(7_250_000_000, gpu, host)
    assert (precision.dtype, precision.device) == chosen


def test_without_memory_there_is_no_proof():
    with pytest.raises(StageFailed) as failure:
        choose_precision(7_250_000_000, 0, 8e9)
    assert failure.value.cause is Cause.OUT_OF_MEMORY
    assert "17.4 GB" in failure.value.why
