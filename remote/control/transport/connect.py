"""From a box of the cloud to a way to it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from remote.control.progress import Say, detail, silent
from remote.control.transport.base import Transport

if TYPE_CHECKING:
    from remote.control.cloud.box import Box


def connect(box: "Box", say: Say = silent) -> Transport:
    """A transport to `box`; the connection itself is made with the first command.

    What is bulk goes by the inventory's bucket where the box is reached through Session Manager.
    A public box that does not answer at all gets port 22 opened for this laptop's present address,
    once, before that is an error; `say` is told of it.
    """
    if box.provider == "local":
        from remote.control.transport.local import of_this_machine

        return of_this_machine(box.where)
    from remote.control.cloud.access import reach
    from remote.control.config.inventory import SshEntry
    from remote.control.ssh import config as ssh_config
    from remote.control.ssh.connection import Address
    from remote.control.ssh.known_hosts import pinned
    from remote.control.transport.over_ssh import SshTransport
    from remote.control.transport.pull import bulk

    heal = _once(lambda: _admit_this_laptop(box, say)) if box.reach == "public" and box.id else None
    proxy, admit = reach.proxy_of(box), reach.admission(box)
    settings = box.entry.ssh if box.entry else SshEntry()
    told = box.host_config or ssh_config.HostConfig("", box.host)
    dead_after = (
        settings.dead_after
        if "dead_after" in settings.model_fields_set
        else told.dead_after or settings.dead_after
    )
    address = Address(
        box.name,
        box.id,
        box.host,
        box.port,
        box.user,
        box.key,
        box.host_key_alias,
        proxy=proxy,
        admit=admit,
        heal=heal,
        dead_after=dead_after,
        identities=told.identities,
        identities_only=told.identities_only,
    )
    return bulk.of_box(box, SshTransport(address, pinned))


def open_door(box: "Box", say: Say = silent) -> None:
    """See to it that the system's ssh gets in: port 22 open for this laptop, the key admitted where
    EC2 Instance Connect does that."""
    from remote.control.cloud.access import instance_connect, waiting

    if box.reach == "public" and box.id and not waiting.speaks_ssh(box.host, box.port):
        _admit_this_laptop(box, say)
    if box.instance_connect:
        instance_connect.admit(box)


def _once(work: Callable[[], bool]) -> Callable[[], bool]:
    """`work` at the first call, False after it: each reconnect of a laptop that is offline would
    ask AWS again."""
    to_do = [work]
    return lambda: to_do.pop()() if to_do else False


def _admit_this_laptop(box: "Box", say: Say = silent) -> bool:
    """Whether port 22 was closed for this laptop, and now is open."""
    from remote.control.cloud import boxes
    from remote.control.errors import WindlassError

    if box.entry is None:
        return False
    said: list[str] = []
    try:
        boxes.admit(box.entry, said.append)
    except WindlassError:
        # The error that is told is that the box does not answer; its remedy tries this again.
        return False
    for line in said:
        say(detail(f"  {box.name}: {line}"))
    return bool(said)
