"""The shipped recipes, on the box's side: their sources read, their steps made."""

import re
from pathlib import Path

import pytest
import yaml

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context, source_of, step_of
from remote.payload.data.kinds.modules import module_of
from remote.payload.data.units import Given

PROJECT = Path(__file__).resolve().parents[3]


def recipe(name):
    return yaml.safe_load((PROJECT / "playbooks" / "data" / f"{name}.yaml").read_text())


@pytest.fixture
def rows_of(tmp_path):
    def of(entry):
        entry = {name: value for name, value in entry.items() if name != "steps"}
        source = source_of(entry, Context(PROJECT, tmp_path, {"seed": 42}))
        results = [result for unit in source.units() for result in source.read(unit)]
        assert not any(getattr(each, "is_bad", False) for each in results)
        return [each.row for each in results if isinstance(each, Given)]

    return of


def test_every_record_of_the_multi_kind_set_is_read(rows_of):
    rows = {entry["name"]: rows_of(entry) for entry in recipe("multi-kind")["sources"]}
    counts = {name: len(found) for name, found in rows.items()}
    # One record in English says so of itself; one says nothing, and is for the step `language`.
    assert counts == {"instructions": 8, "reasoning": 5, "conversations": 5, "retrieval": 6}
    modules = {module_of(row) for found in rows.values() for row in found}
    assert modules == {"", "Journal", "Index"}
    assert all(isinstance(row, Row) and "[MOD=" not in row.asked for row in rows["instructions"])


def test_a_folder_brings_its_licence(rows_of):
    rows = rows_of({"type": "kinds", "path": "data/kinds", "languages": ["fr"]})
    assert len(rows) == 22  # of each tree the best replies alone


def test_raft_asks_about_the_manual(rows_of, tmp_path):
    made = recipe("raft")
    documents = rows_of(made["sources"][0])
    step = step_of(made["steps"][0], Context(PROJECT, tmp_path, {"seed": 42}))
    assert len(documents) > 10
    for row in documents:
        step.look(Given(row, None))
    results = [each for row in documents for each in step(Given(row, None))]
    rows = [each.row for each in results if isinstance(each, Given)]
    assert len(rows) > 10 * len(documents)
    for row in rows:
        (quote,) = re.findall(r"##begin_quote## (.*?) ##end_quote##", row.answer, re.DOTALL)
        assert any(quote in document.text for document in documents)
        assert len(row.words) < 8000
