"""Gates, names, and the shipped files."""

import pytest

from remote.control.config.checks.check import check
from remote.control.config.inventory import Inventory, load_inventory
from remote.control.config.playbook import Playbook, StageEntry, load_playbook, parse_gate
from remote.control.errors import ConfigError
from remote.control.project import CODE


@pytest.mark.parametrize(
    ("gate", "value", "holds"),
    [
        (">0.75", 0.76, True),
        (">0.75", 0.75, False),
        (">= 0.75", 0.75, True),
        ("<2e-1", 0.1, True),
        ("<=3", 3, True),
        ("==3", 3, True),
        ("!=3", 3, False),
        (">0", None, False),
        (">0", float("nan"), False),
        ("<0", float("nan"), False),
        (">0", "1", False),
        ("==stop", "stop", True),
        ("==stop", "length", False),
        ("!=stop", "length", True),
        ("==true", True, True),
        ("==true", 1, False),
        (">0", True, False),
        ("==1", True, False),
    ],
)
def test_gates(gate, value, holds):
    assert parse_gate(gate).holds(value) is holds


@pytest.mark.parametrize("text", ["0.75", ">", "=>1", ">x", ">nan", ">inf", "", "> 1 2"])
def test_what_is_no_gate(text):
    with pytest.raises(ValueError, match="such as"):
        parse_gate(text)


def test_a_playbook_by_its_bare_name():
    assert load_playbook("golden-path").path == CODE / "playbooks/golden-path.yaml"


def test_recipes_lie_beside_the_playbook_or_in_the_project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "own.yaml").write_text("base: {name: x}\n")
    (tmp_path / "shared.yaml").write_text("base: {name: x}\n")
    text = (
        "name: a\nstages:\n  one: {uses: train, recipe: own.yaml}\n  two: {uses: train, recipe:"
        " shared.yaml}\n  three: {uses: pull}\n"
    )
    (folder / "book.yaml").write_text(text)
    playbook = load_playbook("books/book.yaml")
    assert [playbook.recipe_path(label) for label in playbook.stages] == [
        folder / "own.yaml",
        tmp_path / "shared.yaml",
        None,
    ]


@pytest.mark.parametrize(
    "path", sorted((CODE / "playbooks").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_shipped_playbook_is_wired_right(path):
    assert check(load_playbook(path), load_inventory(), fit=False) == []


def test_the_golden_path_fits_a_g5_and_not_the_demo_box():
    inventory = Inventory.model_validate(
        {
            "default_box": "demo",
            "boxes": {
                "demo": {"provider": "embedded", "name": "demo"},
                "gpu": {"provider": "ec2", "region": "us-east-1", "name": "gpu"},
            },
        }
    )
    playbook = load_playbook("golden-path")
    assert check(playbook, inventory, "gpu") == []
    assert "no GPU" in str(check(playbook, inventory))


def test_a_playbook_made_in_memory_names_its_keys():
    playbook = Playbook(
        name="x", stages={"train": StageEntry(uses="train", with_={"train": "prepare.train"})}
    )
    findings = check(playbook, load_inventory())
    assert {finding.where for finding in findings} == {"stages.train", "stages.train.with.train"}


def test_an_unknown_box_names_the_known_ones():
    with pytest.raises(ConfigError, match="finding") as error:
        load_inventory().box("demmo")
    assert "did you mean `demo`" in str(error.value.findings[0])


def test_an_inventory_without_a_file_of_ones_own_is_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    assert load_inventory().box().provider == "embedded"


@pytest.mark.parametrize("name", ["dataset", "held_out"])
@pytest.mark.parametrize(
    ("content", "words", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer", "lfs pull"),
        (b"\x04\x22\x4d\x18", "is LZ4", "lz4 -dc"),
        ('{"instruction": "a"}'.encode("utf-16"), "is UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
        (b"%PDF-1.7\n", "is a PDF", "export it"),
    ],
)
def test_a_dataset_of_another_kind_is_found_on_the_laptop(
    tmp_path, monkeypatch, name, content, words, remedy
):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "odd.jsonl").write_bytes(content)
    wired = {"dataset": "rows.jsonl", name: "odd.jsonl"}
    (finding,) = check(
        Playbook(name="a", stages={"prepare": StageEntry(uses="prepare", with_=wired)}),
        load_inventory(),
        fit=False,
    )
    assert finding.what == f"`{name}: odd.jsonl`: odd.jsonl {words}" and remedy in finding.remedy


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00", b"instruction,output\na,b\n", b'[{"text": "a"}]', b"PAR1" + bytes(8)],
)
def test_what_prepare_reads_is_no_finding(tmp_path, monkeypatch, content):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "rows").write_bytes(content)
    stage = StageEntry(uses="prepare", with_={"dataset": "rows"})
    assert not check(Playbook(name="a", stages={"prepare": stage}), load_inventory(), fit=False)


def test_a_base_of_the_hub_without_a_chat_template_is_found_on_the_laptop(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "inventory.yaml").write_text(
        "default_box: gpu\nboxes:\n  gpu: {provider: ec2, region: us-east-1, models:"
        " [mistralai/Mistral-7B-v0.3]}\n"
    )
    stage = StageEntry(uses="train", recipe="own.yaml", with_={"train": "rows.jsonl"})
    own, found = tmp_path / "own.yaml", []
    for more in ("", "\n  chat_template: mistral-v3", "\n  path: /my/own"):
        own.write_text(f"base:\n  name: mistralai/Mistral-7B-v0.3{more}\n")
        found.append(
            check(Playbook(name="a", stages={"train": stage}), load_inventory(), fit=False)
        )
    (finding,), named, at_a_path = found
    assert finding.where == "own.yaml:2" and finding.what.endswith("brings no chat template")
    assert (
        finding.remedy == "add `chat_template: mistral-v3` below `base:`"
        and named == at_a_path == []
    )
