"""docs/aws.md says what is so, and the policies that it has printed are such as IAM takes."""

import json
import re

import botocore.session
import pytest
from botocore import xform_name

from remote.control.cloud.account import policy
from remote.control.cloud.ec2 import request
from remote.control.cloud.pricing.prices import disk_monthly, hourly
from remote.control.config.inventory import EmbeddedEntry, Inventory
from remote.control.errors import ConfigError
from remote.control.project import CODE
from tests import iam

TEXT = (CODE / "docs" / "aws.md").read_text()
COMMANDS = re.findall(
    r"\baws ([a-z-]+) ([a-z-]+)((?: \\?\s*(?:--[a-z-]+|'[^']*'|[^\s`;,-][^\s`;,]*))*)", TEXT
)
OF_THE_TOOL = {"configure", "sso"}
EVERYTHING = {
    "market": "spot",
    "instance_profile": "windlass-box",
    "reach": "ssm",
    "instance_connect": True,
    "instance_id": "i-0123456789abcdef0",
    "models": ["tiny=s3://models/tiny/"],
    "ami": "/mine/image",
}


def inventory(bucket="kept", **keys):
    return Inventory(
        default_box="lab",
        boxes={"lab": EmbeddedEntry(name="lab", **keys)},
        storage={"bucket": bucket},
    )


def test_its_commands_exist_with_their_options():
    session = botocore.session.Session()
    asked = [
        (service, operation, set(re.findall(r"--([a-z-]+)", rest)))
        for service, operation, rest in COMMANDS
        if service not in OF_THE_TOOL
    ]
    assert {
        "create-policy",
        "put-role-policy",
        "add-role-to-instance-profile",
        "validate-policy",
    } <= {each[1] for each in asked}
    for service, operation, options in asked:
        model = session.get_service_model(service)
        known = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in known, f"aws {service} {operation}"
        members = {
            xform_name(name, "-")
            for name in getattr(model.operation_model(known[operation]).input_shape, "members", ())
        }
        assert options <= members | {"region"}, f"aws {service} {operation}"


def test_its_prices_are_the_tables():
    assert f"g5.2xlarge ${hourly('g5.2xlarge')} an hour" in TEXT
    assert f"200 GB gp3 ${disk_monthly(200):.2f} a month" in TEXT
    assert f"${24 * hourly('g5.2xlarge'):.2f}" in TEXT


def test_the_default_image_is_within_what_the_policy_lets_read():
    (demand,) = iam.demands(
        "ssm", "GetParameter", {"Name": request.DEFAULT_IMAGE}, "us-east-1", lambda name: {}
    )
    assert iam.allows(policy.document("user", inventory()), demand)


@pytest.mark.parametrize("whose", ["user", "box"])
def test_iam_has_room_for_it(whose):
    text = json.dumps(policy.document(whose, inventory(**EVERYTHING)), separators=(",", ":"))
    assert len(text) < policy.LONGEST


def test_what_the_inventory_does_not_ask_for_is_not_allowed():
    least = policy.document("user", inventory(bucket=None))
    more = policy.document("user", inventory(**EVERYTHING))
    only = {each["Sid"] for each in more["Statement"]} - {
        each["Sid"] for each in least["Statement"]
    }
    assert {
        "GiveTheBoxItsRole",
        "Adopt",
        "StartSessions",
        "AdmitOurKey",
        "KeepAndBring",
        "FirstSpotRequest",
        "BringModels",
    } <= only
    assert {action.partition(":")[0] for action in iam.actions_of(least)} == {
        "ec2",
        "pricing",
        "servicequotas",
        "ssm",
    }
    assert len({each["Sid"] for each in more["Statement"]}) == len(more["Statement"])


@pytest.mark.parametrize(
    ("whose", "bucket", "remedy"),
    [("box", None, "name the bucket"), ("all", "kept", "--policy user")],
)
def test_a_policy_that_there_is_not(whose, bucket, remedy):
    with pytest.raises(ConfigError) as caught:
        policy.document(whose, inventory(bucket))
    assert remedy in caught.value.findings[0].remedy
