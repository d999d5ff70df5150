"""From one state of an instance to another, whoever else has a hand on it: another command, the
box's own clocks, the AWS console."""

from collections.abc import Callable
from typing import Any

from remote.control.cloud.access import waiting
from remote.control.cloud.account import refusals
from remote.control.cloud.ec2 import instances
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.provider import Progress
from remote.control.errors import CloudError

_NOT_NOW = ("IncorrectInstanceState", "IncorrectState")

_WORDS = {
    "Server.SpotInstanceTermination": "spot: the cloud took it back",
    "Server.SpotInstanceShutdown": "spot: the cloud took it back",
    "Client.InstanceInitiatedShutdown": "itself: shut down from inside, as its clocks do",
    "Client.UserInitiatedShutdown": "user: stopped by hand or by a command",
    "Client.UserInitiatedHibernate": "user: hibernated by hand",
    "Server.ScheduledStop": "cloud: stopped as scheduled by AWS",
    "Server.InsufficientInstanceCapacity": "capacity: none was left as it started",
    "Server.InternalError": "cloud: it failed as it started",
}


def describe(instance: Instance) -> str:
    """Why an instance stopped or ended, `WHO: what (code)`, with WHO one of spot, itself, user,
    cloud, capacity; empty while it lives."""
    code, message = instance.reason
    if instance.state in ("pending", "running"):
        return ""
    words = _WORDS.get(code, f"cloud: {message or 'it does not say why'}")
    if instance.is_gone and code == "Client.UserInitiatedShutdown":
        words = "user: terminated by hand or by a command"
    return f"{words} ({code})" if code else words


def until_running(instance: Instance, name: str, on_progress: Progress) -> Instance:
    """Start it where needed and wait until it runs. Raises CapacityError when there is none for it,
    CloudError when it ends instead."""
    was_up = instance.state == "pending"
    started = False

    def look(now: Instance) -> Instance | None:
        nonlocal started
        if now.state == "running":
            return now
        # What an earlier stop left is still told for a moment after the start.
        is_news = was_up or (
            started and (now.launched_at, now.reason) != (instance.launched_at, instance.reason)
        )
        if now.is_gone or (is_news and now.state in ("stopping", "stopped")):
            raise _died(now, name)
        if now.state == "stopped" and not started:
            on_progress(f"starting {name} ({now.id})")
            started = _asked(now, "start_instances")
        return None

    return _until(
        instance, look, f"waiting until {name} ({instance.id}) is running", name, on_progress
    )


def until_stopped(instance: Instance, name: str, on_progress: Progress) -> Instance:
    """Stop it where needed and wait until it is; one that ends instead is told as it is. A start by
    another hand meanwhile is an error."""
    asked = False

    def look(now: Instance) -> Instance | None:
        nonlocal asked
        if now.state == "stopped" or now.is_gone:
            return now
        if asked and now.launched_at != instance.launched_at:
            raise _started_again(now, name)
        if now.state in ("pending", "running") and not asked:
            asked = _asked(now, "stop_instances")
        return None

    return _until(
        instance, look, f"waiting until {name} ({instance.id}) is stopped", name, on_progress
    )


def until_terminated(instance: Instance, name: str, on_progress: Progress) -> Instance:
    """Terminate it and wait until it is."""
    if not instance.is_gone:
        instance.there.client("ec2").terminate_instances(InstanceIds=[instance.id])

    def look(now: Instance) -> Instance | None:
        return now if now.state == "terminated" else None

    return _until(
        instance, look, f"waiting until {name} ({instance.id}) is terminated", name, on_progress
    )


def _until(
    instance: Instance,
    look: Callable[[Instance], Instance | None],
    what: str,
    name: str,
    on_progress: Progress,
) -> Instance:
    """Look at the instance now and then until `look` is content. Patience counts from here."""
    patience = instance.there.patience
    latest = [instance]

    def again() -> Instance | None:
        now = instances.by_id(instance.there, instance.id, name)
        latest[0] = now or latest[0]
        return look(now) if now else None

    with refusals.explained(context_of(instance, name)):
        found = look(instance) or waiting.until(
            again, what, on_progress, patience.state, patience.poll
        )
    if found is None:
        why = f"{what}: it is {latest[0].state} after {patience.state:.0f} s"
        raise CloudError(
            f"box {name} does not move on",
            where=_where(instance, name),
            why=why,
            remedy="repeat the command: it waits on",
        )
    return found


def _asked(instance: Instance, operation: str) -> bool:
    """Whether the cloud took the order; it does not while another transition is under way."""
    from botocore.exceptions import ClientError

    client: Any = instance.there.client("ec2")
    try:
        getattr(client, operation)(InstanceIds=[instance.id])
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_NOW:
            raise
        return False
    return True


def context_of(instance: Instance, name: str) -> refusals.Context:
    """What a refusal about this instance may name."""
    there = instance.there
    return refusals.Context(name, there.region, instance.facts["InstanceType"], there.regions)


def _died(now: Instance, name: str) -> CloudError:
    code, message = now.reason
    if code.startswith("Server.") or code in (
        "Client.VolumeLimitExceeded",
        "Client.InternalError",
        "Client.InvalidSnapshot.NotFound",
    ):
        return refusals.of_code(code, message or now.state, context_of(now, name))
    return CloudError(
        f"box {name} is {now.state} instead of running",
        where=_where(now, name),
        why=describe(now),
        remedy=f"`./inv launch {name}`" if now.is_gone else f"`./inv start {name}`",
        kept="" if now.is_gone else "its disk, with all jobs on it",
    )


def _started_again(now: Instance, name: str) -> CloudError:
    what, why = (
        f"box {name} was started again while it was being stopped",
        "by another command, or by hand in the AWS console",
    )
    return CloudError(
        what, where=_where(now, name), why=why, remedy=f"`./inv stop {name}`", kept="the box runs"
    )


def _where(instance: Instance, name: str) -> str:
    return f"box {name} ({instance.id} in {instance.zone or instance.there.region})"
