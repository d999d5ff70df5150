"""Hosts that stand: never trusted on first use, never stopped, never terminated."""

import pytest

from remote.control.cloud import boxes
from remote.control.config.inventory import StaticEntry
from remote.control.errors import BoxUnreachable, CloudError, ConfigError
from remote.control.ssh import known_hosts

from .conftest import HOST_KEY, OTHER_KEY


def host(**more):
    return StaticEntry(name="lab", host="127.0.0.1", user="me", **{"host_key": HOST_KEY, **more})


def test_without_a_host_key_it_says_how_to_get_one():
    with pytest.raises(ConfigError) as caught:
        boxes.running(host(host_key=None, port=2222))
    (finding,) = caught.value.findings
    assert "ssh-keyscan -t ed25519 -p 2222 127.0.0.1" in finding.remedy
    assert "host_key:" in finding.remedy
    assert known_hosts.pinned("static-lab") == []


def test_a_host_key_that_is_none():
    with pytest.raises(ConfigError, match="finding"):
        boxes.running(host(host_key="ssh-ed25519 AAAA"))


def test_the_inventory_is_the_truth_about_its_key(greeter):
    box = boxes.ready(host(port=greeter), print)
    assert (box.state, box.address, box.host_key_alias) == (
        "running",
        f"127.0.0.1:{greeter}",
        "static-lab",
    )
    assert known_hosts.pinned("static-lab") == [HOST_KEY]
    boxes.running(host(port=greeter, host_key=f"{OTHER_KEY} a comment"))
    assert known_hosts.pinned("static-lab") == [OTHER_KEY]


def test_a_silent_host(monkeypatch):
    monkeypatch.setattr("remote.control.cloud.static._PATIENCE_SECONDS", 0)
    with pytest.raises(BoxUnreachable, match="no SSH server"):
        boxes.ready(host(port=1), print)


def test_it_is_left_running(greeter):
    said = []
    assert boxes.stop(host(port=greeter), said.append).state == "running"
    assert "left running" in said[0]
    with pytest.raises(CloudError, match="never terminated"):
        boxes.terminate(host())
