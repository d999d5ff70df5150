"""docs/aws.md is what Windlass needs, no more and no less."""

import json
import re

from remote.control.cloud import boxes, request
from remote.control.cloud.prices import disk_monthly, hourly
from remote.control.project import CODE

TEXT = (CODE / "docs" / "aws.md").read_text()


def test_the_policy_allows_what_a_box_calls_and_nothing_else(cloud):
    called = set()
    subnet = cloud.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    cloud.endpoint.client("ssm").put_parameter(Name="/mine/image", Value="ami-12c6146b", Type="String")
    for service in ("ec2", "ssm"):
        client = cloud.endpoint.client(service)

        def note(model, service=service, **_):
            called.add(f"{service}:{model.name}")

        client.meta.events.register("before-call", note)
        cloud.undo.append(lambda client=client, note=note: client.meta.events.unregister("before-call", note))
    for entry in (cloud.entry, cloud.entry.model_copy(update={"ami": "/mine/image", "subnet": subnet})):
        boxes.ready(entry, cloud.say)
        cloud.endpoint = type(cloud.endpoint)(cloud.endpoint.url, ssh_port=cloud.endpoint.ssh_port, cidr="198.51.100.9/32")
        boxes.stop(entry)
        boxes.ready(entry, cloud.say)
        boxes.terminate(entry)
    policy = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert allowed - {"ec2:CreateTags"} == called  # tags are made by the other requests


def test_its_prices_are_the_tables(cloud):
    assert f"g5.2xlarge ${hourly('g5.2xlarge')} an hour" in TEXT
    assert f"200 GB gp3 ${disk_monthly(200):.2f} a month" in TEXT
    assert f"${24 * hourly('g5.2xlarge'):.2f}" in TEXT


def test_the_default_image_is_within_what_the_policy_lets_read():
    assert request.DEFAULT_IMAGE.startswith("/aws/service/deeplearning/")
