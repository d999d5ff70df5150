"""Reading a new instance's host keys where nobody on the network can forge them: in the console
output that cloud-init writes."""

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from remote.control.cloud.access import waiting
from remote.control.cloud.account.endpoint import Patience
from remote.control.cloud.box import Box
from remote.control.cloud.provider import Progress
from remote.control.config.inventory import place
from remote.control.errors import BoxUnreachable, ConfigError, Finding
from remote.control.ssh import known_hosts

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry

_BLOCK = re.compile(
    r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL
)
_KEY = re.compile(r"((?:ssh-|ecdsa-sha2-)[a-z0-9-]+) (AAAA[A-Za-z0-9+/]+={0,2})")


def in_console(text: str) -> list[str]:
    """The public keys in the last whole block of a console; empty when there is none. Lines that
    are no keys are passed over."""
    blocks = _BLOCK.findall(text)
    found = []
    for match in _KEY.finditer(blocks[-1] if blocks else ""):
        try:
            found.append(known_hosts.normal(match.group()))
        except ValueError:
            continue
    return found


def pin_from_inventory(entry: "BoxEntry", alias: str) -> None:
    """Pin the `host_key` of an entry, and nothing else: the inventory is the truth about a host
    that others made. Raises ConfigError."""
    try:
        key = known_hosts.normal(entry.host_key or "")
    except ValueError as error:
        remedy = (
            "on the box `cat /etc/ssh/ssh_host_ed25519_key.pub` prints it: paste its first two"
            f" words as `host_key:` of {entry.name}"
        )
        expected = "the key as `ssh-keyscan` prints it, without the host's name"
        raise ConfigError(
            [Finding(place("boxes", entry.name, "host_key"), str(error), expected, remedy)]
        ) from None
    if known_hosts.pinned(alias) != [key]:
        known_hosts.forget(alias)
        known_hosts.pin(alias, key)


def pin_from_console(
    ec2: Any, box: Box, patience: Patience, on_progress: Progress, is_adopted: bool = False
) -> None:
    """Pin the keys that the console shows under the box's alias, or hold them against the pinned
    ones.

    A box without a pinned key waits for the console, which lags by minutes on AWS, and fails closed
    with BoxUnreachable. A pinned box takes one look: a console without the block is no news;
    another key raises HostKeyMismatch.
    """
    trusted = known_hosts.pinned(box.host_key_alias)
    if trusted:
        _compare(box, trusted, in_console(console(ec2, box.id)))
        return
    what = f"waiting for the host key of {box.name} in its console"
    shown = waiting.until(
        lambda: in_console(console(ec2, box.id)) or None,
        what,
        on_progress,
        patience.host_key,
        patience.poll,
    )
    if not shown:
        raise _not_shown(box, patience, is_adopted)
    for key in shown:
        known_hosts.pin(box.host_key_alias, key)
    on_progress(
        f"pinned the host key of {box.name}: {', '.join(known_hosts.kind(key) for key in shown)}"
    )


def console(ec2: Any, instance_id: str) -> str:
    """What the instance wrote to its console; empty while there is nothing."""
    from botocore.exceptions import ClientError

    try:
        answer = ec2.get_console_output(InstanceId=instance_id, Latest=True)
    except ClientError as error:
        # Only Nitro instances have a live console; the others keep the one posted after boot.
        if "Unsupported" not in error.response["Error"]["Code"]:
            raise
        answer = ec2.get_console_output(InstanceId=instance_id)
    return _decoded(answer.get("Output") or "")


def _decoded(output: str) -> str:
    # botocore decodes the base64 of the wire; what it can't decode comes through as it was sent.
    if "\n" in output or " " in output:
        return output
    try:
        return base64.b64decode(output, validate=True).decode(errors="replace")
    except binascii.Error:
        return output


def _compare(box: Box, trusted: list[str], shown: list[str]) -> None:
    kinds = {known_hosts.kind(key): key for key in trusted}
    for key in shown:
        if kinds.get(known_hosts.kind(key), key) != key:
            raise known_hosts.mismatch(
                box.host_key_alias,
                f"pinned is {kinds[known_hosts.kind(key)]}, the console shows {key}",
                box.name,
            )


def _not_shown(box: Box, patience: Patience, is_adopted: bool) -> BoxUnreachable:
    again = (
        f"`./inv start {box.name}` looks again; `./inv stop {box.name}` and `./inv start"
        f" {box.name}` make the box show its key anew"
    )
    told = (
        f"`./inv start {box.name}` looks again; or, as the box was made by others, read its key"
        " where you trust the way (EC2's "
    )
    told += (
        "serial console, Session Manager): `cat /etc/ssh/ssh_host_ed25519_key.pub`, and paste it"
        f" as `host_key:` of {box.name}"
    )
    return BoxUnreachable(
        "the box's host key does not appear in its console, so nothing proves that it is the box"
        " that answers",
        where=box.where,
        why=(
            f"no whole block of cloud-init's host keys within {patience.host_key:.0f} s; a console"
            " may lag, or the image lacks cloud-init"
        ),
        remedy=told if is_adopted else again,
        kept=(
            "the box runs on, untouched, and is billed while it runs"
            if box.hourly_usd
            else "the box runs on, untouched"
        ),
    )
