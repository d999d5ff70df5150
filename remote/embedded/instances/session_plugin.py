"""The stand-in of AWS's session-manager-plugin, called as it is: the session in a variable, the
connection on standard input and output.

python -m remote.embedded.instances.session_plugin VARIABLE REGION StartSession PROFILE
PARAMETERS ENDPOINT
"""

import os
import socket
import sys
import threading
from urllib.parse import urlsplit

from remote.contract.files import untrusted_json

_PIECE = 1 << 16


def main() -> None:
    """Carry bytes both ways until either side ends."""
    place = urlsplit(untrusted_json.loads_object(os.environ[sys.argv[1]])["StreamUrl"])
    with socket.create_connection((place.hostname, place.port), timeout=10) as link:
        link.settimeout(None)
        threading.Thread(target=_receive, args=(link,), daemon=True).start()
        while piece := os.read(0, _PIECE):
            link.sendall(piece)


def _receive(link: socket.socket) -> None:
    """What the box says; with its last word the whole program ends."""
    try:
        while piece := link.recv(_PIECE):
            _write(piece)
    finally:
        os._exit(0)


def _write(piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    main()
