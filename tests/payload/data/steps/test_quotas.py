import pytest

from remote.contract.artifacts.rows import Row
from remote.payload.job import StageFailed


def rows(**counts):
    return [
        Row.of(f"{source} {at}", f"{at % 10 / 10}", source=source)
        for source, count in counts.items()
        for at in range(count)
    ]


def sources(kept):
    found = {}
    for row in kept:
        found[row.source] = found.get(row.source, 0) + 1
    return found


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, {"a": 10, "b": 10, "c": 10}),
        ({"ratio": 2}, {"a": 20, "b": 20, "c": 10}),
        ({"quotas": {"a": 5, "b": 200}}, {"a": 5, "b": 30, "c": 10}),
        ({"shares": {"a": 0.75, "b": 0.25}}, {"a": 60, "b": 20}),
    ],
)
def test_classes_are_kept_in_proportion(make_step, through, options, left):
    kept, aside = through(make_step("balance", **options), rows(a=60, b=30, c=10))
    assert sources(kept) == left
    assert len(kept) + len(aside) == 100
    assert not any(reject.is_bad for reject in aside)


def test_a_reason_has_class_quota_and_count(make_step, through):
    _, aside = through(make_step("balance"), rows(a=3, b=1))
    assert aside[0].reason == "beyond the quota of 'a': 1 of 3 rows"


def test_labels_are_found_by_pattern_and_binned(make_step, through):
    step = make_step("balance", by="answer", pattern=r"^([\d.]+)", bins=[0.4, 0.7])
    lessons = [*rows(a=30), Row.of("odd", "no number"), Row.of("odder", "none")]
    kept, _ = through(step, lessons)
    labels = [row.answer for row in kept]
    assert sum(label[0] == "n" for label in labels) == 2
    numbers = [float(label) for label in labels if label[0] != "n"]
    low, high = sum(n < 0.4 for n in numbers), sum(n >= 0.7 for n in numbers)
    assert (low, len(numbers) - low - high, high) == (2, 2, 2)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"total": 10}, 10),
        ({"per_source": 20}, 50),
        ({"per_source": 20, "total": 30}, 30),
        ({"total": 1000}, 100),
        ({"total": 0}, 0),
    ],
)
def test_a_cap_holds(make_step, through, options, left):
    kept, aside = through(make_step("cap", **options), rows(a=60, b=30, c=10))
    assert (len(kept), len(aside)) == (left, 100 - left)
    if "per_source" in options:
        assert max(sources(kept).values()) <= 20


def test_a_reason_has_the_cap(make_step, through):
    assert through(make_step("cap", per_source=1), rows(a=2))[1][0].reason == (
        "beyond 1 rows of source 'a', which has 2"
    )
    assert through(make_step("cap", total=1), rows(a=2))[1][0].reason == (
        "beyond 1 rows in all; of source 'a' 1 of 2 stay"
    )


def test_rows_that_say_the_same_count_each(make_step, through):
    assert len(through(make_step("cap", total=3), [Row(text="same")] * 5)[0]) == 3


def test_rows_of_a_group_are_capped(make_step, through):
    lessons = [Row.of(str(at), "x", group=str(at % 2)) for at in range(20)]
    assert len(through(make_step("cap", per_group=3), lessons)[0]) == 6


def test_the_choice_is_the_seeds_and_hardly_moves_when_data_grow(make_step, through):
    def kept(count, seed=42, reverse=False):
        lessons = rows(a=count)[:: -1 if reverse else 1]
        return {row.asked for row in through(make_step("cap", seed, total=100), lessons)[0]}

    assert kept(1000) == kept(1000, reverse=True)
    assert kept(1000) != kept(1000, seed=7)
    assert len(kept(1000) & kept(1050)) >= 90


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("balance", {"pattern": "("}),
        ("balance", {"by": "size"}),
        ("balance", {"quotas": {"a": 1}, "ratio": 2}),
        ("balance", {"quotas": {"a": -1}}),
        ("balance", {"quotas": 3}),
        ("balance", {"shares": {"a": 0}}),
        ("balance", {"bins": ["x"]}),
        ("cap", {}),
        ("cap", {"total": -1}),
        ("cap", {"per_source": 1, "per_group": 1}),
    ],
)
def test_a_wrong_entry_is_named(make_step, kind, options):
    with pytest.raises(StageFailed, match=f"step {kind}"):
        make_step(kind, **options)
