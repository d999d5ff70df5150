"""The embedded cloud's process: `python -m remote.embedded.cloud.server FOLDER`. Ends on
SIGTERM, with all it started."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

# moto reads its settings while it is imported.
os.environ.update(
    {
        "MOTO_AMIS_PATH": str(Path(__file__).with_name("images.json")),
        "MOTO_ENABLE_AMI_VALIDATION": "true",
        "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
        "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
        "MOTO_DISABLE_GLOBAL_CORS": "true",
    }
)

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from remote.control import daemon
from remote.embedded.cloud.account import Account
from remote.embedded.cloud.wire import Wire
from remote.embedded.instances import instance_connect, machine


class Handler(MotoRequestHandler):  # type: ignore[misc]
    """Serves without a line in the log for each request, by a clock that a fault may have put
    off."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The `Date` of an answer."""
        told: str = super().date_time_string(
            (timestamp or time.time()) + self.server.app.skew_seconds()
        )
        return told

    def log_request(self, *_args: Any) -> None:
        """Nothing: the log is for what went wrong."""


def main() -> None:
    """Serve until told to end."""
    folder = Path(sys.argv[1])
    if left := machine.sweep(folder):
        print(f"processes of an earlier cloud cannot be ended: {sorted(left)}", flush=True)
    server = make_server("127.0.0.1", 0, _not_yet, threaded=True, request_handler=Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    account = Account(folder, url)
    account.load()
    account.install()
    instance_connect.install(account)
    server.app = Wire(account)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    daemon.announce(folder, url=url)
    server.serve_forever()
    account.shut_down()


def _not_yet(_environ: Any, _start_response: Any) -> Any:
    raise RuntimeError("asked before it serves")


if __name__ == "__main__":
    main()
