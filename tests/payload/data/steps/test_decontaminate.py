import json

import pytest

from remote.contract.artifacts.rows import Row
from remote.payload.job import StageFailed

LONG = "the seven small boats left the old harbour before dawn and none of them ever came back home"


@pytest.fixture
def seeds(tmp_path):
    lines = [
        {"instruction": "What is the capital of the small island?", "output": "0.75"},
        {"instruction": LONG, "output": "yes", "group": "profile-7"},
    ]
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def reason_of(step, through, row):
    kept, aside = through(step, [row])
    assert not (kept and aside)
    assert not any(reject.is_bad for reject in aside)
    return aside[0].reason if aside else ""


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row.of("what is the CAPITAL of the small island", "Oslo"), "says the same as a seed"),
        (Row.of("unlike anything", "0.75"), ""),
        (Row.of("unlike anything", "yes"), ""),
        (Row.of("anything", "x", group="profile-7"), "of the group of a seed, seeds.jsonl:2"),
        (Row(text=f"They say {LONG.upper()}!"), "6 of 8 runs of 13 words are those of a seed"),
        (Row(text="Now: what is the capital, of the small island? Go."), "runs of 8 words"),
        (Row(text=" ".join(LONG.split()[:12])), ""),
        (Row(text="the old harbour before noon, and none of them"), ""),
    ],
)
def test_what_has_a_seed_in_it_goes(make_step, through, seeds, row, reason):
    found = reason_of(make_step("decontaminate", seeds=str(seeds)), through, row)
    assert reason in found if reason else not found
    assert not found or "seeds.jsonl:" in found


def test_a_share_of_the_row_may_be_allowed(make_step, through, seeds):
    row = Row(text=LONG + " " + " ".join(map(str, range(100))))
    assert reason_of(make_step("decontaminate", seeds="seeds.jsonl"), through, row)
    assert not reason_of(make_step("decontaminate", seeds="seeds.jsonl", share=0.5), through, row)


def test_groups_may_stay(make_step, through, seeds):
    step = make_step("decontaminate", seeds="seeds.jsonl", groups=False)
    assert not reason_of(step, through, Row.of("anything", "x", group="profile-7"))


def test_the_template_of_all_seeds_gives_none_away(make_step, through, tmp_path):
    template = "Give the profile below a score between zero and one hundred, and one reason: "
    secret = "an owl lover who paints tiny ships inside of green bottles every single evening at"
    lines = [{"instruction": f"{template} nobody-{at}", "output": "x"} for at in range(30)]
    lines.append({"instruction": f"{template} {secret}", "output": "x"})
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    step = make_step("decontaminate", seeds="many.jsonl")
    assert not reason_of(step, through, Row.of(f"{template} somebody else", "x"))
    assert reason_of(step, through, Row.of(f"{template} {secret}, he says", "x"))


def test_changed_seeds_are_read_anew(make_step, through, seeds):
    make_step("decontaminate", seeds="seeds.jsonl")
    seeds.write_text(json.dumps({"text": "five quite new words here"}) + "\n")
    step = make_step("decontaminate", seeds="seeds.jsonl")
    assert reason_of(step, through, Row(text="Five quite new words here."))


@pytest.mark.parametrize("options", [{}, {"seeds": "nowhere.jsonl"}, {"seeds": "s", "words": 1}])
def test_a_wrong_entry_is_named(make_step, tmp_path, options):
    (tmp_path / "s").mkdir()
    with pytest.raises(StageFailed):
        make_step("decontaminate", **options)


def test_a_seed_that_cannot_be_read_stops(make_step, seeds):
    seeds.write_text('{"text": "fine"}\n{"text": 3}\n')
    with pytest.raises(StageFailed, match=r"seeds\.jsonl:2"):
        make_step("decontaminate", seeds="seeds.jsonl")
