"""How SSH gets to a box: straight, or where this laptop cannot, through Session Manager or a
bastion; and who is let in.

The bytes may pass through others; the host key that is checked is the box's own, always.
"""

import json
import os
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from remote.control import project
from remote.control.cloud.access import waiting
from remote.control.cloud.account import endpoint, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.cloud.box import Box
from remote.control.errors import (
    BoxUnreachable,
    ConfigError,
    Finding,
    HostKeyMismatch,
    LoginRefused,
    WindlassError,
)
from remote.control.ssh import config as ssh_config
from remote.control.ssh import known_hosts

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry
    from remote.control.ssh.connection import Address
    from remote.control.ssh.keepalive import Link

_GREETING_BYTES = 4096
_GREETING_SECONDS = 15.0
_SESSION = "AWS_SSM_START_SESSION_RESPONSE"
"""The variable in which AWS's session-manager-plugin takes the session, its token included: never
in an argument."""


def entrance(entry: "CloudEntry", there: Endpoint, vpc_id: str) -> str | None:
    """Who must be let in at port 22: this laptop; the box's own network, where the bastion or the
    private road comes from; or nobody."""
    if entry.reach == "ssm":
        return None
    if entry.reach == "public":
        return there.caller_cidr()
    return str(there.client("ec2").describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]["CidrBlock"])


def answers(box: Box) -> bool:
    """Whether the SSH server of the box greets, over whatever road leads there.

    Raises LoginRefused, HostKeyMismatch, ConfigError or LaptopError where the road itself is in the
    wrong hands or not set up.
    """
    proxy = proxy_of(box)
    if proxy is None:
        return waiting.speaks_ssh(box.host, box.port)
    try:
        link = proxy()
    except (LoginRefused, HostKeyMismatch):
        raise
    except BoxUnreachable:
        return False
    try:
        return _greets(link)
    finally:
        link.close()


def require_road(box: Box) -> None:
    """Raise what is wrong on the way to the box: a jump host that is down."""
    if proxy := proxy_of(box):
        proxy().close()


def proxy_of(box: Box) -> "Callable[[], Link] | None":
    """What makes a link to the box; None where a plain connection does."""
    if box.reach == "ssm":
        return partial(_through_session, box)
    if box.reach == "bastion":
        return partial(_through_bastion, box)
    return _own_road(box)


def proxy_command(box: Box) -> str:
    """The same road for the system's ssh: a shell command whose standard input and output are the
    link. Empty where none is needed."""
    if box.reach == "ssm":
        return own_command(
            "remote.control.cloud.access.tunnel", box.provider, box.region, box.user, box.id
        )
    if box.reach == "bastion":
        return _ssh_to_bastion(box)
    told = _told(box)
    return told.proxy or (_ssh_over(told.jumps, box) if told.jumps else "")


def own_command(module: str, *words: str) -> str:
    """A shell command that runs a module of ours from anywhere, for this project."""
    surroundings = [f"PYTHONPATH={project.CODE}", f"WINDLASS_PROJECT={project.root()}"]
    return shlex.join(["/usr/bin/env", *surroundings, sys.executable, "-m", module, *words])


def open_session(there: Endpoint, instance_id: str, where: str) -> tuple[list[str], dict[str, str]]:
    """Start a Session Manager session to port 22: the program that carries it, and its further
    environment.

    Raises BoxUnreachable while Session Manager does not know the instance, LaptopError without the
    plugin.
    """
    from botocore.exceptions import ClientError

    plugin = there.session_plugin()
    asked = {
        "Target": instance_id,
        "DocumentName": "AWS-StartSSHSession",
        "Parameters": {"portNumber": ["22"]},
    }
    ssm = there.client("ssm")
    with refusals.explained(refusals.Context(where, there.region, regions=there.regions)):
        try:
            told = ssm.start_session(**asked)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TargetNotConnected":
                raise
            raise _not_connected(instance_id, where, error) from None
    session = json.dumps({key: told[key] for key in ("SessionId", "TokenValue", "StreamUrl")})
    return [
        *plugin,
        _SESSION,
        there.region,
        "StartSession",
        "",
        json.dumps(asked),
        ssm.meta.endpoint_url,
    ], {_SESSION: session}


def send_key(
    there: Endpoint, instance_id: str, zone: str, user: str, public_line: str, where: str = ""
) -> None:
    """Have EC2 Instance Connect admit a public key for a minute. Raises the errors of
    `refusals`."""
    place = {"AvailabilityZone": zone} if zone else {}
    with refusals.explained(refusals.Context(where, there.region, regions=there.regions)):
        client = there.client("ec2-instance-connect")
        client.send_ssh_public_key(
            InstanceId=instance_id, InstanceOSUser=user, SSHPublicKey=public_line, **place
        )


def admission(box: Box) -> Callable[[str], None] | None:
    """What must be told each public key before it is tried; None where the box knows the key."""
    if not box.instance_connect:
        return None
    there = endpoint.of_box(box)
    return lambda public_line: send_key(there, box.id, box.zone, box.user, public_line, box.name)


def bastion_of(box: Box) -> "Address":
    """The bastion of a box, its host key pinned from the inventory. Raises ConfigError where it is
    not all there."""
    from remote.control.ssh.connection import Address

    bastion = box.bastion
    if bastion is None:
        raise ConfigError(
            [
                _finding(
                    box.name,
                    "`reach` is bastion, and no bastion is named",
                    "`bastion:` with host, user and host_key",
                )
            ]
        )
    alias = f"bastion-{bastion.host}-{bastion.port}"
    try:
        key = known_hosts.normal(bastion.host_key)
    except ValueError as error:
        raise ConfigError(
            [
                _finding(
                    box.name,
                    str(error),
                    "`host_key:` as `ssh-keyscan` prints it, without the host's name",
                )
            ]
        ) from None
    if known_hosts.pinned(alias) != [key]:  # the inventory is the truth about a host that stands
        known_hosts.forget(alias)
        known_hosts.pin(alias, key)
    path = project.find_file(bastion.ssh_key) if bastion.ssh_key else None
    return Address(
        box.name, "", bastion.host, bastion.port, bastion.user, path, alias, is_bastion=True
    )


def _greets(link: "Link") -> bool:
    link.settimeout(_GREETING_SECONDS)
    heard = b""
    try:
        # The plugin, and a server, may say something before the version.
        while b"SSH-" not in heard and len(heard) < _GREETING_BYTES:
            piece = link.recv(_GREETING_BYTES)
            if not piece:
                return False
            heard += piece
    except OSError:
        return False
    return b"SSH-" in heard


def _through_session(box: Box) -> "Link":
    from remote.control.ssh.proxy import ProgramLink

    words, further = open_session(endpoint.of_box(box), box.id, box.name)
    return ProgramLink(
        words,
        {
            **further,
            "PYTHONPATH": os.pathsep.join([str(project.CODE), os.environ.get("PYTHONPATH", "")]),
        },
    )


def _through_bastion(box: Box) -> "Link":
    from remote.control.ssh.proxy import over_bastion

    bastion = bastion_of(box)
    return over_bastion(bastion, known_hosts.pinned(bastion.alias), box.host, box.port)


def _told(box: Box) -> ssh_config.HostConfig:
    return box.host_config or ssh_config.HostConfig("", box.host)


def _own_road(box: Box) -> "Callable[[], Link] | None":
    """The road that the user's ssh_config describes."""
    told = _told(box)
    if told.proxy or told.jumps:
        from remote.control.ssh import jumps

        return jumps.proxy(told, box.name, box.host, box.port)
    return None


def _ssh_over(hosts: tuple[str, ...], box: Box) -> str:
    # The system's ssh knows its own jump hosts; what it must not do here is to trust a new one.
    before = [f"-J{','.join(hosts[:-1])}"] if hosts[:-1] else []
    user, host, port = ssh_config.jump_of(hosts[-1])
    login = [*([f"-l{user}"] if user else []), *([f"-p{port}"] if port else [])]
    place = f"[{box.host}]:{box.port}"
    strict = [*ssh_config.file_option(), "-oStrictHostKeyChecking=yes", "-oBatchMode=yes"]
    return shlex.join(["ssh", *strict, *before, *login, "-W", place, host])


def _ssh_to_bastion(box: Box) -> str:
    from remote.control.cloud.access import openssh

    bastion = bastion_of(box)
    settings = openssh.login_options(
        bastion.host, bastion.port, bastion.user, bastion.key, bastion.alias
    )
    words = [
        word
        for keyword, value in settings.items()
        for word in ("-o", f"{keyword}={openssh.quoted(value)}")
    ]
    return shlex.join(
        ["ssh", "-F", "none", *words, "-W", f"[{box.host}]:{box.port}", bastion.alias]
    )


def _not_connected(
    instance_id: str, where: str, error: WindlassError | Exception
) -> BoxUnreachable:
    again = f"; then `./inv start {where}`" if where else ""
    return BoxUnreachable(
        f"Session Manager has no connection to {instance_id}",
        where=f"box {where}" if where else instance_id,
        why=str(error),
        remedy=(
            "its agent needs a minute after the start, an instance profile with"
            " AmazonSSMManagedInstanceCore (`instance_profile:`), and a way to AWS (NAT, or"
            f" endpoints for ssm, ssmmessages and ec2messages){again}"
        ),
    )


def _finding(box_name: str, what: str, expected: str) -> Finding:
    from remote.control.config.inventory import place

    return Finding(
        place("boxes", box_name, "bastion"), what, expected, "docs/reach.md shows a whole entry"
    )
