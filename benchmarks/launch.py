"""What a launch adds to the instance's own readiness: python benchmarks/launch.py [ROUNDS]

Boxes of an embedded cloud of its own. A thread looks every 20 ms, from outside, when the instance
is ready: its SSH server greets, and its console shows the host keys. The overhead runs from there
until the launch returns, with SSH answering, the host key pinned and the clocks set over SSH: by
the typed `./inv launch` (what it takes to start lies before that moment), and by `boxes.ready` in
this process; as it polls the embedded cloud, and as it polls AWS with a console that lags. Prints
medians and the worst. Figure: at most 1 s.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from remote.control.backends.clocks import set_deadlines
from remote.control.cloud import boxes
from remote.control.cloud import embedded as client
from remote.control.cloud.access import host_keys, waiting
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory

INVENTORY = "default_box: box\nboxes:\n  box: {provider: embedded, disk_gb: 8}\n"
LOOK_SECONDS = 0.02
LAG_SECONDS = (4.0, 7.0)


def main() -> None:
    """Measure and print one line a figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inventory.yaml").write_text(INVENTORY)
        os.environ["WINDLASS_PROJECT"] = folder
        try:
            url = client.endpoint()
            _overhead(url, _in_process)  # the first one makes the key and loads what is loaded late
            late = {
                "typed `./inv launch`": [_overhead(url, _typed) for _ in range(rounds)],
                "boxes.ready": [_overhead(url, _in_process) for _ in range(rounds)],
                "boxes.ready, polls as on AWS, a console that lags": [
                    _overhead(url, _as_on_aws) for _ in range(rounds)
                ],
            }
        finally:
            _inv("cloud.down")
    for name, seconds in late.items():
        figure = "no figure: it looks every 3 s" if "AWS" in name else "figure: at most 1"
        print(
            f"{name:50} {statistics.median(seconds):5.2f} s after the instance is ready, worst"
            f" {max(seconds):.2f} ({figure})"
        )
    sys.exit(
        any(statistics.median(seconds) > 1 for name, seconds in late.items() if "AWS" not in name)
    )


def _overhead(url: str, launch: Callable[[], None]) -> float:
    ready: list[float] = []
    observer = threading.Thread(target=lambda: ready.append(_ready_at(url)))
    observer.start()
    launch()
    connected = time.monotonic()
    observer.join()
    _inv("terminate", "box", "--yes")
    return connected - ready[0]


def _ready_at(url: str) -> float:
    """When the instance's SSH server greeted and its console showed a host key."""
    while True:
        for told in client.listing(url):
            if (
                told["state"] == "running"
                and waiting.speaks_ssh(told["host"], told["port"])
                and _shows_key(url, told["id"])
            ):
                return time.monotonic()
        time.sleep(LOOK_SECONDS)


def _shows_key(url: str, instance_id: str) -> bool:
    return bool(
        host_keys.in_console(
            host_keys.console(endpoint.EmbeddedEndpoint(url).client("ec2"), instance_id)
        )
    )


def _typed() -> None:
    _inv("launch", "box", "--yes")


def _in_process() -> None:
    entry = load_inventory().box("box")
    boxes.ready(entry, lambda line: None, set_deadlines=set_deadlines)


def _as_on_aws() -> None:
    """Like `_in_process`; the console holds its text back, and the cloud is asked as seldom as AWS
    is."""
    url = client.endpoint()
    client.inject(url, {"kind": "console-late", "seconds": random.uniform(*LAG_SECONDS)})
    of_entry = endpoint.of_entry

    def patient(entry: Any, start: bool = True) -> endpoint.Endpoint:
        return replace(of_entry(entry, start), patience=endpoint.AwsEndpoint.patience)

    endpoint.of_entry = patient
    try:
        _in_process()
    finally:
        endpoint.of_entry = of_entry
        client.clear(url)


def _inv(*words: str) -> str:
    return subprocess.run(
        [str(ROOT / "inv"), *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()
