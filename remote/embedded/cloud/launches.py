"""RunInstances, StartInstances and StopInstances where EC2 is stricter than moto: tokens, capacity,
quotas, the spot market.

Every EC2 request is answered under the account's lock, so one launch is looked at at a time.
"""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import random_spot_request_id
from moto.iam.exceptions import NotFoundException

from remote.control.project.identity import BOX_TAG
from remote.embedded.cloud import catalog
from remote.embedded.cloud.faults import Faults
from remote.embedded.cloud.moto_changes import parameter, replace

if TYPE_CHECKING:
    from remote.embedded.cloud.account import Account

_NO_TOKEN = "ABCDE"  # noqa: S105 - moto's own word for a request without one
_USER_DATA_BYTES = 16384


class Launches:
    """What this account may launch, and what it has launched. `fingerprints` are to be kept with
    the account."""

    def __init__(self, account: "Account", faults: Faults) -> None:
        self.fingerprints: dict[str, str] = {}
        self._account = account
        self._faults = faults
        self._spot_options: dict[str, Any] | None = None

    def install(self) -> None:
        """Put ours in moto's place. Once in a process."""
        replace(InstanceResponse, "run_instances", self._answer)
        replace(EC2Backend, "run_instances", self._run)
        replace(EC2Backend, "stop_instances", _stop_none_of_the_spot_market)

    def expect_room(self, instance: Instance) -> None:
        """Raises EC2's error when there is no room to start a stopped instance."""
        facts = facts_of(instance)
        if fault := self._faults.strike("capacity", "quota", names=names_of(instance), **facts):
            raise _refused(fault.kind, facts)
        self._expect_quota(facts, 1)

    def _answer(self, original: Callable[..., Any], response: Any) -> Any:
        is_spot = parameter(response, "InstanceMarketOptions.MarketType") == "spot"
        self._spot_options = (
            parameter(response, "InstanceMarketOptions.SpotOptions", {}) if is_spot else None
        )
        try:
            return original(response)
        except NotFoundException:
            # EC2 has words of its own for a profile that IAM does not know.
            name = parameter(response, "IamInstanceProfile.Name")
            message = (
                f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM"
                " Instance Profile name"
            )
            raise EC2ClientError("InvalidParameterValue", message) from None

    def _run(
        self,
        original: Callable[..., Any],
        backend: Any,
        image_id: str,
        count: int,
        user_data: Any,
        *rest: Any,
        **kwargs: Any,
    ) -> Any:
        asked = hashlib.sha256(
            repr((image_id, count, str(user_data), sorted(kwargs.items()))).encode()
        ).hexdigest()
        if earlier := _launched_with(backend, kwargs.get("client_token", _NO_TOKEN)):
            if self.fingerprints.get(earlier.id) != asked:
                raise EC2ClientError(
                    "IdempotentParameterMismatch",
                    "The client token was used before, with other parameters.",
                )
            return earlier
        if user_data and len(base64.b64decode(str(user_data))) > _USER_DATA_BYTES:
            raise EC2ClientError(
                "InvalidParameterValue", f"User data is limited to {_USER_DATA_BYTES} bytes"
            )
        market = "spot" if kwargs.get("instance_market_options") else "on-demand"
        self._place(backend, count, market, kwargs)
        tags = kwargs.get("tags") or {}
        reservation = original(backend, image_id, count, user_data, *rest, **kwargs)
        self.fingerprints[reservation.id] = asked
        for instance in reservation.instances:
            if market == "spot":
                _request_spot(backend, instance, self._spot_options or {}, tags)
            self._account.boot(instance)
        return reservation

    def _place(self, backend: Any, count: int, market: str, kwargs: dict[str, Any]) -> None:
        """Choose the zone where the request leaves it open; raises EC2's error where there is none
        with room."""
        tags = (kwargs.get("tags") or {}).get("instance", {})
        names = tuple(str(tags[name]) for name in ("Name", BOX_TAG) if name in tags)
        facts = {"region": backend.region_name, "type": kwargs["instance_type"], "market": market}
        wanted = _zone_of(backend, kwargs)
        zones = (
            [wanted] if wanted else [zone.name for zone in backend.describe_availability_zones()]
        )
        refusals = ("quota", "spot-price") if market == "spot" else ("quota",)
        if fault := self._faults.strike(
            *refusals, "no-subnet", "subnet-full", names=names, zone=zones[0], **facts
        ):
            raise _refused(fault.kind, {**facts, "zone": zones[0]})
        without = [
            zone
            for zone in zones
            if self._faults.standing("capacity", names=names, zone=zone, **facts)
        ]
        if len(without) == len(zones):
            self._faults.strike("capacity", names=names, zone=zones[0], **facts)
            raise _refused("capacity", {**facts, "zone": wanted or ""})
        zone = next(zone for zone in zones if zone not in without)
        if without:
            kwargs["placement"] = zone
        self._expect_quota({**facts, "zone": zone}, count)
        _expect_price(self._spot_options or {}, {**facts, "zone": zone})

    def _expect_quota(self, facts: dict[str, str], count: int) -> None:
        if facts["type"] not in INSTANCE_TYPES:
            return  # moto has the words for that
        needed = count * catalog.vcpus(facts["type"])
        if needed > catalog.room(self._account, facts["region"], facts["type"], facts["market"]):
            raise _refused("quota", facts)


def facts_of(instance: Instance) -> dict[str, str]:
    """Where and what an instance is, as faults ask: zone, region, type, market."""
    market = "spot" if instance.lifecycle == "spot" else "on-demand"
    return {
        "zone": instance.placement.zone or "",
        "region": instance.region_name,
        "type": instance.instance_type,
        "market": market,
    }


def names_of(instance: Instance) -> tuple[str, ...]:
    """What an instance may be called: its id, its name, the box that it is."""
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    return (instance.id, *(tags[name] for name in ("Name", BOX_TAG) if name in tags))


def close_spot_request(instance: Instance, code: str) -> None:
    """A one-time request ends with its instance."""
    request = instance.ec2_backend.spot_instance_requests.get(
        getattr(instance, "spot_instance_request_id", None)
    )
    if request:
        request.state, request.code, request.status_message = (
            "closed",
            code,
            "The instance is terminated.",
        )


class SpotRequest(SpotInstanceRequest):  # type: ignore[misc]
    """The request behind an instance that RunInstances launched on the spot market. (moto's
    launches one itself.)"""

    code = "fulfilled"

    def __init__(
        self, backend: Any, instance: Instance, options: dict[str, Any], tags: dict[str, Any]
    ) -> None:
        self._made_for = instance
        self._made_at = datetime.now(UTC)
        super().__init__(
            backend,
            random_spot_request_id(),
            options.get("MaxPrice", ""),
            instance.image_id,
            options.get("SpotInstanceType", "one-time"),
            None,
            None,
            None,
            None,
            instance.key_name,
            [group.id for group in instance.security_groups],
            instance.user_data,
            instance.instance_type,
            instance.placement.zone,
            None,
            None,
            False,
            instance.subnet_id,
            tags,
            None,
            options.get("InstanceInterruptionBehavior"),
        )
        self.status_message = "Your Spot request is fulfilled."

    def launch_instance(self) -> Instance:
        """The instance that is there already."""
        return self._made_for

    @property
    def create_time(self) -> datetime:
        """When it was made."""
        return self._made_at

    @property
    def status(self) -> dict[str, Any]:
        """Why it is in its state."""
        return {"Code": self.code, "Message": self.status_message, "UpdateTime": self._made_at}


def _request_spot(
    backend: Any, instance: Instance, options: dict[str, Any], tags: dict[str, Any]
) -> None:
    if options.get("SpotInstanceType", "one-time") == "one-time":
        instance.instance_initiated_shutdown_behavior = "terminate"
    request = SpotRequest(backend, instance, options, tags)
    backend.spot_instance_requests[request.id] = request
    instance.instance_lifecycle = "spot"
    instance.spot_instance_request_id = request.id


def _stop_none_of_the_spot_market(
    original: Callable[..., Any], backend: Any, instance_ids: list[str]
) -> Any:
    for instance in backend.get_multi_instances_by_id(instance_ids):
        if is_one_time(instance):
            message = (
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with a"
                " one-time Spot Instance request."
            )
            message += (
                " You can only stop Spot Instances associated with persistent Spot Instance"
                " requests."
            )
            raise EC2ClientError("UnsupportedOperation", message)
    return original(backend, instance_ids)


def is_one_time(instance: Instance) -> bool:
    """Whether the instance was bought on the spot market for one run: once its power is off it is
    gone."""
    request = instance.ec2_backend.spot_instance_requests.get(
        getattr(instance, "spot_instance_request_id", None)
    )
    return instance.lifecycle == "spot" and (request is None or request.type == "one-time")


def _launched_with(backend: Any, token: str) -> Any:
    """The reservation that was made with a client token."""
    made = (reservation for reservation in backend.reservations.values() if token != _NO_TOKEN)
    return next(
        (
            reservation
            for reservation in made
            if any(instance.client_token == token for instance in reservation.instances)
        ),
        None,
    )


def _zone_of(backend: Any, kwargs: dict[str, Any]) -> str | None:
    if subnet := kwargs.get("subnet_id"):
        return str(backend.get_subnet(subnet).availability_zone)
    return kwargs.get("placement")


def _expect_price(options: dict[str, Any], facts: dict[str, str]) -> None:
    most = options.get("MaxPrice")
    price = catalog.spot_price(facts["type"], facts["zone"], datetime.now(UTC)) if most else None
    if most and price is not None and float(most) < price:
        raise EC2ClientError("SpotMaxPriceTooLow", _too_low(most, f"{price:.4f}"))


def _too_low(asked: str, price: str) -> str:
    return (
        f"Your Spot request price of {asked} is lower than the minimum required Spot request"
        f" fulfillment price of {price}."
    )


def _refused(kind: str, facts: dict[str, str]) -> EC2ClientError:
    if kind == "capacity":
        return EC2ClientError(
            "InsufficientInstanceCapacity", _no_capacity(facts["type"], facts["zone"])
        )
    if kind == "no-subnet":
        return EC2ClientError(
            "MissingInput", f"No default subnet for availability zone: '{facts['zone']}'."
        )
    if kind == "subnet-full":
        return EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses.",
        )
    if kind == "spot-price":
        return EC2ClientError("SpotMaxPriceTooLow", _too_low("the request", "the market"))
    if facts["market"] == "spot":
        return EC2ClientError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    message = (
        "You have requested more vCPU capacity than your current vCPU limit allows for the instance"
        " bucket that the specified instance"
    )
    message += (
        " type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an"
        " adjustment to this limit."
    )
    return EC2ClientError("VcpuLimitExceeded", message)


def _no_capacity(kind: str, zone: str) -> str:
    if not zone:
        return (
            f"There is no Spot or On-Demand capacity available for {kind} in any Availability Zone"
            " of the region."
        )
    return (
        f"We currently do not have sufficient {kind} capacity in the Availability Zone you"
        f" requested ({zone}). Our system will be working on provisioning additional capacity. You"
        f" can currently get {kind} capacity by not specifying an Availability Zone."
    )
