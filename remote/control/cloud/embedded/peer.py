"""Which user is at the other end of a loopback connection."""

import os
import socket
import struct
from pathlib import Path

_TABLE = Path("/proc/net/tcp")


def is_own(host: str, port: int) -> bool:
    """Whether the connection from `host`:`port` was opened by the calling user (or root). True where the system does not tell."""
    if not _TABLE.exists():
        return True
    wanted = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"
    for line in _TABLE.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[7] != "0":
            return int(fields[7]) == os.getuid()
    return True
