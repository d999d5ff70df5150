"""The embedded cloud as the rest of Windlass sees it: its endpoint, where its instances listen, its beginning and end."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from remote.control import project
from remote.control.daemon import Daemon
from remote.control.errors import CloudError


def folder() -> Path:
    """Everything the project's embedded cloud keeps."""
    return project.state_folder() / "cloud"


def endpoint(start: bool = True) -> str:
    """The URL of the AWS API, after starting the cloud where needed. Raises CloudError when it is down and `start` is False."""
    announced = _daemon().start() if start else _daemon().running()
    if announced is None:
        raise CloudError("the embedded cloud is down", where="this machine", remedy="./inv cloud.up")
    return str(announced["url"])


def running() -> dict[str, Any] | None:
    """What the living cloud announced (`url`, `pid`), or None."""
    return _daemon().running()


def down() -> bool:
    """Stop every instance and end the cloud with all it started; the disks stay. Returns whether it was up."""
    from remote.control.cloud.embedded import machine

    was_up = _daemon().stop(patience_seconds=30)
    if left := machine.sweep(folder()):
        raise CloudError(f"{len(left)} processes of the embedded cloud do not end", where="this machine", why=f"pids {sorted(left)}")
    return was_up


def describe(url: str, instance_id: str) -> dict[str, Any]:
    """`id`, `name`, `type`, `state`, `host`, `port`, `user`, `disk` and `log` of one instance.

    Raises CloudError where it is not there, or the cloud is down.
    """
    described: dict[str, Any] = json.loads(_get(f"{url}/windlass/instances/{instance_id}", instance_id))
    return described


def listing(url: str) -> list[dict[str, Any]]:
    """Every instance that is not terminated, as `describe` tells."""
    instances: list[dict[str, Any]] = json.loads(_get(f"{url}/windlass/instances"))
    return instances


def address_of(url: str, instance_id: str) -> tuple[str, int, str]:
    """Where and as whom to log in: host, port, user."""
    told = describe(url, instance_id)
    return told["host"], told["port"], told["user"]


def console(url: str, instance_id: str) -> str:
    """The console of one instance, its last 64 KiB."""
    return _get(f"{url}/windlass/instances/{instance_id}/console", instance_id).decode(errors="replace")


def _daemon() -> Daemon:
    return Daemon("the embedded cloud", "remote.control.cloud.embedded.server", folder())


def _get(address: str, instance_id: str = "") -> bytes:
    """Loopback is never asked through a proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=20) as response:
            body: bytes = response.read()
            return body
    except urllib.error.HTTPError as error:
        raise CloudError(f"the embedded cloud knows no {instance_id}", where=address, why=str(error), remedy="./inv cloud.status") from None
    except OSError as error:
        raise CloudError("the embedded cloud does not answer", where=address, why=str(error), remedy="./inv cloud.up") from None
