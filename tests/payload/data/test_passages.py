import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from remote.payload.data.raft.passages import Spool, cut, sentences


def test_paragraphs_stay_whole_where_they_fit():
    text = "One two.\n\nThree four.\n \nFive six seven eight."
    assert cut(text, 24) == ["One two.\n\nThree four.", "Five six seven eight."]


def test_a_long_paragraph_is_cut_at_ends_of_sentences_and_a_long_sentence_at_spaces():
    assert cut("One two three. Four five six. Seven.", 30) == [
        "One two three. Four five six.",
        "Seven.",
    ]
    assert cut("aaa bbb ccc ddd", 8) == ["aaa bbb", "ccc ddd"]
    assert cut("a" * 20, 8) == ["aaaaaaaa", "aaaaaaaa", "aaaa"]


def test_sentences_as_they_stand():
    text = (
        "# Un titre\n\nIl dit : « Le treuil tire. » Puis 3 hommes, p. ex. des marins, aident. Fin"
    )
    assert sentences(text) == [
        "Il dit : « Le treuil tire. »",
        "Puis 3 hommes, p. ex. des marins, aident.",
    ]
    markdown = (
        "## A title\n**Bold.** Not * a bullet.\n- It is one.\n  And on.\n| a | b. |\n3. Third one."
    )
    assert sentences(markdown) == [
        "**Bold.** Not * a bullet.",
        "It is one.",
        "And on.",
        "Third one.",
    ]
    assert sentences("水很深。船很大。") == ["水很深。", "船很大。"]


@settings(deadline=None)
@given(st.text(alphabet="aB .!?\n\t«»é。", max_size=300), st.integers(1, 40))
def test_no_letter_is_lost_and_none_is_too_long(text, longest):
    passages = cut(text, longest)
    assert all(0 < len(each) <= longest for each in passages)
    assert "".join("".join(passages).split()) == "".join(text.split())
    for passage in passages:
        assert all(sentence in passage for sentence in sentences(passage))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_the_spool_gives_back_what_it_took(passages):
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for passage in passages:
            spool.add(passage)
        assert [spool[number] for number in range(len(spool))] == passages
