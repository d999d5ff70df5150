"""The roads that the user's ssh_config describes: a ProxyCommand, or jump hosts one behind the
other."""

import getpass
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from remote.control.errors import ConfigError, Finding, HostKeyMismatch
from remote.control.ssh import config as ssh_config
from remote.control.ssh.config import HostConfig
from remote.control.ssh.connection import DEAD_AFTER_SECONDS, Address
from remote.control.ssh.keepalive import Link
from remote.control.ssh.proxy import ProgramLink, over_bastion

_MOST = 8


def proxy(
    told: HostConfig, box: str, host: str, port: int, depth: int = 1
) -> Callable[[], Link] | None:
    """What makes a link to `host`:`port` of a box as `told` says; None where a plain connection
    does.

    Raises ConfigError, or HostKeyMismatch where nobody knows a jump host's key.
    """
    if told.proxy:
        return partial(ProgramLink, ["/bin/sh", "-c", f"exec {told.proxy}"], {})
    if told.jumps:
        jump, keys = _jump(told.jumps, box, depth)
        return partial(over_bastion, jump, keys, host, port)
    return None


def _jump(words: tuple[str, ...], box: str, depth: int) -> tuple[Address, list[str]]:
    """The last of these jump hosts, with the road over those before it, and its host keys."""
    if depth > _MOST:
        what, expected = (
            f"more than {_MOST} jump hosts, one behind the other, up to {words[-1]}",
            "jump hosts that end somewhere",
        )
        raise ConfigError(
            [
                Finding(
                    str(ssh_config.path()),
                    what,
                    expected,
                    "look for a ProxyJump that leads to itself",
                )
            ]
        )
    user, host, port = ssh_config.jump_of(words[-1])
    told = ssh_config.lookup(host, port, user)
    there = told.port or 22
    way = replace(told, proxy="", jumps=words[:-1]) if words[:-1] else told
    address = Address(
        box,
        "",
        told.host,
        there,
        told.user or getpass.getuser(),
        None,
        told.alias,
        jump=told.alias,
        identities=told.identities,
        identities_only=told.identities_only,
        dead_after=told.dead_after or DEAD_AFTER_SECONDS,
        proxy=proxy(way, box, told.host, there, depth + 1),
    )
    keys = ssh_config.host_keys(told, there)
    if not keys:
        raise _unknown(address, host)
    return address, keys


def _unknown(address: Address, alias: str) -> HostKeyMismatch:
    return HostKeyMismatch(
        f"nobody knows the host key of jump host {alias}",
        where=f"{address.where}, as {ssh_config.path()} has it",
        why="no known_hosts file of yours holds one, and without it nobody knows who answers there",
        remedy=(
            f"`ssh {alias}` once, and compare the fingerprint it shows with what the host's owner"
            " says"
        ),
        kept="nothing was sent",
    )
