"""Listing and reporting boxes."""

import re
from types import SimpleNamespace

import pytest

from remote.control.cloud import boxes
from remote.control.commands.views.boxes.listing import BOX_COLUMNS, box_record, box_rows
from remote.control.config.inventory import StaticEntry
from remote.control.errors import BoxStopped
from remote.control.project import identity

from .conftest import HOST_KEY


def test_a_box_that_was_never_launched(cloud):
    for refuse in (boxes.running, lambda entry: boxes.start(entry, print)):
        with pytest.raises(BoxStopped) as caught:
            refuse(cloud.entry)
        assert caught.value.remedy == "`./inv launch trainer`"


def test_the_listing_tells_every_box_and_every_stray(cloud):
    up = boxes.ready(cloud.entry, cloud.say)
    tags = [{"Key": key, "Value": value} for key, value in identity.tags("forgotten", {}).items()]
    cloud.ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    entries = {
        "trainer": cloud.entry,
        "spare": cloud.entry.model_copy(update={"name": "spare"}),
        "lab": StaticEntry(name="lab", host="lab.example.org", user="me", host_key=HOST_KEY),
        "blind": StaticEntry(name="blind", host="blind.example.org", user="me"),
    }
    listing = boxes.listing(SimpleNamespace(boxes=entries))
    assert {len(row) for row in box_rows(listing)} == {len(BOX_COLUMNS)}
    rows = {box.name: box_record(box) for box in listing}
    assert rows["trainer"] | {"up_since": None} == {
        "name": "trainer",
        "provider": "ec2",
        "id": up.id,
        "state": "running",
        "type": "g5.2xlarge",
        "region": "us-east-1",
        "address": up.address,
        "up_since": None,
        "usd_per_hour": 1.212,
        "note": "",
    }
    assert rows["trainer"]["up_since"].endswith("+00:00")
    assert rows["spare"]["state"] == "absent"
    assert rows["lab"]["address"] == "lab.example.org:22"
    assert rows["blind"]["state"] == "unknown"
    assert "no `host_key`" in rows["blind"]["note"]
    assert "not in inventory.yaml" in rows["forgotten"]["note"]


def test_a_stopped_box_costs_nothing_by_the_hour(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    stopped = boxes.stop(cloud.entry)
    row = box_record(stopped)
    assert (row["state"], row["usd_per_hour"], row["address"], row["up_since"]) == (
        "stopped",
        None,
        "",
        None,
    )
    up, down = box_rows([box, stopped])
    assert up[BOX_COLUMNS.index("$/h")] == "1.212"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", up[BOX_COLUMNS.index("up since (UTC)")])
    assert down[3:-1] == ["stopped", "g5.2xlarge", "us-east-1", "", "", ""]
    assert down[-1] == "user: stopped by hand or by a command (Client.UserInitiatedShutdown)"


def test_a_cloud_that_can_not_be_asked_hides_no_other_box(cloud):
    from dataclasses import replace

    cloud.endpoint = replace(cloud.endpoint, url="http://127.0.0.1:1")
    entries = {
        "trainer": cloud.entry,
        "lab": StaticEntry(name="lab", host="lab", user="me", host_key=HOST_KEY),
    }
    trainer, lab = boxes.listing(SimpleNamespace(boxes=entries))
    assert trainer.state == "unknown"
    assert "does not answer" in trainer.note
    assert lab.state == "running"
