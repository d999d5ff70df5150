"""Boxes over the EC2 API: AWS and the embedded cloud alike. What differs between them is in `endpoint.py` alone.

The cloud is the truth: a box is the instance with its tags, found anew each time, so that a re-run after a kill, another laptop
with the same `.windlass` folder, and a hand in the AWS console all lead to the same box.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from remote.control.cloud import host_keys, identity, ingress, keys, prices, refusals, request, waiting
from remote.control.cloud.box import Box, State
from remote.control.cloud.endpoint import Endpoint
from remote.control.cloud.provider import Plan, Progress
from remote.control.errors import BoxUnreachable, CloudError, LoginRefused
from remote.control.transport import known_hosts

_GONE = ("shutting-down", "terminated")
_GENERATIONS = 50


@dataclass(frozen=True)
class Ec2:
    """One box of the inventory on one endpoint. Every method raises the errors of `refusals`."""

    entry: Any
    endpoint: Endpoint

    def find(self) -> Box | None:
        """The box as its tags tell. Raises CloudError when several instances bear them."""
        with self._explained():
            instance = self._live()
            return self.box_of(instance) if instance else None

    def plan(self) -> Plan:
        """What `ready` would do; only reads."""
        existing = self.find()
        if existing:
            return Plan("start it" if existing.state in ("stopping", "stopped") else "nothing: it is up", existing)
        with self._explained():
            image = request.image(self.entry, self.endpoint, self._context)
        key = keys.private_key(self.entry)
        facts = [
            ("type", self.entry.instance_type),
            ("region", self.endpoint.region),
            ("image", f"{image['ImageId']} ({image.get('Name', 'unnamed')})"),
            ("disk", f"{self.entry.disk_gb} GB gp3, encrypted"),
            ("access", "SSH on port 22 from this laptop's address only; IMDSv2 required"),
            ("key", str(key) if key else request.wish(self.entry, "key_name") or f"a new one: {keys.own_key_path()}"),
            ("price", self._price()),
        ]
        return Plan("launch it", None, facts, self.endpoint.is_billed, self._hourly(self.entry.instance_type))

    def ready(self, on_progress: Progress) -> Box:
        """Launch or start the box where needed; returns when SSH answers and its host key is pinned. Repeatable after a kill."""
        with self._explained():
            instance = self._live()
            if instance:
                self._check_login(instance)
                self._admit_caller(instance, on_progress)
            else:
                instance = self._launch(on_progress)
            box = self.box_of(self._running(instance, on_progress))
            self._await_ssh(box, on_progress)
            host_keys.pin_from_console(self._ec2, box, self.endpoint.patience, on_progress)
            return box

    def stop(self, on_progress: Progress) -> Box | None:
        """Stop the box and wait for it; None when there is none. The disk, and its price, stay."""
        with self._explained():
            instance = self._live()
            if not instance:
                return None
            if instance["State"]["Name"] == "pending":
                instance = self._running(instance, on_progress)
            if instance["State"]["Name"] == "running":
                self._ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
            return self.box_of(self._await_state(instance["InstanceId"], ("stopped",), on_progress))

    def terminate(self, on_progress: Progress, instance_id: str | None = None) -> Box | None:
        """Terminate the box with its disk, its security group and its pinned key, and wait; None when there is none."""
        with self._explained():
            instances = self._instances()
            instance = self._named(instances, instance_id) if instance_id else self._only(instances)
            gone = None
            if instance and not is_gone(instance):
                self._ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
                gone = self.box_of(self._await_state(instance["InstanceId"], ("terminated",), on_progress))
            self._clear_up([each for each in instances if each is instance or is_gone(each)], on_progress)
            return gone

    def box_of(self, instance: dict[str, Any], note: str = "") -> Box:
        """The box that an instance is."""
        state = _state_of(instance)
        address = self.endpoint.address_of(instance) if state == "running" else None
        launched = instance.get("LaunchTime")
        return Box(
            name=self.entry.name,
            provider=self.entry.provider,
            id=instance["InstanceId"],
            state=state,
            host=address.host if address else "",
            port=address.port if address else 0,
            user=address.user if address else request.wish(self.entry, "user") or "",
            key=keys.key_path(self.entry),  # unchecked: a box is stopped without its key too
            host_key_alias=instance["InstanceId"],
            instance_type=instance["InstanceType"],
            region=self.endpoint.region,
            root=self.entry.root,
            shared=self.entry.shared,
            launched_at=launched.timestamp() if launched else None,
            hourly_usd=self._hourly(instance["InstanceType"]),
            note=note,
            reach=request.wish(self.entry, "reach") or "public",
            bastion=request.wish(self.entry, "bastion"),
            instance_connect=bool(request.wish(self.entry, "instance_connect")),
        )

    @cached_property
    def _ec2(self) -> Any:
        return self.endpoint.client("ec2")

    def _explained(self) -> AbstractContextManager[None]:
        return refusals.explained(self._context)

    @cached_property
    def _context(self) -> refusals.Context:
        return refusals.Context(self.entry.name, self.endpoint.region, self.entry.instance_type, self.endpoint.regions)

    def _hourly(self, instance_type: str) -> float | None:
        return prices.hourly(instance_type) if self.endpoint.is_billed else None

    def _price(self) -> str:
        return prices.in_words(self.entry.instance_type, self.endpoint.region, self.entry.disk_gb) if self.endpoint.is_billed else "nothing"

    # Finding ------------------------------------------------------------------------------------------------------------

    def _instances(self) -> list[dict[str, Any]]:
        """Every instance with the box's tags, terminated ones included while the cloud remembers them."""
        return [instance for instance in project_instances(self._ec2) if tag(instance, identity.BOX_TAG) == self.entry.name]

    def _live(self) -> dict[str, Any] | None:
        return self._only(self._instances())

    def _only(self, instances: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
        live = [instance for instance in instances if not is_gone(instance)]
        if len(live) > 1:
            raise self._ambiguous(live)
        return live[0] if live else None

    def _named(self, instances: Iterable[dict[str, Any]], instance_id: str) -> dict[str, Any]:
        found = next((each for each in instances if each["InstanceId"] == instance_id), None)
        if found is None:
            remedy = f"`./inv box.list` tells the instances of box {self.entry.name}"
            raise CloudError(f"{instance_id} is no instance of box {self.entry.name}", where=self._context.where, remedy=remedy)
        return found

    def _ambiguous(self, live: list[dict[str, Any]]) -> CloudError:
        told = ", ".join(f"{each['InstanceId']} ({each['State']['Name']}, since {each['LaunchTime']:%Y-%m-%d %H:%M})" for each in live)
        return CloudError(
            f"{len(live)} instances are box {self.entry.name}",
            where=self._context.where,
            why=f"they all bear the tag {identity.BOX_TAG}={self.entry.name}: {told}",
            remedy=f"end the wrong one: `./inv terminate {self.entry.name} --id {live[-1]['InstanceId']}`",
            kept="both run on as they were",
        )

    # Launching ----------------------------------------------------------------------------------------------------------

    def _launch(self, on_progress: Progress) -> dict[str, Any]:
        asked = request.prepare(self.entry, self.endpoint, self._context, on_progress)
        on_progress(f"launching {self.entry.name}: {self.entry.instance_type} in {self.endpoint.region}")
        first = sum(map(is_gone, self._instances()))
        for generation in range(first, first + _GENERATIONS):
            instance = self._run({**asked, "ClientToken": identity.client_token(self.entry.name, generation)})
            if instance and not is_gone(instance):
                return instance
        raise CloudError(f"box {self.entry.name} was terminated as often as it was launched", remedy="look at it in the AWS console")

    def _run(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        """The instance behind the request's token; None when the token is used up and the next one is due."""
        from botocore.exceptions import ClientError

        try:
            return dict(self._ec2.run_instances(**asked)["Instances"][0])
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "IdempotentInstanceTerminated":
                return None
            if code != "IdempotentParameterMismatch":
                raise
            # An earlier launch was cut off before its answer and the inventory changed since: its instance is the box, once it shows.
            poll = self.endpoint.patience.poll
            return waiting.until(self._live, "looking for an earlier launch", _silent, 10 * poll, poll)

    # Entering -----------------------------------------------------------------------------------------------------------

    def _check_login(self, instance: dict[str, Any]) -> None:
        login, theirs = keys.identity_of(self.entry), instance.get("KeyName")
        if theirs != login.name:
            raise LoginRefused(
                f"the key of the inventory does not fit box {self.entry.name}",
                where=f"box {self.entry.name} ({instance['InstanceId']})",
                why=f"it was launched with the key pair {theirs}, not {login.name} ({login.key or 'SSH agent'})",
                remedy=f"put the old key back (`ssh_key:` in inventory.yaml), or `./inv terminate {self.entry.name}` and launch it anew",
                kept="the box is as it was",
            )

    def _admit_caller(self, instance: dict[str, Any], on_progress: Progress) -> None:
        group = ingress.find_group(self._ec2, identity.group_name(self.entry.name), instance["VpcId"])
        if group:
            ingress.admit(self._ec2, group, self.endpoint.caller_cidr(), on_progress)

    def _await_ssh(self, box: Box, on_progress: Progress) -> None:
        patience = self.endpoint.patience
        what = f"waiting for SSH of {box.name} at {box.address}"
        if not waiting.until(lambda: waiting.speaks_ssh(box.host, box.port) or None, what, on_progress, patience.ssh, patience.poll):
            last = host_keys.console(self._ec2, box.id).strip().splitlines()[-3:]
            raise BoxUnreachable(
                f"SSH does not answer within {patience.ssh:.0f} s",
                where=box.where,
                why=f"the console ends with: {' | '.join(last)}" if last else "the console is empty so far",
                remedy=f"`./inv start {box.name}` waits on; if that fails too, `./inv stop {box.name}` and `./inv start {box.name}`",
                kept=f"the box runs and costs ${box.hourly_usd:.2f}/h: `./inv stop {box.name}`" if box.hourly_usd else "the box runs on",
            )

    # States -------------------------------------------------------------------------------------------------------------

    def _running(self, instance: dict[str, Any], on_progress: Progress) -> dict[str, Any]:
        instance_id, state = instance["InstanceId"], instance["State"]["Name"]
        if state == "stopping":
            state = self._await_state(instance_id, ("stopped",), on_progress)["State"]["Name"]
        if state == "stopped":
            on_progress(f"starting {self.entry.name} ({instance_id})")
            self._ec2.start_instances(InstanceIds=[instance_id])
        return self._await_state(instance_id, ("running",), on_progress)

    def _await_state(self, instance_id: str, wanted: tuple[str, ...], on_progress: Progress) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            instance = self._described(instance_id)
            if instance and is_gone(instance) and wanted != ("terminated",):
                raise self._died(instance)
            return instance if instance and instance["State"]["Name"] in wanted else None

        patience = self.endpoint.patience
        what = f"waiting until {self.entry.name} ({instance_id}) is {wanted[0]}"
        found = waiting.until(look, what, on_progress, patience.state, patience.poll)
        if found is None:
            what, why = f"box {self.entry.name} does not move on", f"it is not {wanted[0]} after {patience.state:.0f} s"
            raise CloudError(what, where=self._context.where, why=why, remedy="repeat the command: it waits on")
        return found

    def _described(self, instance_id: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._ec2.describe_instances(InstanceIds=[instance_id])
        except ClientError as error:
            # A new instance may be unknown to the next request for some seconds.
            if error.response["Error"]["Code"] == "InvalidInstanceID.NotFound":
                return None
            raise
        return next((instance for reservation in answer["Reservations"] for instance in reservation["Instances"]), None)

    def _died(self, instance: dict[str, Any]) -> CloudError:
        reason = instance.get("StateReason", {})
        message = reason.get("Message", "the instance was terminated meanwhile")
        return refusals.of_code(reason.get("Code", "terminated"), message, self._context)

    def _clear_up(self, gone: list[dict[str, Any]], on_progress: Progress) -> None:
        for instance in gone:
            known_hosts.forget(instance["InstanceId"])
        if all(is_gone(instance) or instance in gone for instance in self._instances()):
            patience = self.endpoint.patience
            name = identity.group_name(self.entry.name)
            what = f"removing the security group of {self.entry.name}"
            waiting.until(lambda: ingress.remove_groups(self._ec2, name) or None, what, on_progress, patience.state / 5, patience.poll)


def project_instances(ec2: Any) -> list[dict[str, Any]]:
    """Every instance with this project's tag, terminated ones included while the cloud remembers them."""
    filters = [{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    found = [instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]]
    return sorted(found, key=lambda instance: (instance["LaunchTime"], instance["InstanceId"]))


def tag(instance: dict[str, Any], key: str) -> str:
    """The value of an instance's tag, or the empty string."""
    return next((str(each["Value"]) for each in instance.get("Tags", ()) if each["Key"] == key), "")


def _state_of(instance: dict[str, Any]) -> State:
    name = instance["State"]["Name"]
    return "terminated" if name in _GONE else name


def is_gone(instance: dict[str, Any]) -> bool:
    """Whether the instance is terminated, or about to be."""
    return instance["State"]["Name"] in _GONE


def _silent(_line: str) -> None:
    return
