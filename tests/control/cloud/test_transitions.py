"""What an instance may do while it is waited for, that no test can time over the wire: a script of
looks at it."""

from datetime import UTC, datetime

import pytest

from remote.control.cloud.ec2 import instances, transitions
from remote.control.cloud.ec2.instances import Instance
from remote.control.errors import CapacityError, CloudError


@pytest.fixture
def scripted(cloud, monkeypatch):
    """`scripted("running", ("pending", 12))`: an instance's states, look by look; a number is the
    hour of its last start."""

    def play(*looks, reason=("", "")):
        def instance(look):
            state, hour = look if isinstance(look, tuple) else (look, 10)
            facts = {
                "InstanceId": "i-0123456789abcdef0",
                "InstanceType": "g5.2xlarge",
                "State": {"Name": state},
                "LaunchTime": datetime(2026, 11, 21, hour, tzinfo=UTC),
                "StateReason": {"Code": reason[0], "Message": reason[1]},
            }
            return Instance(facts, cloud.endpoint)

        first, *rest = map(instance, looks)
        following = iter(rest)
        monkeypatch.setattr(
            instances, "by_id", lambda there, instance_id, name="": next(following, None)
        )
        monkeypatch.setattr(
            transitions, "_asked", lambda now, operation: cloud.said.append(operation) or True
        )
        return first

    return play


def test_a_stop_that_another_hand_undoes_is_told(cloud, scripted):
    box = scripted("running", "running", "stopping", ("pending", 11))
    with pytest.raises(CloudError, match="started again") as caught:
        transitions.until_stopped(box, "trainer", cloud.say)
    assert caught.value.remedy == "`./inv stop trainer`"


def test_a_stop_during_a_start_waits_for_it_and_asks_once(cloud, scripted):
    box = scripted("stopping", "pending", "running", "stopping", "stopped")
    assert transitions.until_stopped(box, "trainer", cloud.say).state == "stopped"
    assert cloud.said.count("stop_instances") == 1


def test_a_start_that_finds_no_room_is_capacity(cloud, scripted):
    looks = ("stopped", "stopped", ("pending", 11), ("stopped", 11))
    box = scripted(*looks, reason=("Server.InsufficientInstanceCapacity", "none left"))
    with pytest.raises(CapacityError) as caught:
        transitions.until_running(box, "trainer", cloud.say)
    assert "none left" in caught.value.why


def test_a_start_that_another_hand_undoes_is_told(cloud, scripted):
    box = scripted(
        "stopped",
        ("pending", 11),
        ("stopping", 11),
        reason=("Client.UserInitiatedShutdown", "by hand"),
    )
    with pytest.raises(CloudError, match="stopping instead of running") as caught:
        transitions.until_running(box, "trainer", cloud.say)
    assert caught.value.remedy == "`./inv start trainer`"


def test_a_launch_that_dies_tells_why(cloud, scripted):
    box = scripted("pending", "terminated", reason=("Client.VolumeLimitExceeded", "too many disks"))
    with pytest.raises(CloudError, match="quota") as caught:
        transitions.until_running(box, "trainer", cloud.say)
    assert "too many disks" in caught.value.why


@pytest.mark.parametrize(
    ("state", "code", "who"),
    [
        ("terminated", "Server.SpotInstanceTermination", "spot"),
        ("stopped", "Client.InstanceInitiatedShutdown", "itself"),
        ("stopped", "Client.UserInitiatedShutdown", "user: stopped"),
        ("terminated", "Client.UserInitiatedShutdown", "user: terminated"),
        ("terminated", "Server.InsufficientInstanceCapacity", "capacity"),
        ("stopped", "Server.SomethingNew", "cloud: because"),
        ("stopped", "", "cloud: because"),
        ("running", "Client.UserInitiatedShutdown", ""),
    ],
)
def test_ends_in_words(scripted, state, code, who):
    told = transitions.describe(scripted(state, reason=(code, "because")))
    assert told.startswith(who)
    assert bool(told) == bool(who)
    assert code in told or not who
