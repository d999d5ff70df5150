"""Instances as the cloud tells them, found by their tags over several regions at once."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.box import State
from remote.control.project import history, identity

_GONE = ("shutting-down", "terminated")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Instance:
    """One instance at one moment: `facts` as DescribeInstances tells them, `there` is the cloud in
    its region."""

    facts: dict[str, Any]
    there: Endpoint

    @property
    def id(self) -> str:
        """The instance id."""
        return str(self.facts["InstanceId"])

    @property
    def state(self) -> str:
        """EC2's own word: pending, running, stopping, stopped, shutting-down or terminated."""
        return str(self.facts["State"]["Name"])

    @property
    def shown_state(self) -> State:
        """The state of the box that it is: `terminated` from the moment that is decided."""
        return "terminated" if self.is_gone else self.state  # type: ignore[return-value]

    @property
    def is_gone(self) -> bool:
        """Whether it is terminated, or about to be."""
        return self.state in _GONE

    @property
    def is_replaced(self) -> bool:
        """Whether a newer instance was to take its place, and its loss was agreed to."""
        return bool(self.tag(identity.REPLACED_TAG))

    @property
    def is_adopted(self) -> bool:
        """Whether somebody else made it."""
        return bool(self.tag(identity.ADOPTED_TAG))

    @property
    def zone(self) -> str:
        """Its availability zone."""
        return str(self.facts.get("Placement", {}).get("AvailabilityZone", ""))

    @property
    def market(self) -> str:
        """on-demand or spot."""
        return "spot" if self.facts.get("InstanceLifecycle") == "spot" else "on-demand"

    @property
    def launched_at(self) -> float | None:
        """When it was last started, in seconds since the epoch, UTC."""
        launched = self.facts.get("LaunchTime")
        return launched.timestamp() if launched else None

    @property
    def stopped_at(self) -> float | None:
        """When it was stopped, in seconds since the epoch, UTC; None while it is not, or where
        neither the cloud nor `reap` knows."""
        if self.state != "stopped":
            return None
        # EC2 leaves the moment out where the instance shut itself down.
        told = re.search(
            r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \w+\)",
            self.facts.get("StateTransitionReason") or "",
        )
        if told:
            return datetime.fromisoformat(f"{told[1]}+00:00").timestamp()
        marked = self.tag(identity.UNUSED_TAG)
        at = datetime.fromisoformat(marked).timestamp() if marked else 0.0
        return at if at and at >= (self.launched_at or 0) else None

    @property
    def reason(self) -> tuple[str, str]:
        """Why it is in its state: the cloud's code and message; empty where it says nothing."""
        told = self.facts.get("StateReason") or {}
        return str(told.get("Code", "")), str(told.get("Message", ""))

    def tag(self, key: str) -> str:
        """The value of a tag, or the empty string."""
        return next(
            (str(each["Value"]) for each in self.facts.get("Tags", ()) if each["Key"] == key), ""
        )

    def __str__(self) -> str:
        return (
            f"{self.id} ({self.state} in {self.zone or self.there.region}, since"
            f" {self.facts['LaunchTime']:%Y-%m-%d %H:%M})"
        )


def of_project(there: Endpoint) -> list[Instance]:
    """Every instance of one region with this project's tag, terminated ones included while the
    cloud remembers them; oldest first."""
    return described(there, {f"tag:{identity.PROJECT_TAG}": [identity.project_mark()]})


def of_box(name: str, places: Sequence[Endpoint]) -> list[Instance]:
    """Every instance with the box's tags, over all those regions; oldest first."""
    tags = {
        f"tag:{identity.PROJECT_TAG}": [identity.project_mark()],
        f"tag:{identity.BOX_TAG}": [name],
    }
    found = map_concurrently(lambda there: described(there, tags, name), places)
    return sorted((each for some in found for each in some), key=_age)


def by_id(there: Endpoint, instance_id: str, name: str = "") -> Instance | None:
    """The instance of that id in one region, or None: a new one may be unknown to the next request
    for some seconds."""
    return next(iter(described(there, {"instance-id": [instance_id]}, name)), None)


def by_ids(there: Endpoint, instance_ids: Sequence[str]) -> list[Instance]:
    """Those of the instances that are in this region."""
    return described(there, {"instance-id": list(instance_ids)}) if instance_ids else []


def lost_sight_of(
    names: Sequence[str] | None, places: Sequence[Endpoint], found: Iterable[Instance]
) -> list[Instance]:
    """Those that this checkout launched for boxes of these names (None: of any), that still are,
    and that are not among the `found`.

    They bear another mark than the project's, or none. Costs no request where everything is in
    sight.
    """
    seen = {each.id for each in found}
    wanted = [each for each in history.launched(names) if each.id not in seen]
    asked = [
        (there, [each.id for each in wanted if each.region == there.region]) for there in places
    ]
    answers = map_concurrently(lambda each: by_ids(*each), [each for each in asked if each[1]])
    return [
        each
        for some in answers
        for each in some
        if not each.is_gone and each.tag(identity.PROJECT_TAG) != identity.project_mark()
    ]


def described(there: Endpoint, filters: dict[str, list[str]], name: str = "") -> list[Instance]:
    """The instances of one region that pass the filters; oldest first. Raises the errors of
    `refusals`."""
    with refusals.explained(refusals.Context(name, there.region, regions=there.regions)):
        asked = [{"Name": key, "Values": values} for key, values in filters.items()]
        pages = there.client("ec2").get_paginator("describe_instances").paginate(Filters=asked)
        found = [
            facts
            for page in pages
            for reservation in page["Reservations"]
            for facts in reservation["Instances"]
        ]
    return sorted((Instance(facts, there) for facts in found), key=_age)


def map_concurrently(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`work` of each item, in order, all at once; raises what the first of them raised."""
    asked = list(items)
    if len(asked) < 2:
        return [work(item) for item in asked]
    with ThreadPoolExecutor(min(len(asked), 16)) as pool:
        return list(pool.map(work, asked))


def _age(instance: Instance) -> tuple[Any, str]:
    return instance.facts["LaunchTime"], instance.id
