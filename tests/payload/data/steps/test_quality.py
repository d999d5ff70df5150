import pytest

from remote.contract.artifacts.rows import Row
from remote.payload.data.steps.quality import RULES, SETS, Text
from remote.payload.job import StageFailed

PROSE = (
    "The river had been low since the spring, and the people of the village went out to look at"
    " the stones that nobody had seen for thirty years. Some of them bore dates, cut by hands that"
    " have long been forgotten, with a warning to those who would read them. An old woman read one"
    " aloud, and then another; when she came to the last of them she stopped, smiled and went home."
)


@pytest.mark.parametrize(
    ("text", "limits", "reason"),
    [
        ("a b c", {"min_words": 4}, "min_words: 3 words, at least 4"),
        ("a b c", {"max_words": 2}, "max_words: 3 words, at most 2"),
        ("abc", {"min_characters": 10}, "min_characters: 3 characters, at least 10"),
        ("aaaa bb", {"min_word_length": 4}, "min_word_length: 3 characters a word, at least 4"),
        ("# # a b", {"max_hash_share": 0.1}, "max_hash_share: 0.5 `#` a word, at most 0.1"),
        ("- a\n- b\nc\nd", {"max_bullet_lines": 0.4}, "max_bullet_lines: 0.5 of its lines begin"),
        ("a...\nb…\nc\nd", {"max_ellipsis_lines": 0.4}, "max_ellipsis_lines: 0.5"),
        ("1 2 3 a", {"min_alpha_words": 0.8}, "min_alpha_words: 0.25 of its words have a letter"),
        ("le chat dort", {"min_stop_words": 2}, "min_stop_words: 0 different stop words"),
        ("ab!?", {"max_symbol_share": 0.3}, "max_symbol_share: 0.5 of its characters"),
        ("ab12", {"max_digit_share": 0.3}, "max_digit_share: 0.5 of its characters digits"),
        ("x\nx\nx\ny", {"max_repeated_lines": 0.3}, "max_repeated_lines: 0.5 of its lines repeat"),
        ("x\n\nx", {"max_repeated_paragraphs": 0.3}, "max_repeated_paragraphs: 0.5"),
        ("a b a b a b", {"max_top_2_words": 0.5}, "max_top_2_words: 0.818"),
        ("a b c d e a b c d e", {"max_repeated_5_words": 0.15}, "max_repeated_5_words: 0.263"),
        ("short\nlines", {"max_short_lines": 0.67}, "max_short_lines: 1 of its lines have at most"),
        ("no end\nan end.", {"min_punctuated_lines": 0.6}, "min_punctuated_lines: 0.5"),
        ("a\nb\nc", {"max_line_breaks": 0.3}, "max_line_breaks: 0.667 line breaks a word"),
    ],
)
def test_each_reason_has_the_rule_and_the_figure(make_step, through, text, limits, reason):
    kept, aside = through(make_step("quality", **limits), [Row(text=text)])
    assert not kept
    assert aside[0].reason.startswith(reason)
    assert (aside[0].step, aside[0].is_bad, aside[0].sample) == ("quality", False, text)


@pytest.mark.parametrize("name", SETS)
def test_prose_passes_each_published_set(make_step, through, name):
    kept, aside = through(make_step("quality", like=name), [Row(text=PROSE)])
    assert kept == [Row(text=PROSE)], aside


def test_repetition_is_found(make_step, through):
    _, aside = through(make_step("quality", like="repetition"), [Row(text=PROSE + " " + PROSE)])
    assert "repeated_5_words" in aside[0].reason or "top_" in aside[0].reason


def test_a_rule_of_a_set_is_changed_or_turned_off(make_step, through):
    rows = [Row(text="The cat and the dog sat with that.")]
    assert not through(make_step("quality", like="gopher"), rows)[0]
    assert through(make_step("quality", like="gopher", min_words=5), rows)[0]
    assert through(make_step("quality", like=["gopher", "fineweb"], min_words=None), rows)[0]


def test_the_stop_words_are_those_of_the_language(make_step, through):
    french = Row(text="Le chat que nous avons vu dans la rue n'est pas à nous.")
    english = Row(text="The cat that we have seen in the street is not ours.")
    step = make_step("quality", language="fr", min_stop_word_share=0.3)
    kept, aside = through(step, [french, english])
    assert kept == [french]
    assert "of its words are stop words, at least 0.3" in aside[0].reason


def test_only_the_answer_is_looked_at_where_asked(make_step, through):
    row = Row.of("Say it.", "one two three four five six")
    assert through(make_step("quality", of="answer", max_words=6), [row])[0]
    assert not through(make_step("quality", max_words=6), [row])[0]


def test_chinese_characters_are_words(make_step):
    assert len(Text("我们在学习。", frozenset()).words) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"min_wrods": 3},
        {"min_words": "many"},
        {"like": "gophers"},
        {"language": "xx", "min_stop_words": 1},
        {"of": "half"},
    ],
)
def test_a_wrong_entry_is_named(make_step, options):
    with pytest.raises(StageFailed, match="step quality"):
        make_step("quality", **options)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("text", ["", " ", "\n\n", "!!!", "a"])
def test_no_text_is_too_odd_to_measure(make_step, rule, text):
    make_step("quality", **{rule: 1}).broken(text)
