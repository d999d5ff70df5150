"""Paths as a person typed them, from wherever that person stands."""

import pytest

from remote.control import project


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "train.jsonl").write_text("{}")
    (tmp_path / "sub/own.jsonl").write_text("{}")
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("stands", "typed", "meant"),
    [
        ("", "train.jsonl", "./train.jsonl"),
        ("", "sub/own.jsonl", "sub/own.jsonl"),
        ("sub", "own.jsonl", "sub/own.jsonl"),
        ("sub", "../train.jsonl", "./train.jsonl"),
        ("sub", "train.jsonl", "train.jsonl"),  # not there: the project has it
        ("sub", "box:/data/train.jsonl", "box:/data/train.jsonl"),
        ("sub", "demo", "demo"),
        ("sub", "", ""),
        ("sub", "~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("sub", "nul\0byte", "nul\0byte"),
    ],
)
def test_a_typed_path_is_of_where_one_stands(root, monkeypatch, stands, typed, meant):
    monkeypatch.chdir(root / stands)
    assert project.typed(typed) == meant
    if meant.endswith("jsonl") and not meant.startswith("box:"):
        assert project.find_file(meant).is_file()


def test_outside_the_project_it_is_absolute(root, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "train.jsonl").write_text("{}")
    monkeypatch.chdir(elsewhere)
    assert project.typed("train.jsonl") == str(elsewhere / "train.jsonl")


def test_in_a_folder_that_is_gone(root, monkeypatch):
    (root / "gone").mkdir()
    monkeypatch.chdir(root / "gone")
    (root / "gone").rmdir()
    assert project.typed("train.jsonl") == "train.jsonl"


def test_a_bare_name_is_the_file_of_its_folder_not_a_folder_of_that_name(root):
    (root / "demo").mkdir()
    assert project.named_file("demo", "playbooks/recipes").name == "demo.yaml"
    assert "mistral-7b-golden" in project.names_in("playbooks/recipes")
