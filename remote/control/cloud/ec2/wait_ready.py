"""From an instance that runs to a box that answers: the caller admitted, SSH up, the host key
pinned, the clocks armed."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from remote.control.cloud.access import host_keys, ingress, keys, reach, waiting
from remote.control.cloud.box import Box
from remote.control.cloud.ec2 import instances, transitions
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.phases import Phases
from remote.control.cloud.provider import Progress
from remote.control.errors import BoxStopped, BoxUnreachable, LoginRefused
from remote.control.project import identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

_SSH_POLL_SECONDS = 0.3
_LOOK_EVERY_SECONDS = 10


def check_login(entry: "CloudEntry", instance: Instance) -> None:
    """Raises LoginRefused when the box was made with another key than the inventory's."""
    login, theirs = keys.identity_of(entry), instance.facts.get("KeyName")
    if (
        entry.instance_connect
        or theirs == login.name
        or (instance.is_adopted and (entry.ssh_key or entry.key_name))
    ):
        return
    adopted = (
        f"name its private key as `ssh_key:` of {entry.name} in inventory.yaml, or set"
        " `instance_connect: true`"
    )
    raise LoginRefused(
        f"the key of the inventory does not fit box {entry.name}",
        where=f"box {entry.name} ({instance.id})",
        why=(
            f"it was launched with the key pair {theirs}, not {login.name}"
            f" ({login.key or 'SSH agent'})"
        ),
        remedy=(
            adopted
            if instance.is_adopted
            else (
                "put the old key back (`ssh_key:` in inventory.yaml), or `./inv terminate"
                f" {entry.name}` and launch it anew"
            )
        ),
        kept="the box is as it was",
    )


def admit_caller(entry: "CloudEntry", instance: Instance, on_progress: Progress) -> None:
    """Open port 22 for the caller's present address in the box's group, and close it for the one
    before."""
    ec2 = instance.there.client("ec2")
    group = ingress.find_group(ec2, identity.group_name(entry.name), instance.facts["VpcId"])
    if group:
        ingress.admit(
            ec2, group, reach.entrance(entry, instance.there, instance.facts["VpcId"]), on_progress
        )


def enter(
    entry: "CloudEntry",
    instance: Instance,
    box_now: Callable[[], Box],
    on_progress: Progress,
    phases: Phases,
    set_deadlines: Callable[[Box], None] | None,
) -> Box:
    """The box, when SSH answers, the host key is pinned and the clocks are armed. Repeatable after
    a kill.

    `box_now` tells the box with its address: one that restarts may come back under another.
    """
    with phases.phase("ssh"):
        box = await_ssh(instance, box_now, on_progress)
    with phases.phase("host key"):
        if entry.host_key:
            host_keys.pin_from_inventory(entry, box.host_key_alias)
        is_adopted = instance.is_adopted
        host_keys.pin_from_console(
            instance.there.client("ec2"), box, instance.there.patience, on_progress, is_adopted
        )
    if set_deadlines:
        with phases.phase("arm"):
            set_deadlines(box)
    return box


def await_ssh(instance: Instance, box_now: Callable[[], Box], on_progress: Progress) -> Box:
    """The box, when SSH greets. Raises BoxStopped when it stops meanwhile, BoxUnreachable when
    patience runs out."""
    patience = instance.there.patience
    looked = time.monotonic()

    def look() -> Box | None:
        nonlocal looked
        box = box_now()
        if reach.answers(box):
            return box
        if time.monotonic() - looked > _LOOK_EVERY_SECONDS:
            looked = time.monotonic()
            _still_runs(instance, box)
        return None

    box = box_now()
    what = f"waiting for SSH of {box.name} at {box.address}"
    found = waiting.until(
        look, what, on_progress, patience.ssh, min(_SSH_POLL_SECONDS, patience.poll)
    )
    if found is None:
        raise _silent(instance, box)
    return found


def _still_runs(instance: Instance, box: Box) -> None:
    now = instances.by_id(instance.there, instance.id, box.name)
    if now and now.state != "running":
        raise BoxStopped(
            f"box {box.name} is {now.state} before SSH answered",
            where=box.where,
            why=transitions.describe(now),
            remedy=f"`./inv launch {box.name}`" if now.is_gone else f"`./inv start {box.name}`",
        )


def _silent(instance: Instance, box: Box) -> BoxUnreachable:
    last = host_keys.console(instance.there.client("ec2"), box.id).strip().splitlines()[-3:]
    return BoxUnreachable(
        f"SSH does not answer within {instance.there.patience.ssh:.0f} s",
        where=box.where,
        why=f"the console ends with: {' | '.join(last)}" if last else "the console is empty so far",
        remedy=(
            f"`./inv start {box.name}` waits on; if that fails too, `./inv stop {box.name}` and"
            f" `./inv start {box.name}`"
        ),
        kept=(
            f"the box runs and costs ${box.hourly_usd:.2f}/h: `./inv stop {box.name}`"
            if box.hourly_usd
            else "the box runs on"
        ),
    )
