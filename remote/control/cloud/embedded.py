"""The embedded cloud as the rest of Windlass sees it: its endpoint, where its instances listen, its
beginning and end."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.job import surroundings
from remote.control import project
from remote.control.daemon import Daemon, run_module
from remote.control.errors import CloudError
from remote.control.output.sanitize import last_lines


def folder() -> Path:
    """Everything the project's embedded cloud keeps."""
    return project.state_folder() / "cloud"


def endpoint(start: bool = True) -> str:
    """The URL of the AWS API, after starting the cloud where needed. Raises CloudError when it is
    down and `start` is False."""
    announced = _daemon().start() if start else _daemon().running()
    if announced is None:
        raise CloudError(
            "the embedded cloud is down", where="this machine", remedy="./inv cloud.up"
        )
    return str(announced["url"])


def running() -> dict[str, Any] | None:
    """What the living cloud announced (`url`, `pid`), or None."""
    return _daemon().running()


def down() -> bool:
    """Stop every instance and end the cloud with all it started; the disks stay. Returns whether it
    was up."""
    was_up = _daemon().stop(patience_seconds=30)
    swept = run_module("remote.embedded.instances.machine", str(folder()))
    if swept.returncode:
        raise CloudError(
            "processes of the embedded cloud do not end",
            where="this machine",
            why=last_lines(swept.stderr),
            remedy="`./inv cloud.down` tries again",
        )
    return was_up


def describe(url: str, instance_id: str) -> dict[str, Any]:
    """`id`, `name`, `type`, `market`, `region`, `zone`, `state`, `host`, `port`, `user`, `disk` and
    `log` of one instance.

    Raises CloudError where it is not there, or the cloud is down.
    """
    return untrusted_json.loads_object(_get(f"{url}/windlass/instances/{instance_id}", instance_id))


def listing(url: str) -> list[dict[str, Any]]:
    """Every instance that is not terminated, as `describe` tells."""
    instances: list[dict[str, Any]] = untrusted_json.loads_list(_get(f"{url}/windlass/instances"))
    return instances


def address_of(url: str, instance_id: str) -> tuple[str, int, str]:
    """Where and as whom to log in: host, port, user."""
    told = describe(url, instance_id)
    return told["host"], told["port"], told["user"]


def console(url: str, instance_id: str) -> str:
    """The console of one instance, its last 64 KiB."""
    return _get(f"{url}/windlass/instances/{instance_id}/console", instance_id).decode(
        errors="replace"
    )


def inject(url: str, fault: dict[str, Any]) -> str:
    """Have something go wrong, as `faults.Fault` tells: `{"kind": "capacity", "zone":
    "us-east-1a"}`. Returns the fault's id.

    Raises CloudError where there is no such fault, or nothing that it could meet.
    """
    made = untrusted_json.loads_object(_ask(f"{url}/windlass/faults", "POST", fault))
    return str(made["id"])


def check(fault: dict[str, Any]) -> None:
    """Raises CloudError where there is no such fault."""
    checked = run_module("remote.embedded.cloud.faults", stdin=json.dumps(fault).encode())
    if checked.returncode:
        raise _no_fault(last_lines(checked.stderr))


def faults(url: str) -> list[dict[str, Any]]:
    """The faults that stand."""
    standing: list[dict[str, Any]] = untrusted_json.loads_list(_ask(f"{url}/windlass/faults"))
    return standing


def clear(url: str, fault_id: str | None = None) -> list[dict[str, Any]]:
    """Take back one fault, or all; returns those that stood."""
    gone: list[dict[str, Any]] = untrusted_json.loads_list(
        _ask(f"{url}/windlass/faults{f'/{fault_id}' if fault_id else ''}", "DELETE")
    )
    return gone


def leaks(url: str) -> dict[str, list[str]]:
    """The ids of all that the account holds, by kind: instances that are not terminated, volumes,
    addresses and so on."""
    told: dict[str, list[str]] = untrusted_json.loads_object(_ask(f"{url}/windlass/leaks"))
    return told


def calls(url: str) -> dict[str, int]:
    """How often each AWS operation was asked for since the cloud came up, by whom:
    `user ec2:RunInstances`, `box s3:PutObject`."""
    told: dict[str, int] = untrusted_json.loads_object(_ask(f"{url}/windlass/calls"))
    return told


def _daemon() -> Daemon:
    return Daemon(
        "the embedded cloud",
        "remote.embedded.cloud.server",
        folder(),
        variables=(surroundings.PACKAGES,),
    )


def _get(address: str, instance_id: str = "") -> bytes:
    try:
        return _ask(address)
    except LookupError as error:
        raise CloudError(
            f"the embedded cloud knows no {instance_id}",
            where=address,
            why=str(error),
            remedy="./inv cloud.status",
        ) from None


def _ask(address: str, method: str = "GET", value: Any = None) -> bytes:
    """Loopback is never asked through a proxy. Raises LookupError for what is not there, CloudError
    for all else."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = None if value is None else json.dumps(value).encode()
    try:
        request = urllib.request.Request(address, body, method=method)  # noqa: S310
        with direct.open(request, timeout=20) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        if error.code == 400:
            told = untrusted_json.loads_object(error.read())["error"]
            raise _no_fault(told) from None
        raise LookupError(str(error)) from None
    except OSError as error:
        raise CloudError(
            "the embedded cloud does not answer",
            where=address,
            why=str(error),
            remedy="./inv cloud.up",
        ) from None


def _no_fault(why: str) -> CloudError:
    return CloudError(
        f"that cannot go wrong: {why}",
        where="the embedded cloud",
        remedy="./inv cloud.fault --help",
    )
