import json

import pytest

from remote.embedded.cloud.faults import Fault
from remote.embedded.instances import metadata

FACTS = {
    "meta-data/instance-id": "i-1",
    "meta-data/placement/region": "us-east-1",
    "user-data": "#!/bin/sh\n",
}


@pytest.fixture
def tokens():
    return set()


def ask(path, tokens, method="GET", **headers):
    return metadata.answer(
        method,
        path,
        {name.replace("_", "-"): value for name, value in headers.items()},
        FACTS,
        tokens,
    )


def token(tokens):
    status, value = ask(
        "latest/api/token", tokens, "PUT", x_aws_ec2_metadata_token_ttl_seconds="60"
    )
    assert status == 200
    return value


def test_nothing_is_told_without_a_token(tokens):
    assert ask("latest/meta-data/instance-id", tokens) == (401, "")
    token(tokens)
    assert ask("latest/meta-data/instance-id", tokens, x_aws_ec2_metadata_token="guessed") == (
        401,
        "",
    )


def test_a_token_opens_facts_and_their_folders(tokens):
    given = token(tokens)
    assert ask("latest/meta-data/instance-id", tokens, x_aws_ec2_metadata_token=given) == (
        200,
        "i-1",
    )
    assert ask("latest/meta-data/", tokens, x_aws_ec2_metadata_token=given) == (
        200,
        "instance-id\nplacement/",
    )
    assert ask("latest/user-data", tokens, x_aws_ec2_metadata_token=given) == (200, "#!/bin/sh\n")
    assert ask("latest/meta-data/nothing", tokens, x_aws_ec2_metadata_token=given) == (404, "")


@pytest.mark.parametrize(
    ("method", "seconds"),
    [("GET", "60"), ("PUT", ""), ("PUT", "0"), ("PUT", "21601"), ("PUT", "soon")],
)
def test_a_token_must_be_asked_for_properly(tokens, method, seconds):
    assert ask(
        "latest/api/token", tokens, method, x_aws_ec2_metadata_token_ttl_seconds=seconds
    ) == (400, "")
    assert tokens == set()


def test_the_spot_markets_notices_are_told_with_their_time():
    notice = Fault(kind="spot-notice", at=1_700_000_000.0, seconds=120)
    told = metadata.notices_of([notice, Fault(kind="rebalance", at=1_700_000_000.0)])
    assert json.loads(told["meta-data/spot/instance-action"]) == {
        "action": "terminate",
        "time": "2023-11-14T22:15:20Z",
    }
    assert json.loads(told["meta-data/events/recommendations/rebalance"]) == {
        "noticeTime": "2023-11-14T22:13:20Z"
    }
    assert metadata.notices_of([]) == {}
