"""One box, boxes alike, boxes together."""

import pytest

from remote.control.config.inventory import load_inventory, place
from remote.control.errors import ConfigError

INVENTORY = """\
default_box: demo
boxes:
  demo: {provider: embedded}
  trainer:
    provider: embedded
    disk_gb: 30
    count: 3
groups:
  all: [demo, trainer]
  pair: [trainer-3, demo]
"""


@pytest.fixture
def inventory(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return load_inventory()


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ([], ["demo"]),
        (["trainer"], ["trainer-1", "trainer-2", "trainer-3"]),
        (["all"], ["demo", "trainer-1", "trainer-2", "trainer-3"]),
        (["pair", "trainer-3", "trainer-1"], ["trainer-3", "demo", "trainer-1"]),
    ],
)
def test_names_mean_boxes_each_once(inventory, names, meant):
    assert [entry.name for entry in inventory.resolve(names)] == meant


def test_boxes_alike_are_single_boxes_with_names_of_their_own(inventory):
    assert list(inventory.boxes) == ["demo", "trainer-1", "trainer-2", "trainer-3"]
    box = inventory.box("trainer-2")
    assert (box.name, box.count, box.disk_gb) == ("trainer-2", 1, 30)


def test_every_unknown_name_is_told(inventory):
    with pytest.raises(ConfigError) as error:
        inventory.resolve(["demo", "trainer-4", "dem"])
    assert [finding.what for finding in error.value.findings] == ["no box `trainer-4` or group", "no box `dem` or group"]
    assert "demo" in error.value.findings[1].remedy


def test_a_group_is_not_one_box(inventory):
    with pytest.raises(ConfigError) as error:
        inventory.box("all")
    assert "4 boxes" in error.value.findings[0].what


def test_a_box_of_a_count_stands_where_the_file_has_it(inventory):
    assert inventory.where("boxes", "trainer-2", "disk_gb").endswith("inventory.yaml:6")
    assert place("boxes", "trainer-2", "disk_gb") == "inventory.yaml:6: boxes.trainer.disk_gb"


def test_the_default_may_be_a_box_of_a_count(tmp_path):
    (tmp_path / "inventory.yaml").write_text(INVENTORY.replace("default_box: demo", "default_box: trainer-1"))
    assert load_inventory(tmp_path / "inventory.yaml").box().name == "trainer-1"
