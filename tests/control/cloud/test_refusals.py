"""Every refusal of the cloud becomes the class of error that its reader can act on."""

import pytest
from botocore.exceptions import ClientError

from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import AwsEndpoint, EmbeddedEndpoint
from remote.control.cloud.ec2.provider import Ec2
from remote.control.config.inventory import Ec2Entry
from remote.control.errors import (
    CapacityError,
    CloudError,
    CredentialsMissing,
    PermissionDenied,
    QuotaError,
    RegionError,
)

CONTEXT = refusals.Context("trainer", "us-east-1", "g5.2xlarge")


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        ("InsufficientInstanceCapacity", CapacityError, "./inv launch trainer"),
        ("Server.InsufficientInstanceCapacity", CapacityError, "--wait"),
        ("SpotMaxPriceTooLow", CapacityError, "max_spot_usd:"),
        ("Unsupported", CloudError, "instance_type:"),
        ("VcpuLimitExceeded", QuotaError, "L-DB2E81BA"),
        ("MaxSpotInstanceCountExceeded", QuotaError, "L-3819A6DF"),
        ("PendingVerification", PermissionDenied, "./inv doctor --policy user"),
        ("Client.VolumeLimitExceeded", QuotaError, "Service Quotas"),
        ("UnauthorizedOperation", PermissionDenied, "./inv doctor --policy user"),
        ("AccessDeniedException", PermissionDenied, "./inv doctor --policy user"),
        ("ExpiredToken", CredentialsMissing, "aws sso login"),
        ("RequestExpired", CredentialsMissing, "set the laptop's clock"),
        ("AuthFailure", CredentialsMissing, "aws sts get-caller-identity"),
        ("RequestLimitExceeded", CloudError, "wait a minute"),
        ("InvalidAMIID.NotFound", CloudError, "`ami:` of trainer"),
        ("SomethingNew", CloudError, "docs/aws.md"),
    ],
)
def test_codes(code, kind, remedy):
    with pytest.raises(kind) as caught, refusals.explained(CONTEXT):
        raise ClientError({"Error": {"Code": code, "Message": "because"}}, "RunInstances")
    assert type(caught.value) is kind
    assert caught.value.why == f"{code}: because"
    assert caught.value.code == code.removeprefix("Server.").removeprefix("Client.")
    assert remedy in caught.value.remedy
    assert caught.value.where == "box trainer (us-east-1)"


def test_every_sentence_of_the_table_can_be_filled():
    for code in refusals._BY_CODE:
        error = refusals.of_code(code, "because", CONTEXT)
        assert "{" not in error.what + error.remedy.replace("{", "", 0)


def test_the_ciphertext_of_a_refusal_is_left_out():
    message = (
        "You are not authorized to perform: ec2:RunInstances. Encoded authorization failure"
        " message: 4hjgYT..."
    )
    assert refusals.of_code("UnauthorizedOperation", message, CONTEXT).why.endswith(
        "ec2:RunInstances."
    )


def box(there):
    return Ec2(Ec2Entry(name="trainer", region=there.region), there)


@pytest.fixture
def no_credentials(monkeypatch):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_no_credentials(no_credentials):
    with pytest.raises(CredentialsMissing, match="no AWS credentials") as caught:
        box(AwsEndpoint("us-east-1", "ubuntu")).find()
    assert "aws configure" in caught.value.remedy


def test_a_profile_that_is_not_there(no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(
        CredentialsMissing, match="no AWS credentials: there is no profile missing"
    ) as caught:
        box(AwsEndpoint("us-east-1", "ubuntu")).find()
    assert "missing" in caught.value.where


def test_an_endpoint_that_does_not_answer():
    with pytest.raises(CloudError, match="does not answer"):
        box(EmbeddedEndpoint("http://127.0.0.1:1")).find()


def test_an_unknown_region_is_told_from_a_laptop_off_the_network(monkeypatch):
    from botocore.exceptions import EndpointConnectionError

    for region, kind in (("us-east-1", CloudError), ("us-east-9", RegionError)):
        there = AwsEndpoint(region, "ubuntu")
        context = refusals.Context("trainer", region, regions=there.regions)
        with pytest.raises(CloudError) as caught, refusals.explained(context):
            raise EndpointConnectionError(endpoint_url=f"https://ec2.{region}.amazonaws.com")
        assert type(caught.value) is kind


def test_throttling_is_retried_before_it_is_told(moto):
    there = EmbeddedEndpoint(moto)
    client, answers = there.client("ec2"), []
    from botocore.awsrequest import AWSResponse

    def throttle(request, **_):
        answers.append(request)
        if len(answers) > 2:
            return None
        body = (
            b"<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow"
            b" down</Message></Error></Errors></Response>"
        )
        answer = AWSResponse(request.url, 503, {}, None)
        answer._content = body
        return answer

    client.meta.events.register("before-send.ec2", throttle)
    with refusals.explained(CONTEXT):
        client.describe_key_pairs()
    assert len(answers) == 3


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        (
            "MissingInput",
            "No default subnet for availability zone: 'us-east-1e'.",
            "--availability-zone us-east-1e",
        ),
        (
            "MissingInput",
            "No subnets found for the default VPC 'vpc-1'. Please specify a subnet.",
            "--availability-zone us-east-1b",
        ),
        ("MissingInput", "The parameter is missing", "docs/aws.md"),
        (
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses.",
            "aws ec2 describe-subnets",
        ),
        (
            "InvalidParameter",
            "Security group sg-1 and subnet subnet-1 belong to different networks.",
            "`./inv terminate trainer`",
        ),
        ("InvalidParameter", "something else", "docs/aws.md"),
        (
            "InvalidParameterValue",
            "Invalid availability zone: [us-east-1z]",
            "describe-availability-zones",
        ),
        (
            "InvalidParameterValue",
            "Value (x) is invalid. Invalid IAM Instance Profile name",
            "instance_profile:",
        ),
        ("InvalidParameterValue", "Invalid value 'g9.large' for InstanceType.", "instance_type:"),
        ("InvalidParameterValue", "something else", "docs/aws.md"),
        (
            "Client.InvalidKMSKey.InvalidState",
            "The KMS key provided is in an incorrect state",
            "get-ebs-default-kms-key-id",
        ),
        (
            "IncorrectInstanceState",
            "not in a state from which it can be started",
            "./inv status trainer",
        ),
        ("InternalError", "an internal error", "wait a minute"),
        ("DefaultVpcDoesNotExist", "no default VPC", "aws ec2 create-default-vpc"),
        ("VpcLimitExceeded", "the maximum", "Service Quotas"),
    ],
)
def test_refusals_of_the_network_and_its_like(code, message, remedy):
    error = refusals.of_code(
        code, message, refusals.Context("trainer", "us-east-1", "g5.2xlarge", zone="us-east-1b")
    )
    assert remedy in error.remedy and message in error.why
