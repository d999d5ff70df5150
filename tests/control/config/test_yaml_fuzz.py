"""Whatever bytes stand in a configuration file: a ConfigError with file and line, within bounded
time, and nothing else."""

import json
import os
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.control import project
from remote.control.config.checks.check import check
from remote.control.config.checks.survey import survey
from remote.control.config.inventory import load_inventory, read_inventory
from remote.control.config.playbook import load_playbook, rest_of_playbook
from remote.control.config.recipe import load_recipe
from remote.control.config.yaml import source
from remote.control.errors import ConfigError

FUZZ = settings(
    max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

SHIPPED = {
    "inventory.yaml": re.sub(
        rb"(?m)^(  )?# (?= *[a-z_]+:| +- )", rb"\1", (project.CODE / "inventory.yaml").read_bytes()
    ),
    "playbooks/demo.yaml": (project.CODE / "playbooks/demo.yaml").read_bytes(),
    "playbooks/recipes/demo.yaml": (project.CODE / "playbooks/recipes/demo.yaml").read_bytes(),
}
"""The inventory with every commented key in force."""

PIECES = [
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!int",
    b"!!binary ",
    b"!!set ",
    b"!x ",
    b"%YAML 1.1\n---\n",
    b"---\n",
    b"...\n",
    b"? ",
    b": ",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"|",
    b">",
    b"'",
    b'"',
    b'"\\0"',
    b'"\\ud800"',
    b'"\\U00110000"',
    b"\t",
    b"\r",
    b"\x00",
    b"\x85",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b".inf",
    b".nan",
    b"-.inf",
    b"1e999",
    b"9" * 400,
    b"9" * 5000,
    b"0x",
    b"0b2",
    b"~",
    b"~nobody-at-all/x",
    b"null",
    b"true",
    b"2020-01-01",
    b"=",
    b"x" * 5000,
    b"../" * 100,
    b"[" * 60,
    b"box:",
    b"s3://",
    b"a.b",
    b"\n",
    b"\n\n  ",
    b"#",
]


@pytest.fixture(autouse=True)
def project_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "playbooks/recipes").mkdir(parents=True)
    return tmp_path


def test_the_inventory_with_every_key_in_force_is_one(project_folder):
    put(project_folder, "", b"")
    found = source.read(project_folder / "inventory.yaml")
    assert (
        {"gpu", "lab"} <= found.value["boxes"].keys()
        and {"groups", "ollama", "storage"} <= found.value.keys()
        and not found.findings
    )


def put(folder, name, content):
    for each, shipped in SHIPPED.items():
        (folder / each).write_bytes(content if each == name else shipped)


def reads_or_config_error(folder):
    """Everything that `check` reads, in the ways that other commands read it."""
    begun = time.process_time()
    for read in (
        load_inventory,
        lambda: load_playbook("playbooks/demo.yaml"),
        lambda: rest_of_playbook("playbooks/demo.yaml"),
        lambda: load_recipe("playbooks/recipes/demo.yaml"),
        lambda: check(load_playbook("playbooks/demo.yaml"), load_inventory()),
        lambda: survey(*read_inventory(), "playbooks/demo.yaml", None),
    ):
        try:
            read()
        except ConfigError as error:
            assert error.findings and all(
                finding.where and finding.what for finding in error.findings
            )
            "\n".join(error.lines()).encode()  # can be printed
    assert time.process_time() - begun < 30


@st.composite
def mutated(draw, content):
    """A file with some pieces put in, cut out, doubled or swapped."""
    for _ in range(draw(st.integers(1, 6))):
        at, size = draw(st.integers(0, len(content))), draw(st.integers(0, 40))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        content = draw(
            st.sampled_from(
                [
                    content[:at] + piece + content[at:],
                    content[:at] + content[at + size :],
                    content[:at] + piece + content[at + size :],
                    content[:at] + content[at : at + size] * 2 + content[at + size :],
                    content[:at],
                ]
            )
        )
    return content


@settings(FUZZ, max_examples=200)
@given(
    st.binary(max_size=400)
    | st.text("&*!?:-[]{}|>'\"#%@`~<, \n\tab01.x\\", max_size=200).map(str.encode)
)
def test_bytes_of_any_kind_are_read_or_told(tmp_path, content):
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    found = source.read(path)
    assert found.value is not None or found.findings or content.strip().decode(errors="replace")
    assert all(finding.where.startswith("file.yaml") for finding in found.findings)


@pytest.mark.parametrize("name", SHIPPED)
@FUZZ
@given(data=st.data())
def test_a_file_with_faults_is_a_config_error(project_folder, name, data):
    put(project_folder, name, data.draw(mutated(SHIPPED[name])))
    reads_or_config_error(project_folder)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, "~nobody-at-all/x", "a" * 300]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("name", SHIPPED)
@FUZZ
@given(data=st.data())
def test_a_value_of_the_wrong_type_anywhere_is_a_config_error(project_folder, name, data):
    path = project_folder / "shipped.yaml"
    path.write_bytes(SHIPPED[name])
    whole = source.read(path)
    value = data.draw(VALUES)
    keys = data.draw(st.sampled_from(sorted((keys for keys in whole.lines if keys), key=str)))
    around = whole.value
    for key in keys[:-1]:
        around = around[key]
    around[keys[-1]] = value
    put(project_folder, name, json.dumps(whole.value).encode())
    reads_or_config_error(project_folder)


def chain(count, width):
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, count)]
    return "\n".join(lines)


BOMBS = {
    "ten by ten": chain(10, 10),
    "two by two": chain(40, 2),
    "a long chain": chain(3000, 1),
    "maps": (
        "a0: &a0 {x: 1}\n"
        + "\n".join(
            f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}, z: *a{n - 1}}}" for n in range(1, 30)
        )
    ),
    "merge keys": (
        "a0: &a0 {x: 1}\n"
        + "\n".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 30))
    ),
    "in itself": "a: &a [*a, *a]\nb: &b {c: *b}",
    "brackets": "[" * 50_000,
    "braces": "{a: " * 20_000,
    "dashes": "- " * 50_000,
    "question marks": "? " * 50_000,
    "many values": "[" + "1, " * 40_000 + "]",
    "many keys": "\n".join(f"k{n}: {n}" for n in range(9_000)),
    "many boxes": (
        "default_box: a\nboxes:\n"
        + "\n".join(f"  b{n}: {{provider: embedded, porvider: 1}}" for n in range(2_000))
    ),
    "one long word": "a" * 120_000,
    "one long number": "a: " + "1" * 120_000,
    "too large": "a: 1\n" * 100_000,
    "comments": "#\n" * 60_000,
    "anchors": "\n".join(f"k{n}: &k{n} 1" for n in range(4_000)),
    "directives": "%A\n" * 30_000 + "--- 1",
}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_a_config_error_at_once(project_folder, name, bomb):
    put(project_folder, name, bomb.encode())
    path, begun = project_folder / name, time.process_time()
    load = {
        "inventory.yaml": load_inventory,
        "playbooks/demo.yaml": lambda: load_playbook(path),
    }.get(name, lambda: load_recipe(path))
    with pytest.raises(ConfigError) as caught:
        load()
    assert len(caught.value.findings) <= 500 and time.process_time() - begun < 15


def test_a_file_as_large_as_may_be_is_read(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("a: |\n" + "  words\n" * ((source.MAX_BYTES - 100) // 8))
    assert source.read(path).value["a"].startswith("words") and not source.read(path).findings


def test_aliases_within_reason_are_values(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("clocks: &c {idle: 30m}\nboxes: {a: {clocks: *c}, b: {clocks: *c}}\n")
    assert source.read(path).value["boxes"] == {
        "a": {"clocks": {"idle": "30m"}},
        "b": {"clocks": {"idle": "30m"}},
    }


@pytest.mark.parametrize(
    "content",
    [
        "a: !!set {x}",
        "a: !!omap [x: 1]",
        "a: !!binary aGk=",
        "a: !!python/object/apply:os.system [ls]",
        "!x {a: 1}",
        "!!python/name:os.system a: 1",
        'a: "\\0"',
        'a: "\\e[31m"',
        'a: "\\ud800"',
        '"a\\0b": 1',
        "*a : 1",
        "&a a: *b",
    ],
)
def test_what_is_more_than_plain_values_is_a_finding(tmp_path, content):
    path = tmp_path / "file.yaml"
    path.write_text(f"# a comment\n{content}\n")
    finding, *_ = source.read(path).findings
    assert finding.where == "file.yaml:2"


def test_a_pipe_or_a_device_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path, project.Path("/dev/zero")):
        (finding,) = source.read(path).findings
        assert "cannot be read" in finding.what


def test_recipes_that_build_on_one_another_without_end(tmp_path):
    for number in range(1200):
        (tmp_path / f"r{number}.yaml").write_text(f"extends: r{number + 1}.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(tmp_path / "r0.yaml")
    assert any("leads through more than" in finding.what for finding in caught.value.findings)


def test_a_recipe_over_a_large_one_is_merged_at_once(tmp_path):
    (tmp_path / "base.yaml").write_text("".join(f"k{n}: [1, 2]\n" for n in range(2_000)))
    (tmp_path / "over.yaml").write_text(
        "extends: base.yaml\n" + "".join(f"k{n}: [1]\n" for n in range(2_000))
    )
    begun = time.process_time()
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "over.yaml")
    assert time.process_time() - begun < 10
