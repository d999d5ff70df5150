"""Steps of `prepare` that need the box's libraries: near duplicates, languages, pieces by tokens."""

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from remote.contract.artifacts.rows import Row
from remote.payload.data import split as splits
from remote.payload.data.engine import Context, Engine
from remote.payload.data.steps import chunk, deduplicate, language
from remote.payload.data.steps.near import Index, bands_for, jaccard, shingles_of
from remote.payload.data.units import Given, Origin, Reject
from tests.payload.box.labelled_sentences import SENTENCES

VOCABULARY = [f"word{number}" for number in range(5000)]


def through(step, rows):
    given = [Given(row, Origin("rows.jsonl", at)) for at, row in enumerate(rows, 1)]
    for each in given if hasattr(step, "look") else ():
        step.look(each)
    results = [result for each in given for result in step(each)]
    kept = [result.row for result in results if isinstance(result, Given)]
    return kept, [result for result in results if isinstance(result, Reject)]


def made(module, folder, **options):
    kind = module.__name__.rpartition(".")[2]
    return module.make_step({"type": kind, **options}, Context(folder, folder / "work", {}))


def changed(text, share, seed):
    """The text with a share of its words replaced."""
    draw, words = random.Random(seed), text.split()
    for at in draw.sample(range(len(words)), max(1, int(share * len(words)))):
        words[at] = draw.choice(VOCABULARY)
    return " ".join(words)


def document(seed, length=200):
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def runs_of(text):
    """The runs of three words, in plain Python."""
    words = text.split()
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def true_likeness(one, other):
    """The Jaccard index, in plain Python."""
    sets = [text if isinstance(text, frozenset) else runs_of(text) for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def corpus():
    """Documents, and likenesses of some of them, from nearly the same to half."""
    found = []
    for number in range(300):
        text = document(number, 40 + number)
        found.append(text)
        if number % 2:
            share = (0.002, 0.01, 0.02, 0.03, 0.05, 0.1)[number // 2 % 6]
            found.append(changed(text, share, number))
    random.Random(3).shuffle(found)
    return found


def test_shingles_do_not_depend_on_case_punctuation_or_space():
    one = shingles_of("The cat, the dog; and I.", 3)
    assert list(one) == list(shingles_of("the CAT the  dog and i", 3))
    assert len(one) == 4
    assert len(shingles_of("two words", 3)) == len(shingles_of("!!", 3)) == 1
    assert len(shingles_of("我们在学习中文", 3)) == 5
    assert jaccard(shingles_of("a b c d", 3), shingles_of("b c d e", 3)) == pytest.approx(1 / 3)


def test_a_pair_at_the_limit_is_hardly_ever_missed():
    for near in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
        bands, rows = bands_for(near)
        assert bands * rows <= 128
        assert (1 - near**rows) ** bands <= 1e-3


def test_all_near_duplicates_go_and_nothing_else(tmp_path):
    texts = corpus()
    kept, aside = through(made(deduplicate, tmp_path, near=0.85), [Row(text=t) for t in texts])
    left = [row.text for row in kept]
    pairs = itertools.combinations(map(runs_of, left), 2)
    near = [pair for pair in pairs if true_likeness(*pair) >= 0.85]
    assert not near  # recall: none is left
    assert len(aside) > 60
    for reject in aside:  # precision: each has its witness, and the figure is the true one
        witness, figure = reject.reason.removeprefix("nearly repeats rows.jsonl:").split(" (")
        text, first = texts[reject.origin.line - 1], texts[int(witness) - 1]
        assert first in left
        assert int(witness) < reject.origin.line
        assert true_likeness(first, text) == pytest.approx(float(figure.split()[0]), abs=6e-4)
        assert true_likeness(first, text) >= 0.85
        assert not reject.is_bad


def test_exact_duplicates_are_called_that(tmp_path):
    rows = [Row(text=document(1)), Row(text=document(1)), Row(text=changed(document(1), 0.01, 1))]
    kept, aside = through(made(deduplicate, tmp_path, near=0.85), rows)
    assert kept == rows[:1]
    assert aside[0].reason == "repeats rows.jsonl:1"
    assert aside[1].reason.startswith("nearly repeats rows.jsonl:1 (0.9")


def chain(seed):
    """Three texts, each near the next, the first and the last not near one another."""
    one = document(seed, 300).split()
    two, three = list(one), list(one)
    for at in (40, 80, 120, 160):
        two[at] = three[at] = f"x{at}"
    for at in (60, 100, 140, 180):
        three[at] = f"y{at}"
    texts = [" ".join(words) for words in (one, two, three)]
    assert true_likeness(texts[0], texts[1]) >= 0.9 and true_likeness(texts[1], texts[2]) >= 0.9
    assert true_likeness(texts[0], texts[2]) < 0.9
    return texts


def test_a_chain_of_near_duplicates_has_one_group_and_so_one_side(tmp_path):
    texts = [text for seed in range(40) for text in chain(seed)]
    rows = [Row(text=text, group=f"document-{at}") for at, text in enumerate(texts)]
    kept, aside = through(made(deduplicate, tmp_path, near=0.9), rows)
    assert len(aside) == 40  # the middle ones
    groups = Counter(row.group for row in kept)
    assert groups == {f"document-{3 * at}": 2 for at in range(40)}
    split = splits.chosen(groups, 0.3, "42")
    sides = [{split.validates(row.group) for row in kept[at : at + 2]} for at in range(0, 80, 2)]
    assert all(len(side) == 1 for side in sides)


def test_all_rows_of_joined_groups_stay_together(tmp_path):
    one, _, three = chain(1)
    middle = chain(1)[1]
    rows = [
        Row(text=one, group="a"),
        Row(text=document(50), group="b"),
        Row(text=middle, group="c"),
        Row(text=three, group="b"),
        Row(text=document(51), group="c"),
    ]
    kept, _ = through(made(deduplicate, tmp_path, near=0.9), rows)
    assert [row.group for row in kept] == ["a", "a", "a", "c"]  # of `c` nothing near is left


def test_near_ones_may_stay_and_are_kept_together(tmp_path):
    rows = [Row(text=text) for text in chain(2)]
    kept, aside = through(made(deduplicate, tmp_path, near=0.9, drop=False), rows)
    assert not aside
    assert len({row.group for row in kept}) == 1


def test_only_questions_or_answers_are_compared_where_asked(tmp_path):
    asked = document(7)
    rows = [Row.of(asked, document(8)), Row.of(changed(asked, 0.01, 1), document(9))]
    assert len(through(made(deduplicate, tmp_path, near=0.85), rows)[0]) == 2
    assert len(through(made(deduplicate, tmp_path, near=0.85, of="asked"), rows)[0]) == 1
    assert len(through(made(deduplicate, tmp_path, near=0.85, of="answer"), rows)[0]) == 2


def test_no_near_duplicate_is_on_both_sides_of_a_split(tmp_path):
    kept, _ = through(made(deduplicate, tmp_path, near=0.85), [Row(text=t) for t in corpus()])
    split = splits.chosen(Counter(splits.grouped(row).group for row in kept), 0.2, "42")
    sides = ([], [])
    for row in kept:
        sides[split.validates(splits.grouped(row).group)].append(row)
    train, val = ([runs_of(row.text) for row in side] for side in sides)
    assert train and val
    assert max(true_likeness(one, other) for one in train for other in val) < 0.85


def test_a_crowd_of_likenesses_becomes_one(tmp_path):
    text = document(5)
    rows = [Row(text=changed(text, 0.005, at)) for at in range(3000)]
    kept, _ = through(made(deduplicate, tmp_path, near=0.85), rows)
    assert len(kept) == 1


def test_few_rows_or_none(tmp_path):
    assert through(made(deduplicate, tmp_path, near=0.85), []) == ([], [])
    assert len(through(made(deduplicate, tmp_path, near=0.85), [Row(text="a")])[0]) == 1
    index = Index(tmp_path, 0.85, 3)
    assert list(index.candidates()) == []


def test_languages_are_told_by_their_sentences(tmp_path):
    told = Counter()
    for name, sentences in SENTENCES.items():
        rows = [Row(text=sentence) for sentence in sentences]
        kept, aside = through(made(language, tmp_path, keep=name, min_characters=8), rows)
        told["kept"] += len(kept)
        assert all(f"wanted {name}" in reject.reason for reject in aside)
        others = [
            Row(text=text) for other in SENTENCES if other != name for text in SENTENCES[other]
        ]
        told["wrongly"] += len(through(made(language, tmp_path, keep=name), others)[0]) - sum(
            len(language.prose_of(row.text)) < 20 for row in others
        )
    assert told["kept"] >= 109  # of 112; 111 when this was written
    assert told["wrongly"] <= 3


def test_a_reason_has_the_language_and_how_sure_it_is(tmp_path):
    row = Row.of("Wo ist denn hier der Bahnhof?", "Gleich um die Ecke, neben der Post.")
    _, aside = through(made(language, tmp_path, keep=["fr", "en"]), [row])
    assert aside[0].reason == "its language is de (confidence 1.00), wanted fr, en"
    assert not aside[0].is_bad


def test_code_and_addresses_do_not_tell_a_language(tmp_path):
    text = "Voici la commande qu'il faut exécuter :\n```\nfor the file in the list of files: print it\n```"
    assert through(made(language, tmp_path, keep="fr"), [Row(text=text)])[0]


def test_short_text_stays_or_goes(tmp_path):
    rows = [Row(text="ok 12")]
    assert through(made(language, tmp_path, keep="fr"), rows)[0]
    _, aside = through(made(language, tmp_path, keep="fr", short="drop"), rows)
    assert aside[0].reason == "2 characters of prose are too few to tell its language"


@pytest.fixture
def tokens_of(tiny_base):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_pieces_are_cut_by_the_models_tokens(tmp_path, tiny_base, tokens_of):
    text = "\n\n".join(
        " ".join(f"The sum of {at} and {each} is {at + each}." for each in range(9))
        for at in range(30)
    )
    step = made(chunk, tmp_path, tokenizer=str(tiny_base), tokens=64, overlap=8)
    kept, _ = through(step, [Row(text=text, source="s")])
    assert len(kept) > 20
    assert max(tokens_of(row.text) for row in kept) <= 62
    assert len({row.group for row in kept}) == 1
    words = set(text.split())
    assert all(set(row.text.split()) <= words for row in kept)  # no word is cut
    assert not words - {word for row in kept for word in row.text.split()}


def test_a_word_of_too_many_tokens_is_cut(tmp_path, tiny_base, tokens_of):
    step = made(chunk, tmp_path, tokenizer=str(tiny_base), tokens=32)
    kept, _ = through(step, [Row(text="ab " + "qzx" * 300 + " cd 漢字🙂 e")])
    assert max(tokens_of(row.text) for row in kept) <= 30
    assert "".join("".join(row.text.split()) for row in kept) == "ab" + "qzx" * 300 + "cd漢字🙂e"


def test_a_short_document_is_one_piece(tmp_path, tiny_base):
    step = made(chunk, tmp_path, tokenizer=str(tiny_base), tokens=64)
    assert [row.text for row in through(step, [Row(text="Short.")])[0]] == ["Short."]


def test_a_recipe_of_all_steps_gives_the_same_each_time(tmp_path: Path):
    lines = [{"text": f"{text} Write to a{at}@b.org."} for at, text in enumerate(corpus())]
    lines += [{"text": text} for text in itertools.chain(*SENTENCES.values())]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "seeds.jsonl").write_text(json.dumps({"text": document(0, 40)}) + "\n")
    recipe = {
        "name": "all",
        "sources": [{"type": "corpus", "path": "rows.jsonl"}],
        "steps": [
            {"type": "normalise"},
            {"type": "quality", "min_words": 5},
            {"type": "redact"},
            {"type": "decontaminate", "seeds": "seeds.jsonl"},
            {"type": "deduplicate", "near": 0.85},
            {"type": "chunk", "characters": 400},
            {"type": "cap", "total": 500},
        ],
        "limits": {"workers": 2},
    }

    def run(folder):
        engine = Engine(Context(tmp_path, tmp_path / folder, recipe), lambda line: None)
        prepared = engine.prepared()
        assert not prepared.lost
        rows = [row.row for part in prepared.parts for row in engine.store.rows(part)]
        redacted = [
            part.changed for name, parts in prepared.passes for part in parts if "red" in name
        ]
        assert redacted == [{"email": 450}]
        return rows, [dict(part.dropped) for _, parts in prepared.passes for part in parts]

    rows, dropped = run("one")
    assert (rows, dropped) == run("two") == run("one")
    assert len(rows) == 500
    assert all("[EMAIL]" in row.text or "@" not in row.text for row in rows)
    steps = set().union(*dropped)
    assert {"quality", "decontaminate", "deduplicate", "cap"} <= steps
