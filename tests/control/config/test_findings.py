"""Every finding of the files under bad/ against bad/*.expected: adding a case needs no code."""

import os
from pathlib import Path

import pytest

from remote.control.config.checks.check import check
from remote.control.config.data_recipe import load_data_recipe
from remote.control.config.inventory import load_inventory
from remote.control.config.playbook import load_playbook
from remote.control.config.recipe import load_recipe
from remote.control.errors import ConfigError

BAD = Path(__file__).parent / "bad"


@pytest.fixture(autouse=True)
def _in_bad(monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(BAD))


def _found(load, path):
    with pytest.raises(ConfigError) as error:
        load(path)
    return "".join(f"{finding}\n" for finding in error.value.findings)


def _compare(name, found):
    golden = BAD / f"{name}.expected"
    if os.environ.get("WINDLASS_UPDATE_GOLDENS"):
        golden.write_text(found)
    assert found == golden.read_text()


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("inventory", load_inventory),
        ("groups", load_inventory),
        ("recipe", load_recipe),
        ("playbook", load_playbook),
        ("data", load_data_recipe),
        ("files", load_data_recipe),
    ],
)
def test_all_findings_of_a_file_at_once(name, load):
    _compare(name, _found(load, BAD / f"{name}.yaml"))


def test_all_findings_of_the_wiring_at_once():
    good = BAD / "good" / "inventory.yaml"
    findings = check(load_playbook(BAD / "wiring.yaml"), load_inventory(good))
    _compare("wiring", "".join(f"{finding}\n" for finding in findings))


def test_a_recipe_that_does_not_fit_the_box():
    inventory = load_inventory(BAD / "good" / "inventory.yaml")
    playbook = load_playbook(BAD / "unfit.yaml")
    found = {
        box: [str(finding) for finding in check(playbook, inventory, box)]
        for box in inventory.boxes
    }
    _compare(
        "unfit",
        "".join(f"{box}: {line}\n" for box, lines in found.items() for line in lines or ["ok"]),
    )
