"""From a box of the cloud to a way to it."""

from typing import TYPE_CHECKING

from remote.control.transport.base import Transport

if TYPE_CHECKING:
    from remote.control.cloud.box import Box


def connect(box: "Box") -> Transport:
    """A transport to `box`; the connection itself is made with the first command."""
    from remote.control.transport.known_hosts import pinned
    from remote.control.transport.ssh import Address, SshTransport

    address = Address(box.name, box.id, box.host, box.port, box.user, box.key, box.host_key_alias)
    return SshTransport(address, pinned)
