"""Who is let in at port 22, for each way to reach a box; and what AWS's own session plugin would be
handed."""

import json
import os

import pytest

from remote.control.cloud import boxes
from remote.control.cloud.access import reach
from remote.control.cloud.account import endpoint
from remote.control.cloud.account.endpoint import AwsEndpoint
from remote.control.config.inventory import Bastion
from remote.control.errors import BoxUnreachable, ConfigError, LaptopError, PermissionDenied
from remote.control.project import identity
from tests.control.cloud.conftest import HOST_KEY

BASTION = Bastion(host="127.0.0.1", user="me", host_key=HOST_KEY)


@pytest.fixture(autouse=True)
def greeting(monkeypatch):
    """Moto has no machines behind its instances: whoever is asked, greets."""
    monkeypatch.setattr(reach, "proxy_of", lambda box: None)


def let_in(cloud):
    groups = cloud.ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [identity.group_name("trainer")]}]
    )
    (group,) = groups["SecurityGroups"]
    return [each["CidrIp"] for rule in group["IpPermissions"] for each in rule["IpRanges"]]


def test_a_public_box_lets_this_laptop_in_and_one_behind_a_tunnel_nobody(cloud):
    boxes.ready(cloud.entry, cloud.say)
    assert let_in(cloud) == [cloud.endpoint.cidr]
    boxes.ready(cloud.entry.model_copy(update={"reach": "ssm"}), cloud.say)
    assert let_in(cloud) == []


@pytest.mark.parametrize("way", ["private", "bastion"])
def test_a_private_box_lets_its_own_network_in(cloud, way):
    (vpc,) = cloud.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    boxes.ready(
        cloud.entry.model_copy(
            update={"reach": way, "bastion": BASTION if way == "bastion" else None}
        ),
        cloud.say,
    )
    assert let_in(cloud) == [vpc["CidrBlock"]]


def test_with_instance_connect_no_key_pair_is_made(cloud):
    box = boxes.ready(cloud.entry.model_copy(update={"instance_connect": True}), cloud.say)
    (found,) = cloud.ec2.describe_instances(InstanceIds=[box.id])["Reservations"][0]["Instances"]
    assert "KeyName" not in found and not cloud.ec2.describe_key_pairs()["KeyPairs"]


@pytest.mark.parametrize(
    ("way", "host"),
    [("public", "3.3.3.3"), ("private", "10.0.0.7"), ("bastion", "10.0.0.7"), ("ssm", "i-0abc")],
)
def test_the_address_that_aws_tells_for_each_way(way, host):
    told = {"InstanceId": "i-0abc", "PublicIpAddress": "3.3.3.3", "PrivateIpAddress": "10.0.0.7"}
    assert AwsEndpoint("us-east-1", "ubuntu", reach=way).address_of(told) == endpoint.Address(
        host, 22, "ubuntu"
    )


class Answering:
    """AWS as far as a session is concerned."""

    def __init__(self, answer):
        self.region, self._answer, self.asked = "us-east-1", answer, {}
        self.regions, self.meta = tuple, self
        self.endpoint_url = "https://ssm.us-east-1.amazonaws.com"

    def session_plugin(self):
        return ["session-manager-plugin"]

    def client(self, service):
        return self

    def start_session(self, **asked):
        from botocore.exceptions import ClientError

        self.asked = asked
        if isinstance(self._answer, str):
            raise ClientError({"Error": {"Code": self._answer, "Message": "no"}}, "StartSession")
        return self._answer


def test_the_plugin_gets_the_session_in_a_variable_and_never_as_an_argument():
    there = Answering(
        {"SessionId": "s", "TokenValue": "secret", "StreamUrl": "wss://x", "ResponseMetadata": {}}
    )
    words, further = reach.open_session(there, "i-0abc", "far")
    assert there.asked == {
        "Target": "i-0abc",
        "DocumentName": "AWS-StartSSHSession",
        "Parameters": {"portNumber": ["22"]},
    }
    variable, region, action, profile, asked, url = words[1:]
    assert (region, action, profile, json.loads(asked), url) == (
        "us-east-1",
        "StartSession",
        "",
        there.asked,
        there.endpoint_url,
    )
    assert json.loads(further[variable]) == {
        "SessionId": "s",
        "TokenValue": "secret",
        "StreamUrl": "wss://x",
    }
    assert "secret" not in " ".join(words)


def test_what_session_manager_refuses():
    with pytest.raises(BoxUnreachable) as caught:
        reach.open_session(Answering("TargetNotConnected"), "i-0abc", "far")
    assert "AmazonSSMManagedInstanceCore" in caught.value.remedy
    with pytest.raises(PermissionDenied):
        reach.open_session(Answering("AccessDeniedException"), "i-0abc", "far")


def test_without_the_plugin_its_installation_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaptopError, match="session-manager-plugin") as caught:
        AwsEndpoint("us-east-1", "ubuntu", reach="ssm").session_plugin()
    assert "dpkg -i" in caught.value.remedy
    plugin = tmp_path / "session-manager-plugin"
    plugin.write_text("#!/bin/sh\n")
    os.chmod(plugin, 0o755)
    assert AwsEndpoint("us-east-1", "ubuntu", reach="ssm").session_plugin() == [str(plugin)]


def test_a_bastion_whose_host_key_is_none(cloud):
    box = boxes.ready(cloud.entry, cloud.say)
    from dataclasses import replace

    with pytest.raises(ConfigError) as caught:
        reach.bastion_of(
            replace(
                box,
                reach="bastion",
                bastion=BASTION.model_copy(update={"host_key": "ssh-ed25519 AAAA"}),
            )
        )
    assert "boxes.trainer.bastion" in caught.value.findings[0].where


def test_a_laptop_that_moved_is_let_in_anew(cloud):
    from dataclasses import replace

    from remote.control.transport.connect import _admit_this_laptop

    box = boxes.ready(cloud.entry, cloud.say)
    assert not _admit_this_laptop(box), "nothing was closed"
    cloud.endpoint = replace(cloud.endpoint, cidr="198.51.100.9/32")
    assert _admit_this_laptop(box)
    assert let_in(cloud) == ["198.51.100.9/32"]
    assert not _admit_this_laptop(replace(box, entry=None)), "the inventory names no such box"
