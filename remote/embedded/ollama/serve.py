"""The process of the embedded Ollama: `python -m remote.embedded.ollama.serve [ORIGIN...]
FOLDER`.

It binds 127.0.0.1 only, and takes the port it had before where that is free, so that a command line
printed once stays valid.
"""

import socket
import sys
from pathlib import Path

import uvicorn

from remote.contract.files import atomic
from remote.control.daemon import announce
from remote.embedded.ollama.app import make_app
from remote.embedded.ollama.engine import Engine
from remote.embedded.ollama.store import Store

_HOST = "127.0.0.1"


def main() -> None:
    """Serve until SIGTERM."""
    *origins, folder = *sys.argv[1:-1], Path(sys.argv[-1])
    store = Store(folder)
    store.prune()
    listener = _listener(folder / "port")
    # No proxy is believed: whose connection it is decides who may ask.
    config = uvicorn.Config(
        make_app(store, Engine(folder), origins),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        proxy_headers=False,
    )
    announce(folder, url=f"http://{_HOST}:{listener.getsockname()[1]}", origins=origins)
    uvicorn.Server(config).run(sockets=[listener])


def _listener(memo: Path) -> socket.socket:
    """A listening socket on the port of last time, else on a free one."""
    try:
        return _bound(int(memo.read_text()))
    except (FileNotFoundError, ValueError, OSError, OverflowError):
        listener = _bound(0)
        atomic.write_text(memo, f"{listener.getsockname()[1]}\n")
        return listener


def _bound(port: int) -> socket.socket:
    # asyncio turns Nagle's delay (40 ms a reply) off only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


if __name__ == "__main__":
    main()
