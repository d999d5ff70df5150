"""Whose boxes they are: a mark of its own for each checkout, or one that the inventory shares."""

import pytest

from remote.control import project
from remote.control.config.inventory import load_inventory
from remote.control.errors import ConfigError
from remote.control.project import identity

INVENTORY = "default_box: gpu\nboxes: {gpu: {provider: ec2, region: us-east-1}}\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    def enter(name, text=INVENTORY):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "inventory.yaml").write_text(text)
        monkeypatch.setenv("WINDLASS_PROJECT", str(folder))

    return enter


def test_two_checkouts_share_no_boxes_by_accident(checkout):
    checkout("one")
    first = identity.project_mark()
    assert first.startswith("one-") and identity.project_mark() == first
    checkout("two")
    assert identity.project_mark() != first


def test_two_checkouts_share_the_mark_that_their_inventory_names(checkout):
    checkout("one")
    shared = identity.project_mark()
    for name in ("one", "two"):
        checkout(name, f"project: {shared}\n{INVENTORY}")
        assert load_inventory().project == identity.project_mark() == shared
    assert identity.tags("gpu", {})[identity.PROJECT_TAG] == shared


def test_a_checkout_does_not_lose_sight_of_its_boxes(checkout):
    checkout("one")
    mark = identity.project_mark()
    checkout("one", f"project: other-mark\n{INVENTORY}")
    with pytest.raises(ConfigError) as caught:
        load_inventory()
    (finding,) = caught.value.findings
    assert finding.where.endswith("inventory.yaml:1") and f"project: {mark}" in finding.remedy
    assert project.mark_file().read_text().strip() == mark
