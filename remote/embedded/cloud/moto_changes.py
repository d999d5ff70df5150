"""What the embedded cloud changes of moto, inside its own process: the only place that changes it.

moto answers AWS's wire; the machines behind its answers are ours, and so are operations that it
lacks. Tried with the versions of `TRIED`; any version is checked while this is imported, and
refused where what is changed here is not as it was.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import moto
from moto.core.utils import get_value
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instances import Instance
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances
from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse
from moto.servicequotas.models import ServiceQuotasBackend
from moto.servicequotas.responses import ServiceQuotasResponse
from moto.ssm.models import SimpleSystemManagerBackend
from moto.ssm.responses import SimpleSystemManagerResponse

from remote.control.errors import LaptopError

TRIED = ("5.2.5",)
"""Versions of moto."""


class Change(NamedTuple):
    """A method of moto that gets another body. `parameters` are those that moto declares:
    `property` for a property, empty for an operation that moto lacks, or may have gained since."""

    owner: type
    name: str
    parameters: str
    reason: str

    def complaint(self) -> str:
        """What is not as it was; empty where all is."""
        found = inspect.getattr_static(self.owner, self.name, None)
        told = "property" if isinstance(found, property) else ""
        if inspect.isfunction(found):
            told = " ".join(inspect.signature(found).parameters)
        if told == (self.parameters or told):
            return ""
        return f"{self.owner.__name__}.{self.name} is ({told}), and was ({self.parameters})"


CHANGES = (
    Change(Instance, "start", "self", "boots a machine: pending until its SSH server answers"),
    Change(Instance, "stop", "self", "stopping until the machine's last process is gone"),
    Change(Instance, "terminate", "self", "shutting down until machine and disk are gone"),
    Change(Instance, "reboot", "self", "boots the machine again"),
    Change(General, "get_console_output", "self", "the machine's own console"),
    Change(TaggedEC2Resource, "get_tags", "self", "moto compares the id with all tags there are"),
    Change(InstanceResponse, "run_instances", "self", "spot options; no such instance profile"),
    Change(
        EC2Backend,
        "run_instances",
        "self image_id count user_data security_group_names kwargs",
        "client tokens, capacity, quotas, spot prices",
    ),
    Change(EC2Backend, "stop_instances", "self instance_ids", "one-time spot instances stay up"),
    Change(
        EC2Backend,
        "create_image",
        "self instance_id name description tag_specifications",
        "keeps a copy of the machine's disk",
    ),
    Change(EC2Backend, "deregister_image", "self ami_id", "removes that copy"),
    Change(AmisResponse, "copy_image", "self", "copies that copy; tags as EC2 sets them"),
    Change(Ami, "block_device_mappings", "property", "the size of the disk that was copied"),
    Change(SpotInstances, "describe_spot_price_history", "self", "prices of the price table"),
    Change(
        ServiceQuotasBackend,
        "get_service_quota",
        "self service_code quota_code",
        "moto has no quotas of EC2",
    ),
    Change(ServiceQuotasResponse, "get_aws_default_service_quota", "", "moto lacks it"),
    Change(ServiceQuotasResponse, "list_service_quotas", "", "moto lacks it"),
    Change(ServiceQuotasResponse, "request_service_quota_increase", "", "moto lacks it"),
    Change(Ec2InstanceConnectResponse, "send_ssh_public_key", "self", "lets the key in"),
    Change(SimpleSystemManagerBackend, "get_parameter", "self name", "names of AWS's images"),
    Change(SimpleSystemManagerBackend, "get_parameters", "self names", "names of AWS's images"),
    Change(SimpleSystemManagerResponse, "start_session", "", "moto lacks it"),
    Change(SimpleSystemManagerResponse, "terminate_session", "", "moto lacks it"),
)

OVERRIDDEN = (
    Change(SpotInstanceRequest, "launch_instance", "self", "`SpotRequest` has one already"),
    Change(SpotInstanceRequest, "status", "property", "`SpotRequest` tells what became of it"),
    Change(SpotInstanceRequest, "create_time", "property", "`SpotRequest` tells when it was made"),
)
"""What a class of ours inherits and does in its own way."""


def check() -> None:
    """Raise LaptopError where the installed moto is not as it was."""
    if found := [told for each in (*CHANGES, *OVERRIDDEN) if (told := each.complaint())]:
        fault = f"the embedded cloud does not work with moto {moto.__version__}"
        raise LaptopError(
            f"{fault}: {'; '.join(found)}",
            where="this laptop",
            why=f"tried: {', '.join(TRIED)}",
            remedy="`rm -r .venv`, then the same command: it installs the moto that is locked",
        )


check()
_LISTED = {(change.owner, change.name) for change in CHANGES}


def replace(owner: type, name: str, replacement: Callable[..., Any]) -> None:
    """`owner.name(self, ...)` now calls `replacement(original, self, ...)`; `original` is None for
    what moto lacks. Once in a process. Raises KeyError for what `CHANGES` does not list."""
    if (owner, name) not in _LISTED:
        raise KeyError(f"{owner.__name__}.{name} is not among the changes of moto")
    original = inspect.getattr_static(owner, name, None)
    if isinstance(original, property):
        setattr(owner, name, property(functools.partial(replacement, original.fget)))
        return

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return replacement(original, self, *args, **kwargs)

    setattr(owner, name, functools.wraps(original)(method) if original else method)


def parameter(response: Any, name: str, default: Any = None) -> Any:
    """A parameter of the EC2 request that is answered, such as `IamInstanceProfile.Name`."""
    return get_value(response.params, name, default)
