"""The two endpoints never mix."""

import pytest

from remote.control.cloud.account import endpoint
from remote.control.cloud.account.endpoint import AwsEndpoint, EmbeddedEndpoint
from remote.control.cloud.box import Box

from .conftest import Moto


@pytest.fixture
def hostile(moto, tmp_path, monkeypatch):
    """An environment full of the user's own AWS settings, each of which would break or redirect a
    client that listened."""
    EmbeddedEndpoint(moto).client(
        "ec2"
    ).describe_availability_zones()  # moto itself lives in this process, and looks at it once
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-north-1\nendpoint_url = http://127.0.0.1:9\nuse_fips_endpoint ="
        " true\ncredential_process = touch ran\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n"
    )
    settings = {
        "AWS_CONFIG_FILE": tmp_path / "config",
        "AWS_SHARED_CREDENTIALS_FILE": tmp_path / "credentials",
        "AWS_PROFILE": "missing",
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real-token",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_MAX_ATTEMPTS": "0",
        "AWS_CA_BUNDLE": "/nowhere",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "",
        "no_proxy": "",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))


def test_the_embedded_cloud_sees_nothing_of_the_users(moto, hostile):
    sent = []
    endpoint._embedded_client.cache_clear()  # an earlier test made one in a friendlier environment
    client = EmbeddedEndpoint(moto).client("ec2")
    client.meta.events.register("before-send.ec2", lambda request, **_: sent.append(request))
    assert [
        zone["RegionName"] for zone in client.describe_availability_zones()["AvailabilityZones"]
    ][:1] == ["us-east-1"]
    assert client.meta.region_name == "us-east-1"
    (request,) = sent
    assert request.url.startswith(moto)
    assert "windlass/" in str(request.headers["Authorization"])
    assert "AKIAREAL" not in str(request.headers)
    assert "X-Amz-Security-Token" not in request.headers


def test_aws_sees_the_users_credentials_and_none_of_ours(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    client = AwsEndpoint("eu-west-1", "ubuntu").client("ec2")
    assert client.meta.endpoint_url == "https://ec2.eu-west-1.amazonaws.com"
    assert client._request_signer._credentials.access_key == "AKIAREAL"
    assert client.meta.config.retries["mode"] == "standard"


def test_aws_addresses():
    there = AwsEndpoint("eu-west-1", "ubuntu")
    assert (
        there.address_of({"PublicIpAddress": "192.0.2.1", "PrivateIpAddress": "10.0.0.1"}).host
        == "192.0.2.1"
    )
    assert there.address_of({"PrivateIpAddress": "10.0.0.1"}).port == 22
    assert there.address_of({}) is None


def test_regions_are_known_even_with_a_broken_profile(hostile):
    assert "us-east-1" in AwsEndpoint("eu-west-1", "ubuntu").regions()


def test_a_moto_endpoint_of_the_tests_is_embedded_in_all_but_its_answers(moto):
    assert Moto(moto).client("ec2").meta.endpoint_url == moto


def test_where_a_box_finds_the_bucket(monkeypatch):
    def box(provider, region):
        return Box(
            "b",
            provider,
            "",
            "running",
            "",
            22,
            "me",
            None,
            "b",
            "",
            region,
            "windlass",
            None,
            None,
            None,
        )

    monkeypatch.setattr("remote.control.cloud.embedded.endpoint", lambda: "http://127.0.0.1:5001")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert endpoint.storage_url(box("ec2", "eu-west-1")) == "https://s3.eu-west-1.amazonaws.com"
    assert endpoint.storage_url(box("static", "")) == "https://s3.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5000/")
    assert endpoint.storage_url(box("ec2", "eu-west-1")) == "http://127.0.0.1:5000"
    assert endpoint.storage_url(box("embedded", "us-east-1")) == "http://127.0.0.1:5001"
