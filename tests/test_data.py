"""The shipped data: made by its script, disjoint, and by the rule that data/README.md states."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from remote.contract.artifacts.row_kinds import parse_row

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make", DATA / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.files())


def rows(name):
    path = DATA / "profiles" / f"{name}.jsonl"
    return [
        parse_row(line, path.name, number)
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]


def handles_in(text):
    return set(re.findall(r"@\w+", text))


def test_the_script_writes_the_files_that_are_shipped(made):
    assert {path.relative_to(DATA).as_posix() for path in made} == {
        "profiles/train.jsonl",
        "profiles/held-out.jsonl",
        "corpus/chats.jsonl",
        "corpus/profiles.txt",
    }
    assert [path for path, text in made.items() if path.read_text() != text] == []


def test_sizes_are_as_stated():
    assert (len(rows("train")), len(rows("held-out"))) == (360, 40)
    assert 100_000 < sum(path.stat().st_size for path in (DATA / "corpus").iterdir()) < 300_000


def test_no_handle_stands_in_two_of_held_out_train_and_corpus():
    parts = [{row.group for row in rows(name)} for name in ("held-out", "train")]
    parts.append(handles_in("".join(path.read_text() for path in (DATA / "corpus").iterdir())))
    assert [len(part) for part in parts[:2]] == [40, 360]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


@pytest.mark.parametrize("name", ["train", "held-out"])
def test_answers_follow_the_rule(name):
    phrases = json.loads((DATA / "phrases.json").read_text())
    field_of = {topic: field for field, topics in phrases["topics"].items() for topic in topics}
    points = {"core": 6, "near": 4, "far": 1}, {"builds": 3, "teaches": 2, "follows": 1}
    for row in rows(name):
        answer = json.loads(row.answer)
        assert list(answer) == ["handle", "reason", "score"]
        assert answer["handle"] == row.group
        assert f"handle: {row.group}\n" in row.asked
        promotes = any(promotion in row.asked for promotion in phrases["promotions"])
        assert promotes == (answer["reason"] == "promotes a giveaway")
        if not promotes:
            role, topic, verdict = re.fullmatch(r"(\w+) ([^,]+), (.+)", answer["reason"]).groups()
            assert topic in row.asked
            assert verdict == phrases["verdicts"][field_of[topic]]
            assert any(
                form.replace("{topic}", topic) in row.asked for form in phrases["roles"][role]
            )
        assert answer["score"] == (
            0.0 if promotes else (points[0][field_of[topic]] + points[1][role]) / 10
        )


def test_scores_are_spread():
    found = {
        name: {json.loads(row.answer)["score"] for row in rows(name)}
        for name in ("train", "held-out")
    }
    assert found["train"] == {0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}
    assert len(found["held-out"]) >= 8


def test_topics_and_ways_to_say_a_role_are_told_apart():
    phrases = json.loads((DATA / "phrases.json").read_text())
    topics = [topic for bank in phrases["topics"].values() for topic in bank]
    forms = [form for bank in phrases["roles"].values() for form in bank]
    assert len(topics) == len(set(topics))
    assert len(forms) == len(set(forms))
