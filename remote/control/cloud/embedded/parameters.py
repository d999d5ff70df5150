"""Public parameters of SSM that moto lacks: AWS publishes the newest Deep Learning AMI under names of its own."""

import re
from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ssm.models import Parameter, SimpleSystemManagerBackend

_DEEP_LEARNING_AMI = re.compile(r"/aws/service/deeplearning/ami/(x86_64|arm64)/[a-z0-9.-]+/latest/ami-id")
_IMAGES = {"x86_64": "ami-0d1ee9a1b77c5a0e5", "arm64": "ami-0d1ee9a1b77c5a0a6"}


def install(replace: Callable[[type, str, Callable[..., Any]], None]) -> None:
    """Put ours in moto's place. Once in a process."""

    def one(original: Callable[..., Any], backend: Any, name: str) -> Any:
        _publish(backend, name)
        return original(backend, name)

    def several(original: Callable[..., Any], backend: Any, names: list[str]) -> Any:
        for name in names:
            _publish(backend, name)
        return original(backend, names)

    replace(SimpleSystemManagerBackend, "get_parameter", one)
    replace(SimpleSystemManagerBackend, "get_parameters", several)


def _publish(backend: Any, name: str) -> None:
    found = _DEEP_LEARNING_AMI.fullmatch(name)
    if found and name not in backend._parameters:
        value = _IMAGES[found[1]]
        parameter = Parameter(backend.account_id, name, value, "String", None, None, None, utcnow(), 1, "aws:ec2:image")
        backend._parameters[name].append(parameter)
