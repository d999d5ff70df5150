"""YAML as values with lines."""

import pytest

from remote.control.config.yaml.source import read


def _read(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("2e-4", 2e-4),
        ("1E5", 1e5),
        ("0x10", 16),
        ("012", 12),
        ("22:30", "22:30"),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("[1, a]", [1, "a"]),
        ("{a: 1}", {"a": 1}),
        (".inf", float("inf")),
        ("-1.5", -1.5),
        ("NO", "NO"),
    ],
)
def test_scalars_follow_yaml_1_2(tmp_path, text, value):
    found = _read(tmp_path, f"key: {text}\n")
    assert found.value == {"key": value} and type(found.value["key"]) is type(value)
    assert not found.findings


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: b: c\n", 1, "not YAML"),
        ("a:\n\t- b\n", 2, "spaces, not tabs"),
        ("x: 1\ngates: {m: >0.75}\n", 2, "quotes"),
        ("a: [1,\n", 2, "not YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "`a` stands twice"),
        ("", 1, "the file is empty"),
        ("# words\n", 1, "the file is empty"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        ("a: !thing 1\n", 1, "a tag"),
        ("a: &x [1, *x]\n", 1, "an alias inside its own anchor"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("? [a]\n: 1\n", 1, "no plain word"),
        ("a: \x00\n", 1, "not YAML"),
        ("[" * 100, 1, "not YAML"),
    ],
)
def test_every_fault_is_a_finding_with_its_line(tmp_path, text, line, words):
    finding, *_ = _read(tmp_path, text).findings
    assert finding.where.endswith(f"file.yaml:{line}")
    assert words in str(finding)


def test_a_missing_file_is_a_finding(tmp_path):
    (finding,) = read(tmp_path / "absent.yaml").findings
    assert "there is no such file" in finding.what


def test_a_folder_is_a_finding(tmp_path):
    (finding,) = read(tmp_path).findings
    assert "cannot be read" in finding.what


def test_lines_of_nested_values(tmp_path):
    found = _read(tmp_path, "a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert [
        found.where(*keys).rpartition(":")[2]
        for keys in [("a",), ("a", "b"), ("a", "c", 1), ("a", "c", 9), ("z",)]
    ] == ["1", "2", "5", "3", "1"]
