"""A mark that is damaged or gone never becomes a new one: a second box would be paid for, and the
first be lost sight of."""

import subprocess

import pytest

from remote.control import project as places
from remote.control.cloud import boxes, reap
from remote.control.cloud.access import keys
from remote.control.cloud.pricing import costs, prices
from remote.control.config.inventory import Inventory, StaticEntry, load_inventory
from remote.control.errors import CloudError, ConfigError, LaptopError
from remote.control.project import history, identity
from remote.control.ssh import known_hosts

from .conftest import HOST_KEY, OTHER_KEY

INVENTORY = "default_box: trainer\nboxes: {trainer: {provider: ec2, region: us-east-1}}\n"


@pytest.fixture
def inventory(cloud, project, monkeypatch):
    monkeypatch.setattr(prices, "_asked", lambda *_: None)
    (project / "inventory.yaml").write_text(INVENTORY)
    found = load_inventory()
    found.boxes["trainer"] = cloud.entry
    return found


@pytest.fixture
def launched(cloud, inventory):
    """A box of this checkout, and the mark under which it was launched."""
    box = boxes.ready(cloud.entry, cloud.say)
    return box, identity.project_mark()


def instances(cloud):
    told = cloud.ec2.describe_instances()["Reservations"]
    return [
        each["InstanceId"]
        for some in told
        for each in some["Instances"]
        if each["State"]["Name"] != "terminated"
    ]


def _bytes(content):
    return lambda path: path.write_bytes(content)


def _folder(path):
    path.unlink()
    path.mkdir()


def _link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


DAMAGES = {
    "empty": _bytes(b""),
    "a line end": _bytes(b"\n"),
    "spaces": _bytes(b"   \n"),
    "binary": _bytes(bytes(range(256))),
    "zeros after a crash": _bytes(b"\0" * 64),
    "two words": _bytes(b"my project\n"),
    "two lines": _bytes(b"my-project-1\nmy-project-2\n"),
    "JSON": _bytes(b'{"project": "x"}\n'),
    "endless": _bytes(b"x" * 1_000_000),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "a folder": _folder,
    "a link to itself": _link_to_itself,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_mark_is_an_error_and_no_second_box(cloud, launched, inventory, damage):
    box, mark = launched
    damage(places.mark_file())
    for ask in (
        lambda: boxes.ready(cloud.entry, cloud.say),
        lambda: boxes.plan(cloud.entry),
        lambda: boxes.listing(inventory),
        lambda: costs.survey(inventory),
        lambda: reap.Judge(inventory, lambda entry: None).finds(),
    ):
        with pytest.raises(LaptopError) as caught:
            ask()
        assert f"echo {mark} > " in caught.value.remedy and box.id in caught.value.why
        assert caught.value.where == str(places.mark_file())
    assert instances(cloud) == [box.id]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_command_of_the_error_brings_the_box_back(cloud, launched, inventory, damage):
    box, mark = launched
    damage(places.mark_file())
    with pytest.raises(LaptopError) as caught:
        identity.project_mark()
    subprocess.run(["sh", "-c", caught.value.remedy.split("`")[1]], check=True)
    assert identity.project_mark() == mark and boxes.find(cloud.entry).id == box.id


def test_a_mark_written_without_a_line_end_is_whole_where_the_history_knows_it(launched):
    _, mark = launched
    places.mark_file().write_text(mark)
    assert identity.project_mark() == mark


def test_without_a_launch_a_missing_mark_is_drawn(inventory):
    first = identity.project_mark()
    places.mark_file().unlink()
    assert identity.project_mark() not in ("", first)


def test_after_the_last_box_ended_a_missing_mark_is_the_one_before(cloud, launched):
    _, mark = launched
    boxes.terminate(cloud.entry)
    places.mark_file().unlink()
    assert identity.project_mark() == mark


def test_a_history_of_before_marks_were_remembered_says_how_to_learn_it():
    history.append("trainer", "launched", id="i-1", region="eu-west-1")
    with pytest.raises(LaptopError) as caught:
        identity.project_mark()
    assert (
        "aws ec2 describe-tags --region eu-west-1 --filters Name=resource-id,Values=i-1"
        in caught.value.remedy
    )


def test_a_shared_mark_of_the_inventory_does_not_replace_one_with_boxes(launched, project):
    (project / "inventory.yaml").write_text(f"project: other-mark\n{INVENTORY}")
    places.mark_file().unlink()
    with pytest.raises(LaptopError):
        identity.project_mark()


def test_a_damaged_mark_beside_one_that_the_inventory_names_is_no_fault(project):
    (project / "inventory.yaml").write_text(f"project: other-mark\n{INVENTORY}")
    places.mark_file().write_bytes(b"\xff\xfe")
    with pytest.raises(LaptopError):
        load_inventory()


def test_a_listing_of_hosts_that_stand_needs_no_mark(project):
    places.mark_file().write_text("")
    host = {"provider": "static", "host": "127.0.0.1", "port": 9, "host_key": "ssh-ed25519 AAAA"}
    boxes.listing(Inventory.model_validate({"default_box": "lab", "boxes": {"lab": host}}))


# ---- A mark that is whole, and another one ----


@pytest.fixture
def strange(launched):
    """The mark of another project where this checkout's was."""
    places.mark_file().write_text("another-project\n")
    return launched


def test_another_mark_launches_no_second_box(cloud, strange):
    box, mark = strange
    for ask in (
        boxes.find,
        boxes.plan,
        lambda entry: boxes.ready(entry, cloud.say),
        boxes.stop,
        boxes.terminate,
    ):
        with pytest.raises(CloudError) as caught:
            ask(cloud.entry)
        assert box.id in caught.value.where and f"echo {mark} > " in caught.value.remedy
    assert instances(cloud) == [box.id]


def test_cost_notices_what_the_mark_does_not_find(inventory, strange):
    box, mark = strange
    found = costs.survey(inventory)
    (item,) = [item for item in found.items if item.kind == "instance"]
    assert item.id == box.id and item.hourly_usd and f"echo {mark} > " in item.note
    assert [item.kind for item in found.items].count("volume") == 1, "and its disk"


def test_reap_notices_it_and_leaves_it_alone(cloud, inventory, strange):
    box, mark = strange
    for everything in (False, True):
        finds, _ = reap.Judge(inventory, lambda entry: None, everything).finds()
        (told,) = [find for find in finds if find.kind == "instance"]
        assert told.id == box.id and not told.action and f"echo {mark} > " in told.why
        assert not reap.all_taken(finds, inventory, cloud.say)
    assert instances(cloud) == [box.id]


def test_status_and_list_notice_it(inventory, strange):
    box, mark = strange
    (shown,) = boxes.listing(inventory)
    assert (shown.name, shown.id, shown.state) == (
        "trainer",
        box.id,
        "running",
    ) and f"echo {mark} > " in shown.note


def test_a_tag_that_was_taken_away_is_noticed(cloud, inventory, launched):
    box, mark = launched
    cloud.ec2.delete_tags(Resources=[box.id], Tags=[{"Key": identity.PROJECT_TAG}])
    (item,) = [item for item in costs.survey(inventory).items if item.kind == "instance"]
    assert (
        f"aws ec2 create-tags --region us-east-1 --resources {box.id} --tags"
        f" Key=windlass:project,Value={mark}" in item.note
    )
    with pytest.raises(CloudError):
        boxes.ready(cloud.entry, cloud.say)


def test_what_ended_meanwhile_is_forgotten(cloud, inventory, strange):
    box, _ = strange
    cloud.ec2.terminate_instances(InstanceIds=[box.id])
    assert boxes.find(cloud.entry) is None
    assert not [item for item in costs.survey(inventory).items if item.kind == "instance"]


# ---- What the inventory does not name any more ----


def test_a_box_whose_entry_went_is_found_in_the_region_where_it_was_launched(
    cloud, inventory, launched
):
    box, _ = launched
    elsewhere = cloud.entry.model_copy(update={"name": "other", "region": "eu-west-1"})
    inventory.boxes.clear()
    inventory.boxes["other"] = elsewhere
    assert box.id in [item.id for item in costs.survey(inventory).items]
    assert box.id in [each.id for each in boxes.listing(inventory)]


@pytest.mark.parametrize("name", ["trainer", "lab"])
def test_a_box_is_found_where_no_entry_names_its_cloud_any_more(inventory, launched, name):
    box, _ = launched
    inventory.boxes.clear()
    inventory.boxes[name] = StaticEntry(
        name=name, host="127.0.0.1", port=9, host_key="ssh-ed25519 AAAA"
    )
    assert box.id in [item.id for item in costs.survey(inventory).items]
    assert box.id in [each.id for each in boxes.listing(inventory)]


# ---- Other files of that kind ----


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[1]",
        b'"x"',
        b"{}",
        b'{"box": [], "kind": "launched", "at": 1}',
        b'{"box": "trainer", "kind": {}, "at": 1}',
        b'{"box": "trainer", "kind": "launched", "at": "x"}',
        b'{"box": "trainer", "kind": "launched", "at": 1, "id": 7, "region": {}}',
        b"[" * 50_000,
        b'{"box": ' * 50_000,
        bytes(range(256)),
    ],
)
def test_a_damaged_line_of_the_history_is_no_line(launched, project, line):
    box, mark = launched
    with (project / ".windlass/history.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert [(each.id, each.mark, each.provider) for each in history.launched()] == [
        (box.id, mark, "ec2")
    ]
    assert (
        history.regions("trainer") == ["us-east-1"]
        and history.last_mark() == mark
        and history.read("trainer")
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 400,
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ],
)
def test_a_damaged_key_of_our_own_says_what_it_opens(launched, cloud, content):
    path = keys.own_key_path()
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        boxes.ready(cloud.entry, cloud.say)
    (finding,) = caught.value.findings
    assert (
        "backup" in finding.remedy
        and "rm -r " in finding.remedy
        and "remove the line" not in finding.remedy
    )


def test_a_folder_in_the_place_of_our_own_key(launched, cloud):
    path = keys.own_key_path()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError) as caught:
        boxes.ready(cloud.entry, cloud.say)
    assert "backup" in caught.value.findings[0].remedy


@pytest.mark.parametrize(
    "content", [b"", b"ssh-ed25519\n", b"ssh-ed25519 AAAA\n", b"\xff\xfe\x00", b"<html>"]
)
def test_a_public_half_that_is_none_is_never_sent(tmp_path, content):
    key = tmp_path / "id"
    key.write_bytes(keys._new_key())
    (tmp_path / "id.pub").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        keys.public_line(key, "trainer")
    assert "ssh-keygen -y -f" in caught.value.findings[0].remedy


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xfe\x00", b"i-1 ssh-ed25519 AAAA", b"i-1", b"i-1 \n"]
)
def test_a_damaged_pin_is_no_pin(project, damage):
    known_hosts.pin("i-1", HOST_KEY)
    known_hosts.path().write_bytes(damage)
    assert known_hosts.pinned("i-1") == []
    known_hosts.pin("i-1", OTHER_KEY)
    assert known_hosts.pinned("i-1") == [OTHER_KEY]
