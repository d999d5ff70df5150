"""`--fresh` where a box exists: two instances are never one box, and the old one is kept until the
new one is up."""

import pytest

from remote.control.cloud import boxes
from remote.control.cloud.ec2 import instances
from remote.control.errors import BoxStopped, CapacityError, CloudError
from remote.control.project import identity
from remote.control.ssh import known_hosts

from .conftest import HOST_KEY
from .test_ec2 import refuse


def live(cloud):
    return [each for each in instances.of_project(cloud.endpoint) if not each.is_gone]


def test_a_plan_says_which_it_would_do_and_why(cloud):
    plan = boxes.plan(cloud.entry)
    assert (plan.action, plan.existing, plan.replaces) == ("launch it", None, None)
    assert "no instance of box trainer is there (asked: us-east-1)" in plan.why
    with pytest.raises(BoxStopped, match="there is no box trainer"):
        boxes.plan(cloud.entry, "reuse")
    box = boxes.ready(cloud.entry, cloud.say)
    assert boxes.plan(cloud.entry).action == "nothing: it is up"
    boxes.stop(cloud.entry)
    plan = boxes.plan(cloud.entry, "reuse")
    assert (plan.action, plan.existing.id) == ("start it", box.id)
    assert plan.worst.usd > 0
    fresh = boxes.plan(cloud.entry, "fresh")
    assert (fresh.existing, fresh.replaces.id) == (None, box.id)
    assert box.id in fresh.action
    assert "with its disk" in fresh.why


def test_a_plan_carries_prices_and_the_worst_case(cloud):
    plan = boxes.plan(cloud.entry)
    assert [line.offer for line in plan.lines] == plan.offers
    assert plan.lines[0].price.compute_hourly == plan.hourly_usd == 1.212
    assert plan.worst.usd > 12 * 1.212


def test_without_agreement_the_box_stays_as_it_is(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    for replace in ("", "i-0123456789abcdef0"):
        with pytest.raises(CloudError, match="two instances are never one box") as caught:
            boxes.ready(cloud.entry, cloud.say, mode="fresh", losses={cloud.entry.name: replace})
        assert "--fresh --yes" in caught.value.remedy
    assert [each.id for each in live(cloud)] == [box.id]


def test_the_new_one_takes_the_place_of_the_old_one(cloud):
    old = boxes.ready(cloud.entry, cloud.say)
    new = boxes.ready(cloud.entry, cloud.say, mode="fresh", losses={cloud.entry.name: old.id})
    assert new.id != old.id
    assert [each.id for each in live(cloud)] == [new.id]
    assert known_hosts.pinned(old.id) == []
    assert known_hosts.pinned(new.id) == [HOST_KEY]
    assert boxes.ready(cloud.entry, cloud.say).id == new.id


def test_without_capacity_for_the_new_one_the_old_one_is_the_box_as_before(cloud):
    old = boxes.ready(cloud.entry, cloud.say)
    boxes.stop(cloud.entry)
    refuse(cloud, "InsufficientInstanceCapacity", times=1)
    with pytest.raises(CapacityError):
        boxes.ready(cloud.entry, cloud.say, mode="fresh", losses={cloud.entry.name: old.id})
    (kept,) = live(cloud)
    assert (kept.id, kept.state, kept.is_replaced) == (old.id, "stopped", False)
    assert boxes.start(cloud.entry, cloud.say).id == old.id


def test_cut_off_after_the_new_one_was_made_the_next_command_ends_the_old_one(cloud, monkeypatch):
    old = boxes.ready(cloud.entry, cloud.say)
    with monkeypatch.context() as patch:
        patch.setattr("remote.control.cloud.ec2.provider.wait_ready.enter", cut_off)
        with pytest.raises(KeyboardInterrupt):
            boxes.ready(cloud.entry, cloud.say, mode="fresh", losses={cloud.entry.name: old.id})
    assert len(live(cloud)) == 2
    new = boxes.find(cloud.entry)
    assert new.id != old.id
    notes = {box.id: box.note for box in boxes.listing(Inventory(cloud.entry))}
    assert "being replaced" in notes[old.id]
    assert notes[new.id] == ""
    assert boxes.ready(cloud.entry, cloud.say).id == new.id
    assert [each.id for each in live(cloud)] == [new.id]


def test_cut_off_before_the_new_one_was_made_the_old_one_is_the_box(cloud):
    old = boxes.ready(cloud.entry, cloud.say)
    tags = [{"Key": identity.REPLACED_TAG, "Value": "2026-11-21"}]
    cloud.ec2.create_tags(Resources=[old.id], Tags=tags)
    assert boxes.find(cloud.entry).id == old.id
    assert boxes.ready(cloud.entry, cloud.say).id == old.id
    assert not live(cloud)[0].is_replaced


def test_terminate_ends_both(cloud, monkeypatch):
    old = boxes.ready(cloud.entry, cloud.say)
    with monkeypatch.context() as patch:
        patch.setattr("remote.control.cloud.ec2.provider.wait_ready.enter", cut_off)
        with pytest.raises(KeyboardInterrupt):
            boxes.ready(cloud.entry, cloud.say, mode="fresh", losses={cloud.entry.name: old.id})
    assert boxes.terminate(cloud.entry).id != old.id
    assert live(cloud) == []


def cut_off(*_args):
    raise KeyboardInterrupt


class Inventory:
    def __init__(self, entry):
        self.boxes = {entry.name: entry}
