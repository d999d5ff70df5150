"""Many boxes by the commands that a person types: more of them than are driven at once, two of
which meet a fault.

`WINDLASS_BOXES=64` takes so many.
"""

import json
import os

import pytest

from remote.contract.job.exits import Exit
from remote.control import fleet, project
from remote.control.cloud import embedded

from .typed import typed

COUNT = int(os.environ.get("WINDLASS_BOXES", "40"))
INVENTORY = f"""
default_box: demo
boxes:
  demo: {{provider: embedded, disk_gb: 8}}
  box: {{provider: embedded, disk_gb: 8, count: {COUNT}}}
  pair: {{provider: embedded, disk_gb: 8, count: 2}}
groups:
  mixed: [demo, pair]
"""


@pytest.fixture
def cloud(embedded_project):
    (project.root() / "inventory.yaml").write_text(INVENTORY)
    url = embedded.endpoint()
    yield url
    embedded.clear(url)
    _, listing, _ = inv("list", "--json")
    if there := [record["name"] for record in listing if record["id"]]:
        inv("terminate", *there, "--yes")
    assert not any(embedded.leaks(url).values())


def inv(*words):
    done = typed(*words, seconds=400)
    return done.returncode, json.loads(done.stdout) if "--json" in words else None, done.stderr


def states(records):
    return [record["state"] for record in records]


@pytest.mark.end_to_end
@pytest.mark.timeout(1500)
def test_many_boxes_are_driven_as_one(cloud):
    assert COUNT > fleet._AT_ONCE
    embedded.inject(cloud, {"kind": "capacity", "box": "box-7"})
    embedded.inject(cloud, {"kind": "quota", "box": "box-23"})
    code, told, err = inv("launch", "box", "--json")
    failed = {record["box"]: record["error"] for record in told["results"] if "error" in record}
    assert (code, failed) == (Exit.QUOTA, {"box-7": "CapacityError", "box-23": "QuotaError"})
    assert f"2 of {COUNT} boxes failed: box-7, box-23" in err
    first = {record["name"]: record["id"] for record in told["results"] if "name" in record}
    left = embedded.leaks(cloud)
    assert sorted(left["instances"]) == sorted(first.values()) and len(first) == COUNT - 2
    assert {kind: len(left[kind]) for kind in ("volumes", "security_groups", "spot_requests")} == {
        "volumes": COUNT - 2,
        "security_groups": COUNT - 2,
        "spot_requests": 0,
    }

    embedded.clear(cloud)
    code, told, _ = inv("launch", "box", "--json")
    assert (code, states(told)) == (0, ["running"] * COUNT)
    assert {record["name"]: record["id"] for record in told}.items() >= first.items()

    code, told, _ = inv("status", "box", "--json")
    assert code == 0
    assert [record["name"] for record in told["boxes"] if record["clocks"]] == [
        f"box-{number}" for number in range(1, COUNT + 1)
    ]
    assert not [record["unread"] for record in told["boxes"] if record["unread"]]

    code, told, _ = inv("stop", "box", "--json")
    assert (code, states(told)) == (0, ["stopped"] * COUNT)
    code, told, _ = inv("start", "box", "--json")
    assert (code, states(told)) == (0, ["running"] * COUNT)
    code, told, err = inv("terminate", "box", "--yes", "--json")
    assert (code, states(told)) == (0, ["absent"] * COUNT)
    assert err.count("is terminated; nothing of it is billed any more") == COUNT
    assert not any(embedded.leaks(cloud).values())


def test_boxes_alike_are_planned_once_and_their_costs_added_up(cloud):
    before = embedded.calls(cloud).get("user ec2:DescribeImages", 0)
    code, told, err = inv("launch", "box", "--dry-run", "--json")
    assert code == 0
    assert [(record["box"], record["action"]) for record in told] == [
        (f"box-{number}", "launch it") for number in range(1, COUNT + 1)
    ]
    assert len({record["why"] for record in told}) == COUNT  # each names its own box
    assert f"{COUNT} of {COUNT} boxes are new" in err
    assert embedded.calls(cloud)["user ec2:DescribeImages"] - before <= 2
    assert not any(embedded.leaks(cloud).values())


def test_a_group_of_boxes_that_are_there_and_not(cloud):
    code, told, _ = inv("launch", "pair-1", "--json")
    assert (code, told["name"]) == (0, "pair-1")  # one name, one object
    code, told, err = inv("launch", "mixed", "--dry-run", "--json")
    assert [record["action"] for record in told] == ["launch it", "nothing: it is up", "launch it"]
    code, told, err = inv("stop", "mixed", "--json")
    assert (code, [record and record["state"] for record in told]) == (0, [None, "stopped", None])
    code, told, err = inv("start", "mixed", "--json")
    assert code == Exit.BOX_STOPPED
    assert [record.get("error") for record in told["results"]] == ["BoxStopped", None, "BoxStopped"]
    assert "./inv launch demo" in err and "./inv launch pair-2" in err
    code, _, err = inv("terminate", "mixed")
    assert code == Exit.USAGE
    assert "pair-1" in err and "--yes" in err and "demo" not in err
    code, told, _ = inv("list", "mixed", "--json")
    assert [(record["name"], record["state"]) for record in told] == [
        ("demo", "absent"),
        ("pair-1", "running"),
        ("pair-2", "absent"),
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("stop", "nobody", "pair"), Exit.CONFIG),
        (("launch", "--fresh", "--reuse"), Exit.USAGE),
        (("start", "--wait", "long"), Exit.USAGE),
        (("terminate", "pair", "--id", "i-0123456789abcdef0", "--yes"), Exit.USAGE),
        (("reboot", "pair-1"), Exit.BOX_STOPPED),
        (("launch", "pair", "--reuse"), Exit.BOX_STOPPED),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(cloud, words, code):
    done, _, err = inv(*words)
    assert (done, "error: " in err) == (code, True)


def test_status_asks_the_cloud_alone_or_each_box_and_one_that_cannot_be_asked_says_so(cloud):
    inv("launch", "pair")
    code, told, _ = inv("status", "pair", "--quick", "--json")
    assert [(record["state"], record["clocks"], record["unread"]) for record in told["boxes"]] == [
        ("running", None, "")
    ] * 2
    embedded.inject(cloud, {"kind": "host-key", "box": "pair-1"})
    code, told, _ = inv("status", "pair", "--json")
    assert (code, [record["clocks"] is None for record in told["boxes"]]) == (0, [True, False])
    assert "shows another host key" in told["boxes"][0]["unread"]
