"""Baked images and boxes that move, by the typed commands: the disk comes along, nothing is lost
and nothing is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Collection

from remote.control import project
from remote.control.cloud import boxes, embedded
from remote.control.cloud.account import endpoint
from remote.control.cloud.ec2 import images
from remote.control.commands.boxes import setup as verbs
from remote.control.config.inventory import load_inventory
from remote.control.project import identity
from tests.integration.typed import in_process

INVENTORY = """\
default_box: demo
boxes:
  demo:
    provider: embedded
    zone: us-east-1a
  like:
    provider: embedded
  larger:
    provider: embedded
    instance_type: g5.2xlarge
"""
WEST = {"region": "us-west-2"}


def silent(_line):
    pass


@pytest.fixture
def entry(embedded_project):
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    entry = load_inventory().box()
    yield entry
    for each in load_inventory().boxes.values():
        boxes.terminate(each)
    for region in ("us-east-1", "us-west-2"):
        there = endpoint.of_entry(entry).in_region(region)
        for image in images.listing(there):
            images.remove(there, image)
        images.remove_snapshots(there, images.orphans(there))


def inv(capsys, words):
    return in_process(capsys, Collection(verbs.bake, verbs.move, verbs.images), words)


def disk(box):
    return Path(embedded.describe(embedded.endpoint(), box.id)["disk"])


def alive(region):
    ec2 = endpoint.of_entry(load_inventory().box()).in_region(region).client("ec2")
    found = ec2.describe_instances(
        Filters=[{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]
    )
    every = [each for group in found["Reservations"] for each in group["Instances"]]
    return [each["InstanceId"] for each in every if each["State"]["Name"] != "terminated"]


def left():
    """Images and snapshots of the project, in both regions."""
    home = endpoint.of_entry(load_inventory().box())
    found = []
    for there in (home, home.in_region("us-west-2")):
        found += [image.id for image in images.listing(there)] + images.orphans(there)
    return found


def test_a_box_is_baked_and_the_next_one_starts_from_it(entry, capsys):
    box = boxes.ready(entry, silent)
    (disk(box) / "windlass").mkdir(exist_ok=True)
    (disk(box) / "windlass/weights").write_text("heavy")
    (disk(box) / "windlass/grant.json").write_text("the right to write to a bucket")
    code, _, err = inv(capsys, "bake")
    assert (code, "--yes" in err) == (2, True)
    assert boxes.find(entry).state == "running"
    code, out, _ = inv(capsys, "bake --dry-run --json")
    assert (code, json.loads(out)["would_stop"], left()) == (0, True, [])

    code, out, err = inv(capsys, "bake --yes --json")
    assert code == 0, err
    baked = json.loads(out)
    assert (baked["kind"], baked["state"], baked["usd_per_month"]) == ("baked", "available", None)
    assert boxes.running(entry).id == box.id

    like = load_inventory().box("like")
    there = endpoint.of_entry(like)
    assert images.baked(like, there) == baked["id"]
    other = boxes.ready(like, silent)
    assert (disk(other) / "windlass/weights").read_text() == "heavy"
    assert not (disk(other) / "windlass/grant.json").exists()
    assert images.baked(load_inventory().box("larger"), there) is None
    assert images.baked(like.model_copy(update={"root": "elsewhere"}), there) is None
    assert images.baked(like.model_copy(update={"disk_gb": 1}), there) is None


def test_a_stopped_box_stays_stopped_and_a_begun_image_is_waited_for(entry, capsys):
    box = boxes.ready(entry, silent)
    boxes.stop(entry)
    there = endpoint.of_entry(entry)
    tags = {
        **identity.tags("demo", {}),
        images.KIND_TAG: images.BAKED,
        images.ENVIRONMENT_TAG: "older",
        "windlass:then": "stop",
    }
    begun = images.create(there, box.id, tags)
    code, out, err = inv(capsys, "bake --json")
    assert code == 0, err
    if json.loads(out)["id"] != begun:  # it was ready before the command looked
        assert len(images.listing(there)) == 2
    assert boxes.find(entry).state == "stopped"


def test_images_are_listed_and_the_useless_pruned(entry, capsys):
    boxes.ready(entry, silent)
    boxes.stop(entry)
    made = [json.loads(inv(capsys, "bake --json")[1])["id"] for _ in range(2)]
    there = endpoint.of_entry(entry)
    lost = images.listing(there)[0]
    code, out, _ = inv(capsys, "images --json")
    told = {each["id"]: each["useless"] for each in json.loads(out)["images"]}
    assert (code, told) == (0, {made[0]: "a newer one is alike", made[1]: ""})
    code, _, err = inv(capsys, "images --prune")
    assert (code, "--yes" in err) == (2, True)
    there.client("ec2").deregister_image(ImageId=lost.id)
    code, out, _ = inv(capsys, "images --json")
    assert json.loads(out)["snapshots_of_no_image"] == [
        {"region": "us-east-1", "id": lost.snapshots[0]}
    ]
    assert inv(capsys, "images --prune --yes")[0] == 0
    assert left() == [made[1]]
    assert made[1] in inv(capsys, "images")[1]


@pytest.mark.parametrize("to", ["--zone us-east-1b", "--region us-west-2"])
def test_a_box_moves_with_its_disk(entry, capsys, to):
    old = boxes.ready(entry, silent)
    (disk(old) / "windlass").mkdir(exist_ok=True)
    (disk(old) / "windlass/checkpoint").write_text("step 700")
    code, _, err = inv(capsys, f"move {to}")
    assert (code, "--yes" in err, old.id in err) == (2, True, True)
    assert (boxes.find(entry).id, left()) == (old.id, [])

    code, out, err = inv(capsys, f"move {to} --yes --json")
    assert code == 0, err
    told = json.loads(out)
    region = "us-west-2" if "west" in to else "us-east-1"
    assert (told["region"], told["state"]) == (region, "running")
    assert told["id"] != old.id
    assert region == "us-west-2" or told["zone"] == "us-east-1b"
    new = boxes.running(entry)
    assert new.id == told["id"]
    assert (disk(new) / "windlass/checkpoint").read_text() == "step 700"
    assert left() == []
    assert alive(region) == [new.id]
    assert region == "us-east-1" or alive("us-east-1") == []
    assert "inventory.yaml" in err

    code, _, err = inv(capsys, f"move {to} --yes")
    assert (code, "already" in err) == (20, True)


KILLED = """
import os, sys
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
from remote.control.setup import move
entry = load_inventory().box()
operation, moment = sys.argv[1], sys.argv[2]
client = endpoint.of_entry(entry).client("ec2")
client.meta.events.register(f"{moment}.ec2.{operation}", lambda **_: os._exit(9))
move.carry_out(move.plan(entry, "us-east-1b", ""), print)
"""


@pytest.mark.parametrize(
    ("operation", "moment"),
    [
        ("CreateImage", "after-call"),
        ("RunInstances", "before-send"),
        ("RunInstances", "after-call"),
        ("TerminateInstances", "before-send"),
        ("DeregisterImage", "before-send"),
        ("DeleteSnapshot", "before-send"),
    ],
)
def test_a_move_that_was_killed_goes_on_and_loses_nothing(entry, capsys, operation, moment):
    old = boxes.ready(entry, silent)
    (disk(old) / "kept").write_text("whole")
    environment = {**os.environ, "PYTHONPATH": str(project.CODE)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, operation, moment],
        cwd=project.CODE,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == 9, killed.stderr
    code, _, err = inv(capsys, "move --zone us-east-1b --yes")
    # The deletion of the last snapshot is all that was left then: the box is there, and the
    # snapshot is pruned.
    assert code == (20 if operation == "DeleteSnapshot" else 0), err
    new = boxes.running(entry)
    assert (new.zone, (disk(new) / "kept").read_text()) == ("us-east-1b", "whole")
    assert alive("us-east-1") == [new.id]
    if operation == "DeleteSnapshot":
        assert inv(capsys, "images --prune --yes")[0] == 0
    assert left() == []


def test_an_image_from_before_the_last_start_is_made_anew(entry, capsys):
    box = boxes.ready(entry, silent)
    boxes.stop(entry)
    there = endpoint.of_entry(entry)
    stale = images.create(
        there, box.id, {**identity.tags("demo", {}), images.KIND_TAG: images.MOVE}
    )
    images.wait(there, stale, silent)
    boxes.start(entry, silent)
    (disk(box) / "later").write_text("written after the image")
    code, _, err = inv(capsys, "move --zone us-east-1b --yes")
    assert code == 0, err
    assert (disk(boxes.running(entry)) / "later").read_text() == "written after the image"
    assert left() == []


def test_no_capacity_in_the_new_place_keeps_the_box(entry, capsys):
    box = boxes.ready(entry, silent)
    embedded.inject(embedded.endpoint(), {"kind": "capacity", "zone": "us-east-1b"})
    try:
        code, _, err = inv(capsys, "move --zone us-east-1b --yes")
    finally:
        embedded.clear(embedded.endpoint(), None)
    assert code == 21, err
    assert boxes.find(entry).id == box.id
    assert boxes.start(entry, silent).id == box.id
    assert alive("us-east-1") == [box.id]


def test_where_the_type_is_not_offered_nothing_is_begun(entry, capsys):
    box = boxes.ready(entry, silent)
    code, _, err = inv(capsys, "move --zone us-east-1z --yes")
    assert (code, "is not offered in us-east-1z" in err) == (20, True)
    code, _, err = inv(capsys, "move --zone us-east-1b --region us-west-2 --yes")
    assert (code, "is not in region us-west-2" in err) == (20, True)
    assert (boxes.find(entry).state, boxes.find(entry).id, left()) == ("running", box.id, [])


def test_an_adopted_instance_is_left_to_its_owner(entry, capsys, embedded_project):
    theirs = boxes.ready(load_inventory().box("like"), silent)
    ec2 = endpoint.of_entry(entry).client("ec2")
    ec2.delete_tags(
        Resources=[theirs.id], Tags=[{"Key": identity.BOX_TAG}, {"Key": identity.PROJECT_TAG}]
    )
    (disk(theirs) / "kept").write_text("whole")
    with_id = INVENTORY.replace("zone: us-east-1a", f"instance_id: {theirs.id}")
    (embedded_project / "inventory.yaml").write_text(with_id)
    code, out, err = inv(capsys, "move --zone us-east-1b --yes --json")
    assert code == 0, err
    assert "remove `instance_id:`" in err
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    new = boxes.running(load_inventory().box())
    assert (new.id, (disk(new) / "kept").read_text()) == (json.loads(out)["id"], "whole")
    (told,) = ec2.describe_instances(InstanceIds=[theirs.id])["Reservations"][0]["Instances"]
    assert told["State"]["Name"] == "stopped"
    assert not [tag for tag in told.get("Tags", ()) if tag["Key"].startswith("windlass:")]
    ec2.terminate_instances(InstanceIds=[theirs.id])
    assert left() == []


def test_a_host_that_stands_neither_bakes_nor_moves(entry, capsys, embedded_project):
    (embedded_project / "inventory.yaml").write_text(
        "default_box: lab\nboxes:\n  lab: {provider: static, host: 127.0.0.1, user: me}\n"
    )
    for words in ("bake", "move --zone us-east-1b"):
        code, _, err = inv(capsys, words)
        assert (code, "a host that stands" in err) == (20, True)
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
