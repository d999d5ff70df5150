import pytest

from remote.embedded.cloud.answers import Call

_PRESIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIA1%2F20261121%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Expires=60"


def signed(service):
    return (
        f"AWS4-HMAC-SHA256 Credential=AKIA1/20261121/us-east-1/{service}/aws4_request,"
        " SignedHeaders=host, Signature=0"
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "authorization", "target", "body", "action"),
    [
        (
            "POST",
            "/",
            "",
            signed("ec2"),
            "",
            b"Action=RunInstances&Version=2016-11-15",
            "ec2:RunInstances",
        ),
        ("POST", "/", "", signed("sts"), "", b"Action=GetCallerIdentity", "sts:GetCallerIdentity"),
        ("POST", "/", "", signed("ssm"), "AmazonSSM.GetParameter", b"{}", "ssm:GetParameter"),
        (
            "POST",
            "/",
            "",
            signed("servicequotas"),
            "ServiceQuotasV20190624.GetServiceQuota",
            b"",
            "servicequotas:GetServiceQuota",
        ),
        ("PUT", "/bucket/a/b", "", signed("s3"), "", b"", "s3:PutObject"),
        ("GET", "/bucket", "list-type=2", signed("s3"), "", b"", "s3:ListObjectsV2"),
        ("PUT", "/bucket/a", _PRESIGNED, "", "", b"", "s3:PutObject"),
        ("GET", "/", "", "", "", b"", ":"),
    ],
)
def test_a_call_is_named_as_in_iam(method, path, query, authorization, target, body, action):
    assert Call.of(method, path, query, authorization, target, body).action == action


def test_a_call_tells_region_key_and_dry_run():
    assert Call.of("PUT", "/bucket/a", _PRESIGNED, "", "", b"") == Call(
        "s3", "PutObject", "eu-west-1", "ASIA1"
    )
    assert Call.of(
        "POST", "/", "", signed("ec2"), "", b"Action=StopInstances&DryRun=true"
    ).is_dry_run


def test_what_only_reads_changes_nothing():
    assert Call("ec2", "RunInstances").changes_ec2()
    assert not Call("ec2", "DescribeInstances").changes_ec2()
    assert not Call("s3", "PutObject").changes_ec2()
