import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.rows import Row
from remote.payload.data.steps import chunk
from remote.payload.job import StageFailed


def pieces(text, limit, overlap=0):
    return list(chunk.Chunk(chunk.by_characters, limit, overlap).pieces(text))


def test_a_piece_ends_with_a_paragraph_else_a_sentence_else_a_word():
    assert pieces("First one is here.\n\nSecond one is here.", 30) == [
        "First one is here.",
        "Second one is here.",
    ]
    assert pieces("One is here now. Two is here now.", 25) == [
        "One is here now.",
        "Two is here now.",
    ]
    assert pieces("alpha beta gamma delta", 16) == ["alpha beta gamma", "delta"]


def test_a_word_is_cut_only_where_it_alone_is_too_long():
    assert pieces("ab " + "x" * 40 + " cd", 16) == ["ab", "x" * 16, "x" * 16, "x" * 8 + " cd"]


def test_overlap_begins_with_a_word():
    found = pieces("one two three four five six seven", 16, 6)
    assert found == ["one two three", "three four five", "five six seven"]


def test_pieces_keep_group_origin_source_and_weight(make_step, through):
    step = make_step("chunk", characters=16)
    named = Row(text="alpha beta gamma delta", group="g", source="s", weight=2.0)
    kept, _ = through(step, [named, Row(text="alpha beta gamma delta")])
    assert [(row.group, row.source, row.weight) for row in kept[:2]] == [("g", "s", 2.0)] * 2
    assert kept[2].group == kept[3].group != ""


def test_conversations_stay_whole(make_step, through):
    row = Row.of("a" * 100, "b" * 100)
    assert through(make_step("chunk", characters=16), [row])[0] == [row]


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": 100},
        {"tokenizer": "nowhere"},
        {"characters": 8},
        {"characters": 100, "overlap": 60},
        {"characters": 20.5},
    ],
)
def test_a_wrong_entry_is_named(make_step, options):
    with pytest.raises(StageFailed, match="step chunk"):
        make_step("chunk", **options)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.sampled_from("ab .\n。x") | st.characters(categories=["L", "P", "Z"]), max_size=3000
    ),
    st.integers(16, 60),
    st.floats(0, 0.5),
)
def test_nothing_is_lost_and_no_piece_is_too_long(text, limit, share):
    found = pieces(text, limit, int(limit * share))
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in found)
    at = end = 0
    for piece in found:  # each begins before or where the last one ended, but for white space
        while text[at : at + len(piece)] != piece or text[end:at].strip():
            at += 1
            assert at <= len(text)
            if text[end:at].strip():
                raise AssertionError(f"{text[end:at]!r} is lost")
        end = max(end, at + len(piece))
        at += 1
    assert not text[end:].strip()
