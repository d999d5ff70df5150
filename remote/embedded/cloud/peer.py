"""Which user is at the other end of a loopback connection, as Linux tells.

The kernel is asked for that one connection over netlink (sock_diag): /proc/net/tcp lists every
connection of the machine, and reading it for each request grows with the boxes. It is read where
netlink is shut, as in some containers.
"""

import contextlib
import functools
import os
import socket
import struct
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_IPV4_IN_IPV6 = "0000000000000000FFFF0000"

# linux/sock_diag.h and linux/inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_CONNECTION = struct.Struct("!HH4s12x4s12x")
_ANY_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ANSWER = struct.Struct("=4x48x12xII")
"""Less what precedes them: the user and the inode of a socket."""


def is_own(host: str, port: int, server: tuple[str, int]) -> bool:
    """Whether the socket at `host`:`port` that is connected to `server` belongs to the calling user
    or root.

    True where the system does not tell.
    """
    return not _can_tell() or _owner(host, port, server) in (os.getuid(), 0)


def _owner(host: str, port: int, server: tuple[str, int]) -> int | None:
    """The user of a connected local socket; None when nobody holds it any more (the kernel then
    says root)."""
    with contextlib.suppress(OSError, struct.error):
        return _from_netlink(host, port, server)
    return _from_table(host, port)


def _from_netlink(host: str, port: int, server: tuple[str, int]) -> int | None:
    """Raises OSError where the kernel does not say."""
    connection = (
        _CONNECTION.pack(port, server[1], socket.inet_aton(host), socket.inet_aton(server[0]))
        + _ANY_COOKIE
    )
    body = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + connection
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(2)
        kernel.send(
            _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
            + body
        )
        answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        raise OSError("no such connection, or not to be told")
    user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    return int(user) if inode else None


def _from_table(host: str, port: int) -> int | None:
    number = int.from_bytes(socket.inet_aton(host), "little")
    names = (f"{number:08X}:{port:04X}", f"{_IPV4_IN_IPV6}{number:08X}:{port:04X}")
    for table in _TABLES:
        for line in table.read_text().splitlines() if table.exists() else ():
            fields = line.split()
            if fields[1] in names and fields[9] != "0":
                return int(fields[7])
    return None


@functools.cache
def _can_tell() -> bool:
    """Not on macOS, and not in every container."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        host, port = client.getsockname()
        return _owner(host, port, server.getsockname()) == os.getuid()
