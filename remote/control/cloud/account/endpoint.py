"""Where the cloud's API is and how its boxes are reached: all that differs between AWS and the
embedded cloud.

The two never mix: AWS is asked with the user's own credentials and configuration and nothing of
ours; the embedded cloud is asked with dummy credentials by a session that reads no environment
variable and no file of the user's.
"""

import ipaddress
import os
import shutil
import sys
import threading
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from remote.control.cloud.account import credentials
from remote.control.cloud.box import Box
from remote.control.config.inventory import Ec2Entry
from remote.control.errors import CloudError, LaptopError

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

_RETRIES = {"mode": "standard", "total_max_attempts": 5}
_SIDE_BY_SIDE = {"max_pool_connections": 64}
_MAKING = threading.Lock()
"""A client takes a quarter of a second and 18 MB to make: of 64 threads that want the same one, one
makes it."""
_CHECK_ADDRESS = "https://checkip.amazonaws.com"


@dataclass(frozen=True)
class Address:
    """Where SSH answers, and for whom."""

    host: str
    port: int
    user: str


@dataclass(frozen=True)
class Patience:
    """How long to wait for a state, for SSH and for the host key, and how often to look.
    Seconds."""

    state: float
    ssh: float
    host_key: float
    poll: float


class Endpoint(Protocol):
    """One place to ask for boxes."""

    @property
    def region(self) -> str:
        """The region whose boxes it knows."""

    @property
    def is_billed(self) -> bool:
        """Whether a box costs money."""

    @property
    def patience(self) -> Patience:
        """How slow it may be."""

    def client(self, service: str) -> Any:
        """A boto3 client."""

    def in_region(self, region: str) -> "Endpoint":
        """The same cloud, in another region."""

    def regions(self) -> tuple[str, ...]:
        """The regions that boto3 knows; empty where that means nothing."""

    def caller_cidr(self) -> str:
        """The one address that may reach port 22, as seen from the boxes."""

    def address_of(self, instance: dict[str, Any]) -> Address | None:
        """Where the instance (as `describe_instances` tells) is reached; None while it has no
        address."""

    def session_plugin(self) -> list[str]:
        """The program that carries a Session Manager session, called as AWS's own. Raises
        LaptopError where it is not installed."""


@dataclass(frozen=True)
class AwsEndpoint:
    """AWS itself, with the user's credentials as every AWS tool finds them (AWS_PROFILE and so
    on)."""

    region: str
    user: str
    is_billed: bool = True
    patience: Patience = Patience(state=600, ssh=600, host_key=600, poll=3)
    reach: str = "public"

    def client(self, service: str) -> Any:
        """A boto3 client."""
        with _MAKING:
            return _aws_client(self.region, service)

    def in_region(self, region: str) -> "AwsEndpoint":
        """AWS in another region."""
        return replace(self, region=region)

    def regions(self) -> tuple[str, ...]:
        """The regions that this boto3 knows, over all partitions."""
        session = (
            _hermetic_session()
        )  # whatever is wrong with the user's files must not hide the error that is being explained
        partitions = session.get_available_partitions()
        return tuple(
            region
            for partition in partitions
            for region in session.get_available_regions("ec2", partition)
        )

    def caller_cidr(self) -> str:
        """The laptop's public address. Raises CloudError when it can't be learned."""
        import httpx

        try:
            answer = httpx.get(_CHECK_ADDRESS, timeout=10).raise_for_status().text.strip()
            return str(ipaddress.IPv4Network(answer))
        except (httpx.HTTPError, ValueError) as error:
            what = (
                "the laptop's public address could not be learned; port 22 is opened for that"
                " address alone"
            )
            remedy = "check the laptop's network, then repeat the command"
            raise CloudError(what, where=_CHECK_ADDRESS, why=str(error), remedy=remedy) from None

    def address_of(self, instance: dict[str, Any]) -> Address | None:
        """The public address, else the private one; port 22. Session Manager is asked for the
        instance itself."""
        if self.reach == "ssm":
            return Address(instance["InstanceId"], 22, self.user)
        public = instance.get("PublicIpAddress") if self.reach == "public" else None
        host = public or instance.get("PrivateIpAddress")
        return Address(host, 22, self.user) if host else None

    def session_plugin(self) -> list[str]:
        """AWS's session-manager-plugin."""
        if found := shutil.which("session-manager-plugin"):
            return [found]
        raise LaptopError(
            "there is no `session-manager-plugin` on this laptop, and a box with `reach: ssm` is"
            " reached through it",
            remedy=(
                "`curl -o /tmp/p.deb"
                " https://s3.amazonaws.com/session-manager-downloads/plugin/latest/ubuntu_64bit/session-manager-plugin.deb"
                " && sudo dpkg -i /tmp/p.deb` (macOS: `brew install --cask session-manager-plugin`)"
            ),
        )


@dataclass(frozen=True)
class EmbeddedEndpoint:
    """The embedded cloud on this laptop."""

    url: str
    region: str = "us-east-1"
    is_billed: bool = False
    patience: Patience = Patience(state=90, ssh=60, host_key=30, poll=0.1)
    reach: str = "public"

    def client(self, service: str) -> Any:
        """A boto3 client."""
        with _MAKING:
            return _embedded_client(self.url, self.region, service)

    def in_region(self, region: str) -> "EmbeddedEndpoint":
        """The embedded cloud under another region's name."""
        return replace(self, region=region)

    def regions(self) -> tuple[str, ...]:
        """Nothing: it serves any region, whatever its name."""
        return ()

    def caller_cidr(self) -> str:
        """Loopback."""
        return "127.0.0.1/32"

    def address_of(self, instance: dict[str, Any]) -> Address | None:
        """What the embedded cloud says about the instance's SSH server."""
        from remote.control.cloud import embedded

        host, port, user = embedded.address_of(self.url, instance["InstanceId"])
        return (
            Address(instance["InstanceId"], 22, user)
            if self.reach == "ssm"
            else Address(host, port, user)
        )

    def session_plugin(self) -> list[str]:
        """A stand-in of ours."""
        return [sys.executable, "-m", "remote.embedded.instances.session_plugin"]


def of_entry(entry: "CloudEntry", start: bool = True) -> Endpoint:
    """The endpoint behind an entry of the inventory.

    Starts the embedded cloud where it is meant; raises CloudError instead when `start` is False and
    it is down.
    """
    user = entry.user if isinstance(entry, Ec2Entry) else ""
    return of_place(entry.provider, entry.region, user, entry.reach, start)


def of_place(
    provider: str, region: str, user: str, reach: str = "public", start: bool = False
) -> Endpoint:
    """The endpoint of a provider in a region, as `of_entry` tells."""
    if provider == "embedded":
        from remote.control.cloud import embedded

        return EmbeddedEndpoint(embedded.endpoint(start), region, reach=reach)
    return AwsEndpoint(region, user, reach=reach)


def of_box(box: Box) -> Endpoint:
    """The endpoint behind a box that was found."""
    return of_place(box.provider, box.region, box.user, box.reach, start=True)


def storage_url(box: Box) -> str:
    """Where S3 answers for a box: in its cloud, or at the endpoint that the environment names, as
    for AWS's own tools."""
    if box.provider == "embedded":
        from remote.control.cloud import embedded

        return embedded.endpoint()
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return (
        named.rstrip("/")
        if named
        else f"https://s3.{box.region}.amazonaws.com"
        if box.region
        else "https://s3.amazonaws.com"
    )


@cache
def _aws_client(region: str, service: str) -> Any:
    from botocore.config import Config

    config = Config(
        retries=_RETRIES,
        connect_timeout=10,
        read_timeout=60,
        user_agent_extra="windlass",
        **_SIDE_BY_SIDE | _signing(service),
    )
    session = credentials.session(
        region
    )  # one for all: an MFA device is asked once, a program run once
    with credentials.told():
        return _whole(session.client(service, region_name=region, config=config))


@lru_cache(maxsize=16)
def _embedded_client(url: str, region: str, service: str) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(
        "windlass", "windlass", region_name=region, botocore_session=_hermetic_session()
    )
    # An empty mapping of proxies, not None: None would be filled from the environment.
    path = {"s3": {"addressing_style": "path"}}
    config = Config(
        retries=_RETRIES,
        connect_timeout=5,
        read_timeout=60,
        proxies={},
        **_SIDE_BY_SIDE | _signing(service) | path,
    )
    return _whole(session.client(service, endpoint_url=url, config=config))


def _whole(client: Any) -> Any:
    """The client with what it else loads when first asked for pages, in each thread that asks."""
    client.can_paginate(next(iter(client.meta.method_to_api_mapping)))
    return client


def _signing(service: str) -> dict[str, Any]:
    """Presigned addresses of S3 are else signed by the old version, and for the global host: no use
    in most regions."""
    return (
        {"signature_version": "s3v4", "s3": {"us_east_1_regional_endpoint": "regional"}}
        if service == "s3"
        else {}
    )


def _hermetic_session() -> Any:
    """A botocore session with every setting at its default: no variable of the environment and no
    file of the user's is read."""
    import botocore.session

    known = botocore.session.Session.SESSION_VARIABLES
    defaults = {
        name: (None, None, default, convert) for name, (_, _, default, convert) in known.items()
    }
    nowhere = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return botocore.session.Session(session_vars={**defaults, **nowhere})
