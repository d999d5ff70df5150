"""Everything in the account that costs money or clutters it: what a test counts before and
after."""

from collections.abc import Iterator

from moto.ec2.models import EC2Backend, ec2_backends


def told() -> dict[str, list[str]]:
    """Ids by kind, over all regions. Nothing of what AWS gives every account: default security
    groups, public images."""
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for regions in list(ec2_backends.values()):
        for backend in list(regions.values()):
            for kind, ids in zip(_KINDS, _of(backend), strict=True):
                found[kind] += ids
    return {kind: sorted(ids) for kind, ids in found.items()}


_KINDS = (
    "instances",
    "volumes",
    "addresses",
    "key_pairs",
    "security_groups",
    "network_interfaces",
    "snapshots",
    "images",
    "spot_requests",
)


def _of(backend: EC2Backend) -> Iterator[list[str]]:
    yield [instance.id for instance in backend.all_instances() if instance.state != "terminated"]
    yield list(backend.volumes)
    yield [address.allocation_id or address.public_ip for address in backend.addresses]
    yield list(backend.key_pairs)
    yield [
        group.id
        for groups in backend.groups.values()
        for group in groups.values()
        if group.name != "default"
    ]
    yield list(backend.enis)
    yield [
        snapshot.id
        for snapshot in backend.snapshots.values()
        if snapshot.owner_id == backend.account_id
    ]
    yield [image.id for image in backend.amis.values() if image.owner_id == backend.account_id]
    yield [
        request.id
        for request in backend.spot_instance_requests.values()
        if request.state in ("open", "active")
    ]
