"""Boxes over the EC2 API: AWS and the embedded cloud alike. What differs between them is in
`endpoint.py` alone.

The cloud is the truth: a box is the instance with its tags, found anew each time, so that a re-run
after a kill, another laptop with the same `.windlass` folder, and a hand in the AWS console all
lead to the same box.
"""

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from remote.control.cloud.access import keys, reach, waiting
from remote.control.cloud.account import quotas, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.box import Box
from remote.control.cloud.ec2 import (
    adopt,
    cleanup,
    instances,
    launching,
    offers,
    request,
    transitions,
    wait_ready,
)
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.ec2.offers import Offer
from remote.control.cloud.phases import Phases
from remote.control.cloud.pricing import estimate, prices
from remote.control.cloud.provider import Mode, Plan, Progress, Wanted
from remote.control.errors import BoxStopped, CapacityError, CloudError
from remote.control.project import history, identity
from remote.control.retry import CapacityWait

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry


@dataclass(frozen=True)
class Ec2:
    """One box of the inventory; `endpoint` is its own region's. Every method raises the errors of
    `refusals`."""

    entry: "CloudEntry"
    endpoint: Endpoint

    def find(self) -> Box | None:
        """The box as its tags tell, in whichever region it is. Raises CloudError when several
        instances bear them."""
        with self._explained():
            instance = self._live()
            return self.box_of(instance) if instance else None

    def plan(self, mode: Mode = "auto") -> Plan:
        """What `ready` would do, and why; only reads."""
        with self._explained():
            existing = self._live()
        if existing and mode != "fresh":
            return self._reusing(existing)
        self._check_mode(mode, existing)
        return self._launching(self.box_of(existing) if existing else None)

    def ready(self, on_progress: Progress, wanted: Wanted) -> Box:
        """Launch or start the box where needed; returns when SSH answers and its host key is
        pinned. Repeatable after a kill."""
        phases = Phases(self.entry.name, on_progress)
        with self._explained():
            found = self._found()
            existing = self._only(found)
            self._check_mode(wanted.mode, existing)
            if existing and wanted.mode != "fresh":
                instance = self._reuse(existing, phases, on_progress, wanted.wait_seconds)
            else:
                if existing and wanted.replace != existing.id:
                    raise self._would_be_two(existing)
                old = sum(each.is_gone or each.is_replaced or each is existing for each in found)
                launch = launching.Launch(
                    self.entry, self.endpoint, old, self._newest, phases, on_progress
                )
                with self._replaced(existing):
                    instance = launch.run(wanted.wait_seconds)
            box = self.box_of(instance)
            wait_ready.enter(
                self.entry, instance, lambda: box, on_progress, phases, wanted.set_deadlines
            )
            self._end_replaced(on_progress, keep=instance.id)
        phases.keep("start" if existing else "launch", box.id)
        return box

    def stop(self, on_progress: Progress) -> Box | None:
        """Stop the box and wait for it; None when there is none. The disk, and its price, stay."""
        with self._explained():
            instance = self._live()
            if not instance:
                return None
            if instance.market == "spot":
                raise self._spot_stays(instance)
            stopped = transitions.until_stopped(instance, self.entry.name, on_progress)
            history.append(self.entry.name, "stopped", id=stopped.id, state=stopped.state)
            return self.box_of(stopped)

    def reboot(self, on_progress: Progress) -> Box:
        """Restart the running box and wait until SSH answers again; its clocks go on counting."""
        phases = Phases(self.entry.name, on_progress)
        with self._explained():
            instance = self._live()
            if instance is None or instance.state != "running":
                raise self._not_running(instance)
            instance.there.client("ec2").reboot_instances(InstanceIds=[instance.id])
            history.append(self.entry.name, "rebooted", id=instance.id)
            with phases.phase("down"):
                self._await_silence(self.box_of(instance), on_progress)
            box = wait_ready.enter(
                self.entry, instance, lambda: self.box_of(instance), on_progress, phases, None
            )
        phases.keep("reboot", box.id)
        return box

    def admit(self, on_progress: Progress) -> None:
        """Let the caller's present address reach port 22 of the box; nothing where there is no
        box."""
        with self._explained():
            if instance := self._live():
                self._admit(instance, on_progress)

    def terminate(
        self, on_progress: Progress, instance_id: str | None = None, is_agreed: bool = False
    ) -> Box | None:
        """Terminate the box with its disk, its security group and its pinned key, and wait; None
        when there is none.

        An adopted instance is ended only when that `is_agreed`.
        """
        with self._explained():
            found = self._found()
            doomed = self._doomed(found, instance_id)
            if not is_agreed and (
                adopted := [each for each in doomed if not each.is_gone and self._is_adopted(each)]
            ):
                raise self._adopted_stays(adopted[0])
            gone = instances.map_concurrently(
                lambda each: transitions.until_terminated(each, self.entry.name, on_progress),
                doomed,
            )
            ended = {each.id for each in gone}
            past = [each for each in found if each.is_gone or each.id in ended]
            if len(past) == len(found):
                cleanup.after_box(self.entry.name, self._places, on_progress)
            for each in past:
                cleanup.forget(each)
            for each in gone:
                history.append(self.entry.name, "terminated", id=each.id)
            return self.box_of(gone[0]) if gone else None

    def box_of(self, instance: Instance, note: str = "") -> Box:
        """The box that an instance is."""
        address = instance.there.address_of(instance.facts) if instance.state == "running" else None
        return Box(
            name=self.entry.name,
            provider=self.entry.provider,
            id=instance.id,
            state=instance.shown_state,
            host=address.host if address else "",
            port=address.port if address else 0,
            user=address.user if address else request.wish(self.entry, "user") or "",
            key=keys.key_path(self.entry),  # unchecked: a box is stopped without its key too
            host_key_alias=instance.id,
            instance_type=instance.facts["InstanceType"],
            region=instance.there.region,
            root=self.entry.root,
            shared=self.entry.shared,
            launched_at=instance.launched_at,
            stopped_at=instance.stopped_at,
            hourly_usd=self._hourly(instance.facts["InstanceType"], instance.there.region),
            note=note
            or (
                "adopted: made by others" if self._is_adopted(instance) else _why_stopped(instance)
            ),
            zone=instance.zone,
            market=instance.market,
            reach=self.entry.reach,
            bastion=self.entry.bastion,
            instance_connect=self.entry.instance_connect,
            entry=self.entry,
        )

    def _explained(self) -> AbstractContextManager[None]:
        return refusals.explained(self._context)

    @cached_property
    def _context(self) -> refusals.Context:
        return refusals.Context(
            self.entry.name, self.endpoint.region, self.entry.instance_type, self.endpoint.regions
        )

    def _hourly(self, instance_type: str, region: str) -> float | None:
        return prices.hourly(instance_type, region) if self.endpoint.is_billed else None

    def _price(self) -> str:
        return (
            prices.describe(self.entry.instance_type, self.endpoint.region, self.entry.disk_gb)
            if self.endpoint.is_billed
            else "nothing"
        )

    # ---- Finding ----

    @cached_property
    def _places(self) -> list[Endpoint]:
        """The cloud in every region where the box may be, its own first."""
        regions = dict.fromkeys([*offers.regions_of(self.entry), *history.regions(self.entry.name)])
        return [self.endpoint.in_region(region) for region in regions]

    def _found(self) -> list[Instance]:
        """Every instance that is or was the box, terminated ones included while the cloud remembers
        them."""
        if self.entry.instance_id:
            adopted = adopt.find(self.entry, self._places)
            return [adopted] if adopted else []
        found = instances.of_box(self.entry.name, self._places)
        if lost := instances.lost_sight_of([self.entry.name], self._places, found):
            raise self._out_of_sight(lost[0])
        return found

    def _live(self) -> Instance | None:
        return self._only(self._found())

    def _only(self, found: Iterable[Instance]) -> Instance | None:
        live = [each for each in found if not each.is_gone]
        # One that is to be replaced is the box until its successor shows.
        mine = [each for each in live if not each.is_replaced] or live[-1:]
        if len(mine) > 1:
            raise self._ambiguous(mine)
        return mine[0] if mine else None

    def _doomed(self, found: list[Instance], instance_id: str | None) -> list[Instance]:
        """What a termination ends: the one that is named, else the box with what it replaced."""
        if instance_id:
            named = [each for each in found if each.id == instance_id]
            if not named:
                raise self._no_instance(instance_id)
            return [each for each in named if each.state != "terminated"]
        self._only(found)
        return sorted(
            (each for each in found if each.state != "terminated"),
            key=lambda each: each.is_replaced,
        )

    def _is_adopted(self, instance: Instance) -> bool:
        return instance.is_adopted or (
            bool(self.entry.instance_id) and not instance.tag(identity.BOX_TAG)
        )

    # ---- Deciding ----

    def _check_mode(self, mode: Mode, existing: Instance | None) -> None:
        if self.entry.instance_id and (existing is None or mode == "fresh"):
            raise (
                adopt.missing(self.entry, self._places) if existing is None else self._never_fresh()
            )
        if mode == "reuse" and existing is None:
            raise self._not_running(None)

    def _reusing(self, existing: Instance) -> Plan:
        box, name = self.box_of(existing), self.entry.name
        whose = (
            "`instance_id:` names it"
            if self.entry.instance_id
            else f"{existing.id} bears the tags of box {name}"
        )
        why = f"{whose}; it is {existing.state} in {existing.zone or box.region}"
        if existing.state == "running":
            return Plan(
                "nothing: it is up",
                box,
                is_billed=self.endpoint.is_billed,
                hourly_usd=box.hourly_usd,
                why=why,
            )
        offer = Offer(
            existing.there.region,
            existing.zone or None,
            existing.facts["InstanceType"],
            existing.market,
        )
        price = prices.of_offer(offer, self.entry.disk_gb, existing.there)
        worst = estimate.worst_case(self.entry, price, datetime.now(UTC))
        return Plan(
            "start it",
            box,
            [],
            self.endpoint.is_billed,
            price.compute_hourly,
            why,
            [offer],
            worst=worst,
        )

    def _launching(self, replaces: Box | None) -> Plan:
        with self._explained():
            image = request.image(self.entry, self.endpoint, self._context)
        tried = offers.offers_of(self.entry)
        lines = estimate.compare(self.entry, self.endpoint)
        worst = estimate.worst_case(self.entry, lines[0].price, datetime.now(UTC))
        regions = ", ".join(there.region for there in self._places)
        why = f"no instance of box {self.entry.name} is there (asked: {regions})"
        action = "launch it"
        if replaces:
            action = f"launch it, then terminate {replaces.id}"
            why = (
                f"a fresh one was asked for; {replaces.id} ({replaces.state}) is terminated, with"
                " its disk, once the new one is up"
            )
        hourly = lines[0].price.compute_hourly if self.endpoint.is_billed else None
        return Plan(
            action,
            None,
            self._facts(image),
            self.endpoint.is_billed,
            hourly,
            why,
            tried,
            replaces,
            lines,
            worst,
        )

    def _facts(self, image: dict[str, Any]) -> list[tuple[str, str]]:
        """What would be made, as label and value."""
        first, *others = offers.offers_of(self.entry)
        key = keys.private_key(self.entry)
        return [
            ("type", first.instance_type),
            ("market", first.market),
            ("region", first.zone or first.region),
            *([("else", "; ".join(map(str, others)))] if others else []),
            ("image", f"{image['ImageId']} ({image.get('Name', 'unnamed')})"),
            ("disk", f"{self.entry.disk_gb} GB gp3, encrypted"),
            ("access", "SSH on port 22 from this laptop's address only; IMDSv2 required"),
            (
                "key",
                (
                    str(key)
                    if key
                    else request.wish(self.entry, "key_name") or f"a new one: {keys.own_key_path()}"
                ),
            ),
            ("price", self._price()),
        ]

    # ---- Getting one ----

    def _reuse(
        self, existing: Instance, phases: Phases, on_progress: Progress, wait_seconds: float
    ) -> Instance:
        if self.entry.instance_id:
            existing = adopt.claim(self.entry, existing, on_progress)
        if existing.is_replaced:
            self._unmark_replaced(existing)
        wait_ready.check_login(self.entry, existing)
        self._admit(existing, on_progress)
        wait = CapacityWait(
            f"{existing.zone} has no capacity",
            on_progress,
            wait_seconds,
            existing.there.patience.poll,
        )
        with phases.phase("running"):
            instance = self._start(existing, wait, on_progress)
        if existing.state != "running":
            history.append(
                self.entry.name,
                "started",
                id=instance.id,
                region=instance.there.region,
                zone=instance.zone,
            )
        return instance

    def _start(self, existing: Instance, wait: CapacityWait, on_progress: Progress) -> Instance:
        while True:
            now = instances.by_id(existing.there, existing.id, self.entry.name) or existing
            try:
                return transitions.until_running(now, self.entry.name, on_progress)
            except CapacityError as error:
                wait.pause_or_raise(self._no_room(existing, error))
            except CloudError as error:
                quotas.spell(
                    error,
                    self.entry.name,
                    existing.facts["InstanceType"],
                    existing.market,
                    existing.there,
                )
                raise

    @contextlib.contextmanager
    def _replaced(self, existing: Instance | None) -> Iterator[None]:
        """The one that is there stays the box until the new one runs, whatever goes wrong
        before."""
        if existing is None:
            yield
            return
        self._mark_replaced(existing)
        try:
            yield
        except CloudError as error:
            self._unmark_replaced(existing)
            error.kept = (
                error.kept or f"{existing}, with its disk, is box {self.entry.name} as before"
            )
            raise

    def _newest(self) -> Instance | None:
        live = self._live()
        return live if live and not live.is_replaced else None

    def _mark_replaced(self, instance: Instance) -> None:
        value = datetime.now(UTC).isoformat(timespec="seconds")
        # With the project's tag again: the policy lets tags be made on instances only together with
        # it.
        wanted = {identity.REPLACED_TAG: value, identity.PROJECT_TAG: identity.project_mark()}
        tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
        instance.there.client("ec2").create_tags(Resources=[instance.id], Tags=tags)

    def _unmark_replaced(self, instance: Instance) -> None:
        instance.there.client("ec2").delete_tags(
            Resources=[instance.id], Tags=[{"Key": identity.REPLACED_TAG}]
        )

    def _end_replaced(self, on_progress: Progress, keep: str) -> None:
        """End what this box took the place of, also where an earlier command was cut off before it
        could."""
        for instance in self._found() if not self.entry.instance_id else ():
            if instance.is_replaced and not instance.is_gone and instance.id != keep:
                on_progress(f"terminating {instance.id}, which {keep} replaces")
                transitions.until_terminated(instance, self.entry.name, on_progress)
                history.append(self.entry.name, "replaced", id=instance.id)
                cleanup.forget(instance)

    def _admit(self, instance: Instance, on_progress: Progress) -> None:
        if self._is_adopted(instance):
            adopt.admit(
                self.entry,
                instance,
                reach.entrance(self.entry, instance.there, instance.facts["VpcId"]),
                on_progress,
            )
        else:
            wait_ready.admit_caller(self.entry, instance, on_progress)

    def _await_silence(self, box: Box, on_progress: Progress) -> None:
        patience = self.endpoint.patience
        what = f"waiting until {box.name} goes down"
        poll = min(0.2, patience.poll)
        if not waiting.until(
            lambda: not reach.answers(box) or None, what, on_progress, patience.ssh / 2, poll
        ):
            on_progress(f"{box.name} was not seen to go down; it answers")

    # ---- Refusing ----

    def _not_running(self, instance: Instance | None) -> BoxStopped:
        name = self.entry.name
        if instance is None:
            why = "it was never launched, or is terminated"
            return BoxStopped(
                f"there is no box {name}",
                where=f"box {name}",
                why=why,
                remedy=f"`./inv launch {name}`",
            )
        where, kept = f"box {name} ({instance.id})", "its disk, with all jobs on it"
        return BoxStopped(
            f"box {name} is {instance.state}",
            where=where,
            remedy=f"`./inv start {name}`",
            kept=kept,
        )

    def _ambiguous(self, live: list[Instance]) -> CloudError:
        return CloudError(
            f"{len(live)} instances are box {self.entry.name}",
            where=self._context.where,
            why=(
                f"they all bear the tag {identity.BOX_TAG}={self.entry.name}:"
                f" {', '.join(map(str, live))}"
            ),
            remedy=f"end the wrong one: `./inv terminate {self.entry.name} --id {live[-1].id}`",
            kept="both run on as they were",
        )

    def _out_of_sight(self, instance: Instance) -> CloudError:
        why, command = identity.lost_sight_of(
            instance.tag(identity.PROJECT_TAG), instance.id, instance.there.region
        )
        return CloudError(
            f"box {self.entry.name} is there, and bears another project's mark: a second one is not"
            " made, nor this one touched",
            where=f"box {self.entry.name} ({instance})",
            why=why,
            remedy=(
                f"`{command}`, then the same command again; or end that instance in the AWS console"
            ),
            kept="it, as it is",
        )

    def _no_instance(self, instance_id: str) -> CloudError:
        remedy = f"`./inv list` tells the instances of box {self.entry.name}"
        return CloudError(
            f"{instance_id} is no instance of box {self.entry.name}",
            where=self._context.where,
            remedy=remedy,
        )

    def _would_be_two(self, existing: Instance) -> CloudError:
        name = self.entry.name
        return CloudError(
            f"there is a box {name} already, and two instances are never one box",
            where=f"box {name} ({existing.id})",
            why=f"a fresh one was asked for, and nobody agreed to the loss of {existing}",
            remedy=(
                f"`./inv launch {name} --fresh --yes` ends it once the new one is up; `./inv launch"
                f" {name}` takes it as it is"
            ),
            kept="it, with its disk",
        )

    def _never_fresh(self) -> CloudError:
        what = f"box {self.entry.name} is the instance {self.entry.instance_id}, never a fresh one"
        remedy = (
            f"remove `instance_id:` of {self.entry.name} from inventory.yaml, then `./inv launch"
            f" {self.entry.name} --fresh`"
        )
        return CloudError(what, where=f"box {self.entry.name}", remedy=remedy)

    def _spot_stays(self, instance: Instance) -> CloudError:
        name = self.entry.name
        return CloudError(
            f"box {name} is a spot box, which cannot be stopped, only terminated",
            where=f"box {name} ({instance.id})",
            why="a one-time spot instance has no stopped state",
            remedy=f"`./inv terminate {name}`",
            kept="the box runs on",
        )

    def _adopted_stays(self, instance: Instance) -> CloudError:
        name = self.entry.name
        return CloudError(
            f"box {name} was adopted, not launched: it is never terminated unasked",
            where=f"box {name} ({instance.id})",
            remedy=(
                f"`./inv stop {name}` stops it; `./inv terminate {name} --yes` ends it for good,"
                " with its disk"
            ),
            kept="the box, as it was",
        )

    def _no_room(self, existing: Instance, error: CapacityError) -> CapacityError:
        """A stopped box stays where its disk is: what to do is for a person to say."""
        name, zone = self.entry.name, existing.zone or existing.there.region
        near = (
            offer.zone
            for offer in offers.offers_of(self.entry)
            if offer.region == existing.there.region
        )
        other = next((each for each in near if each and each != existing.zone), "ZONE")
        told = CapacityError(
            f"{zone} has no {existing.facts['InstanceType']} for box {name} just now, and its disk"
            " is there",
            where=f"box {name} ({existing.id} in {zone})",
            why=error.why,
            remedy=(
                f"wait for it: `./inv start {name} --wait 30m`\n"
                f"       or move its disk: `./inv box.move {name} --zone {other}`\n"
                f"       or give its disk up: `./inv launch {name} --fresh`"
            ),
            kept="the box is stopped, its disk with all jobs as it was",
        )
        told.code = error.code
        return told


def _why_stopped(instance: Instance) -> str:
    return transitions.describe(instance) if instance.state in ("stopping", "stopped") else ""
