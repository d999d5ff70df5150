"""`prepare` by a recipe: what travels, which Python it works in, and which secrets it gets."""

import pytest

from remote.contract.artifacts.row_kinds import row_of
from remote.contract.job.stages import REQUIREMENTS, STAGES
from remote.control.backends.resolved import BoxPath, LaptopFile, StageArtifact
from remote.control.config.checks.check import check
from remote.control.config.inventory import load_inventory
from remote.control.config.playbook import Playbook, StageEntry
from remote.control.errors import ConfigError, DataError
from remote.control.operations import data
from remote.control.runs.plan import PlannedStage, plan_of
from remote.control.runs.state import RunState
from remote.control.runs.wiring import environment_of, files_to_send, inputs_of

ROW = '{"instruction": "a", "output": "b"}\n'
RECIPE = """\
name: mine
sources: [{type: corpus, path: rows.jsonl}]
split: {held_out: held.jsonl}
secrets: [OWN_SECRET]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(
        "default_box: demo\nboxes:\n  demo: {provider: embedded}\n"
        "  gpu-1: {provider: embedded}\ngroups: {gpus: [gpu-1, demo]}\nsecrets: [EVERYBODYS]\n"
    )
    for name in ("rows.jsonl", "held.jsonl"):
        (tmp_path / name).write_text(ROW)
    (tmp_path / "playbooks/data").mkdir(parents=True)
    (tmp_path / "playbooks/data/mine.yaml").write_text(RECIPE)
    monkeypatch.setenv("EVERYBODYS", "a-secret-of-all")
    monkeypatch.setenv("OWN_SECRET", "a-secret-of-one")
    return tmp_path


def planned():
    inventory = load_inventory()
    return data.plan_preparing("mine", inventory, inventory.box(), False)


def test_its_files_travel_and_are_its_inputs(project):
    plan = planned()
    state = RunState("", plan)
    assert [path.name for path in files_to_send(state)] == ["rows.jsonl", "held.jsonl"]
    found = inputs_of(plan.stages[0], state)
    assert {name: each.local_path.name for name, each in found.items()} == {
        "sources-1-path": "rows.jsonl",
        "split-held_out": "held.jsonl",
    }
    assert plan.stages[0].recipe["sources"][0]["path"] == "input:sources-1-path"


def test_a_playbook_names_it_relative_to_itself(project):
    (project / "playbooks/all.yaml").write_text(
        "name: all\nstages:\n  prepare: {uses: prepare, recipe: data/mine.yaml}\n"
    )
    from remote.control.config.playbook import load_playbook

    playbook = load_playbook("all")
    assert check(playbook, load_inventory(), fit=False) == []
    assert plan_of(playbook).stages[0].recipe["name"] == "mine"


def test_a_recipe_says_all(project):
    entry = StageEntry(uses="prepare", recipe="mine", with_={"dataset": "rows.jsonl", "seed": 1})
    found = check(Playbook(name="a", stages={"prepare": entry}), load_inventory(), fit=False)
    assert [each.what for each in found] == ["`dataset` beside a recipe", "`seed` beside a recipe"]
    entry = StageEntry(uses="prepare", recipe="nothing")
    (found,) = check(Playbook(name="a", stages={"prepare": entry}), load_inventory(), fit=False)
    assert "no recipe `nothing`" in found.what and "mine" in found.expected


def test_a_file_of_it_that_holds_no_rows_is_found_here(project):
    (project / "rows.jsonl").write_bytes(b"%PDF-1.7\n")
    with pytest.raises(ConfigError) as error:
        planned()
    (finding,) = error.value.findings
    assert finding.where.endswith("mine.yaml:2") and "is a PDF" in finding.what


def test_its_secrets_are_those_it_names(project, monkeypatch):
    assert planned().stages[0].secrets == ["OWN_SECRET"]
    monkeypatch.delenv("OWN_SECRET")
    with pytest.raises(ConfigError) as error:
        planned()
    (finding,) = error.value.findings
    assert finding.where.endswith("mine.yaml:4") and "OWN_SECRET" in finding.what


def test_it_never_has_the_gpu_to_itself():
    assert not STAGES["prepare"].is_exclusive and STAGES["train"].is_exclusive


@pytest.mark.parametrize(
    ("name", "content", "needs"),
    [
        ("rows.jsonl", ROW.encode(), False),
        ("rows.csv", b"text\na\n", False),
        ("rows.jsonl.gz", b"\x1f\x8b", False),
        ("rows", b"PAR1", True),
        ("rows.xlsx", b"PK\x03\x04", True),
        ("rows.jsonl", b"\x28\xb5\x2f\xfd", True),
    ],
)
def test_plain_files_need_no_library(project, name, content, needs):
    (project / "in").mkdir()
    (project / "in" / name).write_bytes(content)
    stage = PlannedStage("prepare", "prepare", {"dataset": "in"})
    for path in (project / "in", project / "in" / name):
        found = environment_of(stage, {"dataset": LaptopFile.of(path)})
        assert found == (REQUIREMENTS if needs else None)


def test_what_only_the_box_can_look_into_may_need_one():
    stage = PlannedStage("prepare", "prepare", {})
    inputs = {
        BoxPath("~/rows.csv"): None,
        BoxPath("~/rows.parquet"): REQUIREMENTS,
        BoxPath("~/folder"): REQUIREMENTS,
        StageArtifact("jobs/a/artifacts/train.jsonl", 1, "0" * 64, False): None,
        StageArtifact("jobs/a/artifacts/parts", 1, "0" * 64, True): REQUIREMENTS,
    }
    for found, environment in inputs.items():
        assert environment_of(stage, {"dataset": found}) == environment


def test_a_group_is_no_place_yet(project):
    with pytest.raises(ConfigError) as error:
        data.one_box(load_inventory(), "gpus")
    assert error.value.findings[0].remedy == "`--on gpu-1`"
    assert data.one_box(load_inventory(), "gpu-1").name == "gpu-1"


def test_a_bucket_that_is_not_there_is_found(project):
    with (project / "playbooks/data/mine.yaml").open("a") as file:
        file.write("outputs: {bucket: true}\n")
    with pytest.raises(ConfigError) as error:
        planned()
    assert error.value.findings[0].where.endswith("mine.yaml:5")


def test_a_row_as_it_is_read_has_what_is_learnt_marked():
    told = [("user", "Yes or no?"), ("assistant", "Yes"), ("user", "Why?"), ("assistant", "So.")]
    row = row_of({"messages": [{"role": role, "content": text} for role, text in told]})
    (pieces,) = data.as_read(row)
    assert [text for text, is_learnt in pieces if is_learnt] == [" Yes</s>", " So.</s>"]
    assert "".join(text for text, _ in pieces) == (
        "<s>[INST] Yes or no?[/INST] Yes</s>[INST] Why?[/INST] So.</s>"
    )
    assert data.as_read(row_of({"text": "A."})) == [[("<s>", False), ("A.</s>", True)]]


def test_a_system_message_that_the_template_moves_makes_a_sequence_of_each_answer():
    turns = [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = row_of({"messages": [{"role": role, "content": text} for role, text in turns]})
    first, second = data.as_read(row)
    assert [text for text, is_learnt in first if is_learnt] == [" b</s>"]
    assert first[0] == ("<s>[INST] S\n\na[/INST]", False)
    assert [text for text, is_learnt in second if is_learnt] == [" d</s>"]


def test_a_template_that_refuses_is_told():
    with pytest.raises(DataError, match="cannot be filled"):
        data.as_read(row_of({"instruction": "a", "output": "b"}), "{{ raise_exception('no') }}")
