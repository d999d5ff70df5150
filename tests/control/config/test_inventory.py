"""One box, boxes alike, boxes together."""

import threading

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
    assert [finding.what for finding in error.value.findings] == [
        "no box `trainer-4` or group",
        "no box `dem` or group",
    ]
    assert "demo" in error.value.findings[1].remedy


def test_a_group_is_not_one_box(inventory):
    with pytest.raises(ConfigError) as error:
        inventory.box("all")
    assert "4 boxes" in error.value.findings[0].what


def test_a_box_of_a_count_stands_where_the_file_has_it(inventory):
    assert inventory.where("boxes", "trainer-2", "disk_gb").endswith("inventory.yaml:6")
    assert place("boxes", "trainer-2", "disk_gb") == "inventory.yaml:6: boxes.trainer.disk_gb"


def test_the_default_may_be_a_box_of_a_count(tmp_path):
    (tmp_path / "inventory.yaml").write_text(
        INVENTORY.replace("default_box: demo", "default_box: trainer-1")
    )
    assert load_inventory(tmp_path / "inventory.yaml").box().name == "trainer-1"


def test_the_same_content_is_parsed_once_and_a_changed_one_anew(inventory, tmp_path):
    assert load_inventory().boxes["demo"] is inventory.boxes["demo"]
    (tmp_path / "inventory.yaml").write_text(INVENTORY.replace("disk_gb: 30", "disk_gb: 31"))
    changed = load_inventory()
    assert (inventory.box("trainer-2").disk_gb, changed.box("trainer-2").disk_gb) == (30, 31)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    assert load_inventory().boxes["demo"] is inventory.boxes["demo"]
    (tmp_path / "inventory.yaml").write_text("boxes: {}")
    for _ in range(2):
        with pytest.raises(ConfigError, match="findings"):
            load_inventory()
    (tmp_path / "inventory.yaml").unlink()
    assert list(load_inventory().boxes) != list(inventory.boxes), "the shipped one"


def test_64_threads_have_it_parsed_once(inventory, tmp_path):
    (tmp_path / "inventory.yaml").write_text(INVENTORY.replace("disk_gb: 30", "disk_gb: 32"))
    together, found = threading.Barrier(64), []

    def ask():
        together.wait(20)
        found.append(load_inventory())

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 64 and len({id(each.boxes["trainer-1"]) for each in found}) == 1
    assert found[0].box("trainer-1").disk_gb == 32


def test_what_a_caller_changes_is_its_own(inventory):
    inventory.boxes["demo"] = inventory.boxes["trainer-1"]
    del inventory.groups["pair"]
    again = load_inventory()
    assert again.box("demo").name == "demo" and "pair" in again.groups
    assert again.where("boxes", "trainer", "disk_gb").endswith("inventory.yaml:6")


def test_what_stands_outside_of_the_file_is_looked_at_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    file = tmp_path / "inventory.yaml"
    file.write_text(
        "project: ours-1234\ndefault_box: a\nboxes: {a: {provider: embedded, ssh_key: ~/key}}\n"
    )
    assert load_inventory().where("boxes", "a") == "inventory.yaml:3"
    (tmp_path / ".windlass").mkdir(exist_ok=True)
    (tmp_path / ".windlass/project").write_text("theirs-5678\n")
    with pytest.raises(ConfigError) as error:
        load_inventory()
    assert "theirs-5678" in error.value.findings[0].what
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "another"))
    elsewhere = load_inventory(file)
    assert elsewhere.box().ssh_key == tmp_path / "home/key"
    assert elsewhere.where("boxes", "a") == f"{file}:3"
