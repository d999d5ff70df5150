"""Images that carry a disk: CreateImage keeps a copy of the instance's disk, and a box launched
from it begins with another.

```
<cloud>/images/<id>/disk/    the disk as it was; gone with DeregisterImage
```
As on AWS, the login keys and host keys of the new box are its own: cloud-init makes them anew under
a new instance id.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance
from moto.ec2.responses.amis import AmisResponse

from remote.embedded.cloud.moto_changes import parameter, replace

if TYPE_CHECKING:
    from remote.embedded.cloud.account import Account

_OWN = (".host", ".ssh")
"""Of an instance alone: its host key, and who may log in."""


def install(account: "Account") -> None:
    """Tie moto's images to the disks of `account`. Once in a process."""

    def create(
        original: Callable[..., Any],
        backend: Any,
        instance_id: str,
        name: str,
        description: str,
        tag_specifications: Any,
    ) -> Ami:
        _refuse_known(backend, name)
        of_image = [each for each in tag_specifications if each["ResourceType"] == "image"]
        image = original(backend, instance_id, name, description, of_image)
        instance = backend.get_instance(instance_id)
        image.root_device_type, image.state = "ebs", "pending"
        image.ebs_snapshot.volume.size = _root_gb(instance)
        _tag_snapshot(image, tag_specifications)
        account.machine(instance).work.submit(_take, account, image, account.machine(instance).disk)
        return image

    def copy(_original: Callable[..., Any], response: Any) -> Any:
        response.error_on_dryrun()
        backend, asked = response.ec2_backend, functools.partial(parameter, response)
        _refuse_known(backend, asked("Name"))
        source_region = asked("SourceRegion")
        source = ec2_backends[backend.account_id][source_region].describe_images(
            ami_ids=[asked("SourceImageId")]
        )[0]
        image = backend.copy_image(source.id, source_region, asked("Name"), asked("Description"))
        image.root_device_type = "ebs"
        image.ebs_snapshot.volume.size = source.ebs_snapshot.volume.size
        specifications = asked("TagSpecifications", [])
        for tag in (
            tag
            for each in specifications
            if each["ResourceType"] == "image"
            for tag in each["Tags"]
        ):
            image.add_tag(tag["Key"], tag["Value"])
        _tag_snapshot(image, specifications)
        _copy_disk(_disk(account, source.id), _disk(account, image.id))
        return ActionResult({"ImageId": image.id})

    def deregister(original: Callable[..., Any], backend: Any, ami_id: str) -> None:
        original(backend, ami_id)
        shutil.rmtree(_disk(account, ami_id).parent, ignore_errors=True)

    replace(EC2Backend, "create_image", create)
    replace(EC2Backend, "deregister_image", deregister)
    replace(AmisResponse, "copy_image", copy)
    replace(Ami, "block_device_mappings", _block_device_mappings)


def seed(account: "Account", instance: Instance) -> None:
    """Before its first boot, give an instance the disk of its image, where that has one."""
    machine, source = account.machine(instance), _disk(account, instance.image_id)
    if not machine.record.booted and source.exists():
        _copy_disk(source, machine.disk)


def _disk(account: "Account", image_id: str) -> Path:
    return account.folder / "images" / image_id / "disk"


def _take(account: "Account", image: Ami, disk: Path) -> None:
    """In the instance's line of work: what it was told before, such as to stop, has happened by
    then."""
    try:
        _copy_disk(disk, _disk(account, image.id))
        state = "available"
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{image.id}: {error}", flush=True)
        state = "failed"
    with account.lock:
        image.state = state
        if image.id not in image.ec2_backend.amis:  # deregistered meanwhile
            shutil.rmtree(_disk(account, image.id).parent, ignore_errors=True)
    account.save()


def _copy_disk(source: Path, target: Path) -> None:
    """A copy with times, modes and links. A link into the old disk leads into the new one: on AWS
    both are the same path."""
    partial = target.with_name(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    if source.exists():
        # cp, for it shares blocks where the file system can.
        subprocess.run(
            ["cp", "-a", "--reflink=auto", f"{source}/.", str(partial)],
            check=True,
            stdin=subprocess.DEVNULL,
        )
    for name in _OWN:
        shutil.rmtree(partial / name, ignore_errors=True)
    _point_links(partial, source, target)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def _point_links(folder: Path, old: Path, new: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink() and (led := path.readlink()).is_relative_to(old):
            path.unlink()
            path.symlink_to(new / led.relative_to(old))


def _tag_snapshot(image: Ami, specifications: Any) -> None:
    for tag in (
        tag for each in specifications if each["ResourceType"] == "snapshot" for tag in each["Tags"]
    ):
        image.ebs_snapshot.add_tag(tag["Key"], tag["Value"])


def _refuse_known(backend: Any, name: str) -> None:
    used = next(
        (
            image
            for image in backend.amis.values()
            if image.name == name and image.owner_id == backend.account_id
        ),
        None,
    )
    if used:
        raise EC2ClientError(
            "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {used.id}"
        )


def _root_gb(instance: Instance) -> int:
    return max(
        (int(mapping.size or 0) for mapping in instance.block_device_mapping.values()), default=8
    )


def _block_device_mappings(_original: Callable[..., Any], image: Ami) -> list[dict[str, Any]]:
    snapshot = image.ebs_snapshot
    kept = {"DeleteOnTermination": True, "VolumeType": "gp3", "Encrypted": True}
    return [
        {
            "DeviceName": image.root_device_name,
            "Ebs": {"SnapshotId": snapshot.id, "VolumeSize": snapshot.volume.size, **kept},
        }
    ]
