import json
import threading

import pytest

from remote.embedded.cloud.faults import ANSWERS, EVENTS, KINDS, NOTICES, Fault, Faults


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path / "faults.json")


def stands(faults, **asked):
    fault = Fault.of(asked)
    faults.add(fault)
    return fault


def test_a_fault_is_narrowed_down_by_each_word():
    fault = Fault.of(
        {
            "kind": "capacity",
            "zone": "us-east-1a",
            "type": "g5.2xlarge",
            "market": "spot",
            "box": "trainer",
        }
    )
    fits = {"zone": "us-east-1a", "region": "us-east-1", "type": "g5.2xlarge", "market": "spot"}
    assert fault.matches(("i-1", "trainer"), **fits)
    assert not fault.matches(("i-1", "other"), **fits)
    for fact in ("zone", "type", "market"):
        assert not fault.matches(("trainer",), **{**fits, fact: "another"})


@pytest.mark.parametrize(
    ("asked", "operation", "matches"),
    [
        ("RunInstances", "ec2:RunInstances", True),
        ("ec2:RunInstances", "ec2:RunInstances", True),
        ("ec2:Describe*", "ec2:DescribeInstances", True),
        ("s3:*", "s3:PutObject", True),
        ("s3:*", "ec2:RunInstances", False),
        ("Run", "ec2:RunInstances", False),
    ],
)
def test_an_operation_is_a_pattern(asked, operation, matches):
    assert Fault.of({"kind": "permission", "operation": asked}).matches((), operation) == matches


def test_numbers_have_defaults_and_are_checked():
    assert Fault.of({"kind": "spot-notice"}).seconds == 120
    assert Fault.of({"kind": "spot-notice", "seconds": "5"}).seconds == 5
    assert Fault.of({"kind": "throttle", "count": "3"}).count == 3
    assert Fault.of({"kind": "throttle"}).count is None
    with pytest.raises(ValueError):
        Fault.of({"kind": "throttle", "count": "often"})


def test_what_stands_is_kept(faults, tmp_path):
    fault = stands(faults, kind="capacity", zone="us-east-1a", count=2)
    assert Faults(tmp_path / "faults.json").all() == [fault]
    assert faults.clear(fault.id) == [fault]
    assert json.loads((tmp_path / "faults.json").read_text()) == []


def test_a_counted_fault_strikes_so_often_whoever_asks(faults):
    stands(faults, kind="throttle", count=5)
    struck = []
    threads = [
        threading.Thread(
            target=lambda: struck.append(faults.strike(*ANSWERS, operation="ec2:RunInstances"))
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(fault is not None for fault in struck) == 5
    assert faults.all() == []


def test_an_event_on_several_boxes_is_cleared_by_its_one_name(faults):
    for box in ("i-1", "i-2"):
        faults.add(Fault(kind="rebalance", box=box, id=f"fault-1.{box}"))
    faults.add(Fault(kind="imds", id="fault-2"))
    assert [fault.box for fault in faults.clear("fault-1")] == ["i-1", "i-2"]
    assert [fault.kind for fault in faults.all()] == ["imds"]


def test_every_kind_is_known_by_its_sort():
    assert set(ANSWERS) | set(EVENTS) < set(KINDS)
    assert set(NOTICES) < set(EVENTS)
