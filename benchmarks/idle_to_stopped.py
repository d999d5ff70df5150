"""How long after its idle clock ran out a box is stopped: python benchmarks/idle_to_stopped.py
[ROUNDS]

Boxes of an embedded cloud of its own, launched by `./inv launch`; the time runs from the end of the
last SSH session to the state `stopped` as the cloud's API tells it. Figure: the idle clock and at
most 60 s. A real box adds what its system takes to power off.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IDLE_SECONDS = 20
INVENTORY = (
    "default_box: idle\nboxes:\n  idle: {provider: embedded, clocks: {idle:"
    f" {IDLE_SECONDS}s}}}}\n"
)


def main() -> None:
    """Measure and print one line a figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inventory.yaml").write_text(INVENTORY)
        os.environ["WINDLASS_PROJECT"] = folder
        try:
            late = [_seconds_late() for _ in range(rounds)]
        finally:
            _inv("cloud.down")
    told = ", ".join(f"{seconds:.1f}" for seconds in late)
    print(
        f"idle to stopped   {statistics.median(late):.1f} s beyond an idle clock of {IDLE_SECONDS}"
        f" s (each: {told}); figure: at most 60"
    )
    sys.exit(max(late) > 60)


def _seconds_late() -> float:
    _inv("launch", "idle", "--yes")
    began = time.perf_counter()
    while json.loads(_inv("list", "--json"))[0]["state"] != "stopped":
        time.sleep(0.5)
    return time.perf_counter() - began - IDLE_SECONDS


def _inv(*words: str) -> str:
    return subprocess.run(
        [str(ROOT / "inv"), *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()
