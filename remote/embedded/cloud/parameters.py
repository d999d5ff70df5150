"""Public parameters of SSM that moto lacks: AWS publishes the newest Deep Learning AMI under names
of its own."""

import re
from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ssm.models import Parameter, SimpleSystemManagerBackend

from remote.embedded.cloud.moto_changes import replace

_DEEP_LEARNING_AMI = re.compile(
    r"/aws/service/deeplearning/ami/(x86_64|arm64)/[a-z0-9.-]+/latest/ami-id"
)
_IMAGES = {"x86_64": "ami-0d1ee9a1b77c5a0e5", "arm64": "ami-0d1ee9a1b77c5a0a6"}


def install() -> None:
    """Put ours in moto's place. Once in a process."""
    replace(SimpleSystemManagerBackend, "get_parameter", _one)
    replace(SimpleSystemManagerBackend, "get_parameters", _several)


def _one(original: Callable[..., Any], backend: Any, name: str) -> Any:
    return _published(backend, name) or original(backend, name)


def _several(original: Callable[..., Any], backend: Any, names: list[str]) -> Any:
    ours = {name: parameter for name in names if (parameter := _published(backend, name))}
    return {**original(backend, names), **ours}


def _published(backend: Any, name: str) -> Parameter | None:
    found = _DEEP_LEARNING_AMI.fullmatch(name)
    if not found:
        return None
    value = _IMAGES[found[1]]
    return Parameter(
        backend.account_id, name, value, "String", None, None, None, utcnow(), 1, "aws:ec2:image"
    )
