"""What a dataset's statistics say."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.artifacts.rows import Row, Turn
from remote.payload.data.reporting import dropped, estimate, findings
from remote.payload.data.reporting.dropped import Dropped
from remote.payload.data.reporting.lengths import Lengths
from remote.payload.data.reporting.noise import correlation, ranks, score_of
from remote.payload.data.reporting.statistics import Statistics
from remote.payload.data.reporting.tokens import ESTIMATE, Sequence, Tokenizing, of_folder
from remote.payload.data.units import Origin, Reject


def told(train, val=(), **more):
    found = Statistics(**more)
    for name, rows in (("val", val), ("train", train)):
        for row in rows:
            found.add(name, row)
    return found.to_json()


def test_counts_rows_turns_groups_and_sources():
    chat = Row(
        (
            Turn("system", "Be brief."),
            Turn("user", "one"),
            Turn("assistant", "two", is_learnt=False),
            Turn("user", "three"),
            Turn("assistant", "four", is_learnt=True),
        ),
        group="a",
        source="x",
    )
    side = told([chat, Row.of("q", "a", group="a"), Row(text="words", source="x")])["train"]
    assert (side["rows"], side["conversations"], side["documents"]) == (3, 2, 1)
    assert (side["groups"], side["with_system"]) == (2, 1)
    assert side["turns"] == [[2, 1], [4, 1]]
    assert side["sources"] == {"names": 2, "first": [["x", 2], ["", 1]], "rest": 0}
    assert side["characters"]["total"] == 9 + 3 + 3 + 5 + 4 + 2 + 5
    assert side["learnt_share"] == pytest.approx((4 + 1 + 5) / 31, abs=1e-4)


def test_finds_what_repeats_and_what_stands_on_both_sides():
    train = [
        Row.of("What is it?", "A dog.", group="1"),
        Row.of("what  IS it?", "a dog.", group="2"),
        Row.of("What is it?", "A cat.", group="3"),
        Row.of("Where?", "Here.", group="4"),
    ]
    val = [Row.of("What is it?", "A cat.", group="4")]
    found = told(train, val)
    assert (found["train"]["repeated"], found["train"]["contradicted"]) == (1, 1)
    assert {name: found["shared"][name] for name in ("rows", "questions", "groups")} == {
        "rows": 1,
        "questions": 3,
        "groups": 1,
    }
    assert [each["line"] for each in found["shared"]["samples"]] == [3]


def test_truncation_tells_what_is_cut_lost_and_left_without_a_lesson():
    lengths = {"short": Sequence(10, ((5, 10),)), "long": Sequence(600, ((90, 600),))}
    lengths["asks"] = Sequence(2000, ((1990, 2000),))
    counting = Tokenizing(lambda row: [lengths[row.asked]], "as told", "a tokenizer")
    side = told([Row.of(name, "a") for name in lengths], tokenizing=counting)["train"]
    assert side["tokens"]["total"] == 2610
    assert side["learnt_tokens"] == 5 + 510 + 10
    assert side["truncation"][0] == {
        "max_length": 512,
        "cut": 2,
        "empty": 1,
        "lost_tokens": 88 + 1488,
        "lost_learnt_tokens": 88 + 10,
    }
    assert [each["cut"] for each in side["truncation"]] == [2, 1, 0, 0]


def test_the_estimate_follows_from_the_figures():
    counting = Tokenizing(lambda row: [Sequence(int(row.asked), ((0, 1),))], "as told", "one")
    found = told([Row.of("100", "a"), Row.of("3000", "a")] * 10, tokenizing=counting)
    figures = {"batch": 2, "accumulation": 2, "epochs": 3, "tokens_per_second": 100}
    made = estimate.estimate(found, {**figures, "hourly_usd": 2.0})
    assert (made["sequences"], made["steps"]) == (20, 15)
    assert made["tokens"] == 3 * (10 * 100 + 10 * 1024)
    assert made["hours"] == pytest.approx(made["tokens"] / 360_000, abs=1e-3)
    assert made["usd"] == pytest.approx(made["hours"] * 2, abs=0.01)
    assert "max_length" in made["assumed"] and "batch" not in made["assumed"]
    only = estimate.estimate(found, {**figures, "overlong": "drop"})
    assert (only["sequences"], only["tokens"], only["usd"]) == (10, 3 * 1000, None)
    assert estimate.estimate(found, {**figures, "max_steps": 5})["steps"] == 5


def test_of_a_large_dataset_a_sample_is_tokenized_and_the_estimate_is_of_all():
    counting = Tokenizing(lambda row: [Sequence(10, ((0, 10),))], "as told", "one")
    rows = [Row.of(str(number), "a") for number in range(2000)]
    found = told(rows, tokenizing=counting, token_share=0.25)
    assert 400 < found["train"]["tokenized"] < 600
    assert found == told(rows, tokenizing=counting, token_share=0.25)
    made = estimate.estimate(found, None)
    assert (made["sequences"], made["tokens"]) == (2000, 20_000)


def test_no_row_gives_an_estimate_of_nothing():
    found = told([])
    made = estimate.estimate(found, {"tokens_per_second": 1, "hourly_usd": 1})
    assert (made["steps"], made["tokens"], made["usd"]) == (0, 0, 0)
    found["estimate"] = made
    assert findings.of(found)[0]["level"] == "bad"


def test_label_noise_of_two_teachers():
    generator = random.Random(1)
    rows, ones, others = [], [], []
    for number in range(50):
        one = round(generator.random(), 2)
        other = round(one + generator.uniform(-0.1, 0.1), 2)
        ones.append(one)
        others.append(other)
        for source, score in (("haiku", one), ("flash", f"{other:.2f}")):
            answer = json.dumps({"handle": "h", "score": score, "reason": "r"})
            rows.append(Row.of(f"Score {number}", answer, group=str(number), source=source))
    rows.append(Row.of("Score 99", "0.5", group="99", source="haiku"))
    (pair,) = told(rows[:40], rows[40:])["label_noise"]
    assert (pair["sources"], pair["groups"]) == (["flash", "haiku"], 50)
    assert pair["pearson"] == pytest.approx(correlation(others, ones), abs=1e-4)
    assert pair["mean_difference"] == pytest.approx(
        sum(abs(one - other) for one, other in zip(ones, others, strict=True)) / 50
    )


def test_a_group_with_several_things_in_it_is_no_pair():
    rows = [
        Row.of(f"{group} {number}", str(number), group=group, source=source)
        for group in "abcd"
        for number in range(3)
        for source in ("one", "two")
    ]
    assert told(rows)["label_noise"] == []


def test_teachers_who_always_say_the_same_have_no_correlation():
    rows = [
        Row.of("q", "0.5", group=str(number), source=source)
        for number in range(5)
        for source in ("one", "two")
    ]
    assert told(rows)["label_noise"][0]["pearson"] is None


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("0.85", 0.85),
        (" 0,85 because", 0.85),
        ('"07" is it', 7),
        ('{"score": "0.40", "reason": "x"}', 0.4),
        ('{"score": 1}', 1),
        ('{"score": true}', None),
        ('{"score": NaN}', None),
        ('{"score": 1e400}', None),
        ('{"other": 1}', None),
        ("{broken", None),
        ("2024-01-01", None),
        ("85/100", None),
        ("none", None),
        ("", None),
    ],
)
def test_the_score_in_an_answer(answer, score):
    assert score_of(answer) == score


def test_ranks_share_their_place():
    assert ranks([3, 1, 3, 2]) == [3.5, 1, 3.5, 2]


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_lengths_are_exact(lengths):
    counted = Lengths()
    for length in lengths:
        counted.add(length)
    found = counted.to_json()
    ordered = sorted(lengths)
    assert (found["count"], found["total"]) == (len(lengths), sum(lengths))
    assert found["p50"] == ordered[-(-len(ordered) // 2) - 1]
    assert (found["min"], found["max"]) == (ordered[0], ordered[-1])
    assert sum(count for *_, count in found["histogram"]) == len(lengths)
    for low, high, count in found["histogram"]:
        assert sum(low <= length < high for length in lengths) == count


@given(st.text())
def test_any_answer_has_a_score_or_none(answer):
    score = score_of(answer)
    assert score is None or isinstance(score, float)


def test_reasons_that_differ_in_numbers_and_places_are_one():
    assert dropped.folded("repeats a b.jsonl:12") == dropped.folded("repeats other.jsonl:3")
    assert dropped.folded("nearly repeats x:1 (0.912 of its shingles)") == (
        "nearly repeats an earlier one (N of its shingles)"
    )
    assert dropped.folded("12 words, at least 20") == dropped.folded("7 words, at least 20")
    assert dropped.folded("lacks `output`") != dropped.folded("lacks `instruction`")


def test_what_was_set_aside_is_bounded():
    found = Dropped()
    for number in range(5000):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        reject = Reject(f"{name} {'x' * 1000}", Origin("f", number), "step", "y" * 5000)
        found.note(reject)
    groups = found.to_json()
    assert sum(group["rows"] for group in groups) == 5000
    assert len(json.dumps(groups)) < 200_000


def test_a_folder_without_a_tokenizer_gives_an_estimate_and_says_why(tmp_path):
    assert of_folder(None).how == ESTIMATE
    (tmp_path / "tokenizer.json").write_text("{}")
    found = of_folder(tmp_path)
    assert found.is_estimate and tmp_path.name in found.how
    assert found.measure(Row(text="x" * 400)) == [Sequence(102, ((1, 102),))]


def test_languages_where_a_step_tells_them():
    rows = [Row(text=text) for text in ("le chat", "the cat", "the dog")]
    side = told(rows, language_of=lambda row: "fr" if row.text.startswith("le") else "en")
    assert side["train"]["languages"]["first"] == [["en", 2], ["fr", 1]]
    assert told(rows)["train"]["languages"] is None


def test_findings_name_what_one_should_look_at():
    rows = [Row.of(f"question {number}", "yes") for number in range(30)]
    found = told(rows, [Row.of("question 1", "yes")])
    found |= {"dropped": [], "estimate": estimate.estimate(found, None)}
    said = " ".join(each["what"] for each in findings.of(found))
    assert "1 row to train stand in the validation set too" in said
    assert "100% of the answers are “yes”" in said
    assert findings.of(found)[0]["level"] == "bad"
