import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context
from remote.payload.data.steps import normalise


def made(**options):
    return normalise.make_step({"type": "normalise", **options}, None)


def test_accents_become_one_character():
    assert made().text("cafe\u0301") == "caf\u00e9"


def test_control_and_invisible_characters_go_but_joiners_stay():
    text = "\ufeffa\x00b\x1bc\u200bd\u202ee \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert made().text(text) == "abcde \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


def test_line_ends_and_spaces():
    assert made().text("a \r\nb\rc\u2028d\xa0e\n\n\n\nf\n  indented  ") == (
        "a\nb\nc\nd e\n\nf\n  indented"
    )


def test_a_hyphenated_word_is_whole_again():
    assert made().text("inter-\nnational law") == "international law"
    assert made().text("inter\xad\nnational so\xadft") == "international soft"


def test_a_compound_keeps_its_hyphen():
    assert made().text("A well-known case, and a well-\nknown rule") == (
        "A well-known case, and a well-known rule"
    )
    assert made().text("in New-\nYork") == "in New-York"
    assert made().text("Vor-\nund Nachteile") == "Vor- und Nachteile"


def test_hyphens_at_line_ends_are_left_where_asked():
    assert made(hyphens=False).text("inter-\nnational") == "inter-\nnational"


def test_lines_of_a_paragraph_are_joined_where_asked():
    assert made(join_lines=True).text("one\ntwo\n\nthree") == "one two\n\nthree"
    assert made(spaces="collapse").text("a  b\t c\n   d") == "a b c\nd"


def test_ligatures_are_taken_apart_where_asked():
    assert made(form="NFKC").text("\ufb01ne") == "fine"
    assert made().text("\ufb01ne") == "\ufb01ne"


def test_each_turn_is_changed_and_a_row_that_needs_nothing_is_the_same(through):
    row = Row.of("a\x00b", "c\r\nd")
    kept, _ = through(made(), [row, Row(text="plain")])
    assert [turn.content for turn in kept[0].messages] == ["ab", "c\nd"]
    assert kept[0].messages[1].is_learnt
    assert kept[1] == Row(text="plain")


def test_a_row_with_nothing_left_is_unusable(through):
    kept, aside = through(made(), [Row(text="\u200b\x00"), Row.of("a", "\u200b")])
    assert not kept
    assert [reject.is_bad for reject in aside] == [True, True]
    assert "`text` is empty" in aside[0].reason


@settings(max_examples=300)
@given(
    st.text(st.sampled_from("ab-\u2010\xad \n\t\r\x00e\u0301A\u200b\xa0\u2028.") | st.characters()),
    st.sampled_from([{}, {"form": "NFKC"}, {"join_lines": True}, {"spaces": "collapse"}]),
)
def test_what_it_gives_it_leaves_as_it_is(text, options):
    step = made(**options)
    once = step.text(text)
    assert step.text(once) == once
    assert unicodedata.is_normalized(step.form, once)
    assert isinstance(step, normalise.Normalise) and Context
