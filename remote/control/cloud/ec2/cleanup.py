"""What a box leaves in the cloud besides its instance, and how it is taken away: security group,
key pair, spot request, pin."""

import contextlib
from collections.abc import Sequence

from remote.control.cloud.access import ingress, keys, waiting
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.ec2.instances import Instance, by_id, described, map_concurrently
from remote.control.cloud.provider import Progress
from remote.control.errors import CloudError
from remote.control.project import identity
from remote.control.ssh import known_hosts


def after_box(name: str, places: Sequence[Endpoint], on_progress: Progress) -> None:
    """Take away what is left of a box that has no instance any more, in every region where it may
    have been."""
    map_concurrently(lambda there: _clear_region(name, there, on_progress), places)


def forget(instance: Instance) -> None:
    """Take away what belonged to one instance that is gone: its pinned host key and its spot
    request."""
    known_hosts.forget(instance.id)
    cancel_spot_request(instance)


def after_attempt(name: str, there: Endpoint, instance: Instance | None = None) -> None:
    """Take away what an attempt that came to nothing made. Never hides the attempt's own error;
    what stays is found by the next one.

    An instance that stopped before it ever ran goes too; one that is still on its way is the box,
    and stays.
    """
    with contextlib.suppress(CloudError), refusals.explained(refusals.Context(name, there.region)):
        now = by_id(there, instance.id, name) if instance else None
        if now and now.state in ("stopping", "stopped"):
            there.client("ec2").terminate_instances(InstanceIds=[now.id])
        poll = there.patience.poll
        group = identity.group_name(name)
        ec2 = there.client("ec2")
        # An instance that failed holds its group for some seconds more.
        patience = 10 * poll if now and now.state != "pending" else 0
        waiting.until(
            lambda: ingress.remove_groups(ec2, group) or None,
            f"clearing up after {name}",
            lambda line: None,
            patience,
            poll,
        )
        keys.remove_pairs(ec2, _pairs_in_use(there))


def cancel_spot_request(instance: Instance) -> None:
    """A one-time request ends with its instance; one that stays open would be served again."""
    request_id = instance.facts.get("SpotInstanceRequestId")
    if not request_id:
        return
    ec2 = instance.there.client("ec2")
    asked = [{"Name": "spot-instance-request-id", "Values": [request_id]}]
    found = ec2.describe_spot_instance_requests(Filters=asked)["SpotInstanceRequests"]
    if any(each["State"] in ("open", "active") for each in found):
        ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request_id])


def _clear_region(name: str, there: Endpoint, on_progress: Progress) -> None:
    with refusals.explained(refusals.Context(name, there.region, regions=there.regions)):
        ec2, patience, group = there.client("ec2"), there.patience, identity.group_name(name)
        what = f"removing the security group of {name}"
        if not waiting.until(
            lambda: ingress.remove_groups(ec2, group) or None,
            what,
            on_progress,
            patience.state / 5,
            patience.poll,
        ):
            on_progress(
                f"the security group of {name} in {there.region} is still in use; `./inv terminate"
                f" {name}` takes it away later"
            )
        keys.remove_pairs(ec2, _pairs_in_use(there))


def _pairs_in_use(there: Endpoint) -> set[str]:
    """The key pairs with which an instance of the region was made that is still there, whoever it
    belongs to."""
    alive = {"instance-state-name": ["pending", "running", "stopping", "stopped"]}
    return {str(instance.facts.get("KeyName", "")) for instance in described(there, alive)}
