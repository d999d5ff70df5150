"""`instance_id:` an instance that somebody else made becomes a box: found by its id, tagged as ours
to use, never as ours to end."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from remote.control.cloud.access import ingress
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2 import instances
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.provider import Progress
from remote.control.errors import CloudError
from remote.control.project import history, identity

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry


def find(entry: "CloudEntry", places: Sequence[Endpoint]) -> Instance | None:
    """The instance that an entry names, in any of its regions. Raises CloudError when it is another
    project's box."""
    found = instances.map_concurrently(
        lambda there: instances.by_id(there, entry.instance_id or "", entry.name), places
    )
    instance = next((each for each in found if each and not each.is_gone), None)
    owner = instance.tag(identity.PROJECT_TAG) if instance else ""
    if instance and owner not in ("", identity.project_mark()):
        raise _not_ours(entry, instance, owner)
    return instance


def missing(entry: "CloudEntry", places: Sequence[Endpoint]) -> CloudError:
    """The error for an id that is nowhere."""
    regions = ", ".join(there.region for there in places)
    return CloudError(
        f"there is no instance {entry.instance_id}",
        where=f"box {entry.name}",
        why=f"not in {regions}, or terminated",
        remedy=(
            f"correct `instance_id:` and `region:` of {entry.name} in inventory.yaml, or remove"
            " `instance_id:` to launch a new one"
        ),
    )


def claim(entry: "CloudEntry", instance: Instance, on_progress: Progress) -> Instance:
    """Tag the instance as this box, once. Nothing else about it is changed, its name least of
    all."""
    wanted = {identity.PROJECT_TAG: identity.project_mark(), identity.BOX_TAG: entry.name}
    if all(instance.tag(key) == value for key, value in wanted.items()):
        return instance
    if instance.tag(identity.BOX_TAG) == "":
        wanted[identity.ADOPTED_TAG] = datetime.now(UTC).isoformat(timespec="seconds")
    tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
    instance.there.client("ec2").create_tags(Resources=[instance.id], Tags=tags)
    history.append(
        entry.name, "adopted", id=instance.id, region=instance.there.region, zone=instance.zone
    )
    on_progress(
        f"{entry.name}: adopted {instance.id} ({instance.facts['InstanceType']} in {instance.zone})"
    )
    return instances.by_id(instance.there, instance.id, entry.name) or instance


def admit(entry: "CloudEntry", instance: Instance, cidr: str | None, on_progress: Progress) -> None:
    """Let the caller reach port 22: by a group of ours beside the instance's own, and only where
    those don't let it in already."""
    ec2, name = instance.there.client("ec2"), identity.group_name(entry.name)
    theirs = [group["GroupId"] for group in instance.facts.get("SecurityGroups", ())]
    ours = ingress.find_group(ec2, name, instance.facts["VpcId"])
    if ours is None and (cidr is None or ingress.lets_in(ec2, theirs, cidr)):
        return
    with refusals.explained(refusals.Context(entry.name, instance.there.region)):
        ours = ingress.ensure_group(
            ec2, name, instance.facts["VpcId"], identity.tags(entry.name, entry.tags)
        )
        ingress.admit(ec2, ours, cidr, on_progress)
        if ours not in theirs:
            ec2.modify_instance_attribute(InstanceId=instance.id, Groups=[*theirs, ours])
            on_progress(
                f"{entry.name}: the security group {ours} was added to {instance.id}, for SSH from"
                " here"
            )


def _not_ours(entry: "CloudEntry", instance: Instance, owner: str) -> CloudError:
    return CloudError(
        f"{instance.id} is a box of another project",
        where=f"box {entry.name}",
        why=(
            f"it bears the tag {identity.PROJECT_TAG}={owner}; this project is"
            f" {identity.project_mark()}"
        ),
        remedy=(
            f"name another `instance_id:` of {entry.name} in inventory.yaml, or take that tag off"
            " the instance in the AWS console"
        ),
        kept="it was not touched",
    )
