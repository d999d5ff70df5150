"""Boxes of the embedded cloud with other hands on them: the console, the cloud's own refusals, the
market."""

import threading
import time

import pytest

from remote.control.cloud import boxes, embedded
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import EmbeddedEntry, Fallback
from remote.control.errors import BoxStopped, CapacityError, CloudError
from remote.control.project import history
from remote.control.ssh import known_hosts


@pytest.fixture
def entry(embedded_project):
    entry = EmbeddedEntry(name="demo", instance_type="g5.2xlarge", zone="us-east-1a")
    yield entry
    embedded.clear(embedded.endpoint())
    boxes.terminate(entry)
    assert not any(embedded.leaks(embedded.endpoint()).values())


def quiet(_line):
    return


def aws(entry):
    return endpoint.of_entry(entry).client("ec2")


def inject(kind, **facts):
    return embedded.inject(embedded.endpoint(), {"kind": kind, **facts})


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_box_moved_on_by_hand_is_taken_as_it_is(entry):
    box = boxes.ready(entry, quiet)
    aws(entry).stop_instances(InstanceIds=[box.id])
    assert boxes.find(entry).state in ("stopping", "stopped")
    assert boxes.start(entry, quiet).id == box.id  # waits for the end of the stop, then starts
    aws(entry).stop_instances(InstanceIds=[box.id])
    assert boxes.stop(entry).state == "stopped"
    assert boxes.ended_by(boxes.find(entry)).startswith("user: stopped")
    aws(entry).start_instances(InstanceIds=[box.id])
    assert boxes.stop(entry).state == "stopped"  # waits for the end of the start, then stops
    aws(entry).start_instances(InstanceIds=[box.id])
    assert boxes.start(entry, quiet).id == box.id
    assert boxes.ended_by(boxes.find(entry)) == ""


def test_a_box_ended_by_hand_while_it_is_waited_for(entry):
    box = boxes.ready(entry, quiet)
    boxes.stop(entry)
    said = []

    def meanwhile(line):
        said.append(line)
        if line.startswith("starting"):
            threading.Thread(
                target=lambda: aws(entry).terminate_instances(InstanceIds=[box.id])
            ).start()

    with pytest.raises((CloudError, BoxStopped)) as caught:
        boxes.start(entry, meanwhile)
    assert "./inv launch demo" in caught.value.remedy
    assert boxes.find(entry) is None
    assert boxes.ended_by(box).startswith("user: terminated")


def test_a_reboot_comes_back_with_the_same_key(entry):
    with pytest.raises(BoxStopped, match="there is no box demo"):
        boxes.reboot(entry)
    box = boxes.ready(entry, quiet)
    said = []
    again = boxes.reboot(entry, said.append)
    assert (again.id, again.launched_at) == (box.id, box.launched_at)
    assert said and all(line.startswith("demo: ") for line in said if line.endswith(" s"))
    boxes.stop(entry)
    with pytest.raises(BoxStopped, match="demo is stopped") as caught:
        boxes.reboot(entry)
    assert caught.value.remedy == "`./inv start demo`"


def test_the_phases_are_told_and_kept(entry):
    said = []
    box = boxes.ready(entry, said.append, set_deadlines=lambda entry, box: None)
    names = ["request", "running", "ssh", "host key", "arm"]
    told = [
        line.split(" ", 1)[1].rsplit(" ", 2)[0]
        for line in said
        if line.endswith(" s") and line.startswith("demo: ")
    ]
    assert told == [
        name for name in names if name in told
    ]  # those that took a moment alone, in their order
    kept = history.last("demo", "phases")
    assert (kept["action"], kept["id"], list(kept["seconds"])) == ("launch", box.id, sorted(names))
    assert all(seconds >= 0 for seconds in kept["seconds"].values())


def test_a_stopped_box_without_capacity_names_the_three_ways_and_is_kept(entry):
    box = boxes.ready(entry, quiet)
    boxes.stop(entry)
    inject("capacity", zone="us-east-1a")
    other = entry.model_copy(update={"fallbacks": [Fallback(zone="us-east-1b")]})
    for get in (boxes.start, boxes.ready):
        with pytest.raises(CapacityError) as caught:
            get(other, quiet)
        assert "./inv start demo --wait 30m" in caught.value.remedy
        assert "./inv box.move demo --zone us-east-1b" in caught.value.remedy
        assert "./inv launch demo --fresh" in caught.value.remedy
        assert "stopped" in caught.value.kept
    assert (boxes.find(other).id, boxes.find(other).state) == (box.id, "stopped")


def test_waiting_for_capacity_starts_the_same_box_once_there_is_some(entry):
    box = boxes.ready(entry, quiet)
    boxes.stop(entry)
    inject("capacity", zone="us-east-1a", count=2)
    said = []
    assert boxes.start(entry, said.append, wait_seconds=60).id == box.id
    assert sum("next try in" in line for line in said) == 2


def test_the_market_takes_a_spot_box_back(entry):
    spot = entry.model_copy(update={"market": "spot"})
    box = boxes.ready(spot, quiet)
    assert (box.market, box.zone) == ("spot", "us-east-1a")
    inject("spot-notice", box="demo", seconds=0.2)
    until(lambda: boxes.find(spot) is None)
    assert boxes.ended_by(box).startswith("spot: ")


def test_a_box_in_another_region_is_found_from_all_of_them(entry):
    far = entry.model_copy(update={"fallbacks": [Fallback(region="us-west-2")]})
    inject("capacity", region="us-east-1")
    box = boxes.ready(far, quiet)
    assert box.region == "us-west-2"
    assert boxes.find(far).id == box.id
    assert boxes.running(far).address == box.address
    assert boxes.stop(far).region == "us-west-2"
    assert boxes.start(far, quiet).id == box.id
    boxes.admit(far)
    boxes.terminate(far)
    assert boxes.find(far) is None
    assert known_hosts.pinned(box.id) == []


def test_a_cloud_that_does_not_know_the_instance_any_more(entry):
    box = boxes.ready(entry, quiet)
    from dataclasses import replace

    assert boxes.ended_by(replace(box, id="i-0123456789abcdef0")).startswith("unknown")


def test_an_image_that_shuts_itself_down_at_boot_is_told_and_goes(entry, monkeypatch):
    script = "#cloud-boothook\n#!/bin/sh\nshutdown now\nsleep 5\n"
    monkeypatch.setattr("remote.control.cloud.ec2.user_data.render", lambda entry, limits: script)
    with pytest.raises((CloudError, BoxStopped)) as caught:
        boxes.ready(entry, quiet)
    assert caught.value.remedy
