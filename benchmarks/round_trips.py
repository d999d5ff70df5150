"""What deploys and a preflight cost on the wire: python benchmarks/round_trips.py [BOX]

Needs a finished `./inv demo` on that box. Peer: a cold `ssh BOX true`, the same key and box, runs
interleaved. The deploy of another release, with the files of the demo's playbook, goes to and fro
between two whose contents are on the box.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7


def main() -> None:
    """Measure and print one line a figure."""
    box = sys.argv[1] if len(sys.argv) > 1 else "demo"
    _inv("launch", box)
    _inv("deploy", box)
    with tempfile.NamedTemporaryFile("w", suffix=".config") as config:
        config.write(_inv("box.ssh-config", box))
        config.flush()
        login = ["ssh", "-F", config.name, f"windlass-{box}", "true"]
        logins, deploys = zip(
            *[(_seconds(login), _deploy(box)) for _ in range(ROUNDS)], strict=True
        )
    trips, sent = (
        {deploy["round_trips"] for deploy in deploys},
        max(deploy["sent_bytes"] for deploy in deploys),
    )
    on_the_wire, whole = (
        statistics.median(deploy[name] for deploy in deploys) for name in ("seconds", "whole")
    )
    peer = statistics.median(logins)
    print(f"cold `ssh {box} true`        {peer:5.2f} s")
    print(
        f"no-change deploy            {on_the_wire:5.2f} s, {on_the_wire / peer:.2f} of the peer;"
        f" {whole:.2f} s as a whole command"
    )
    print(f"round trips                 {sorted(trips)} (figure: [1]), {sent:,} bytes sent")
    other = [_deploy(box, *words) for _ in range(ROUNDS) for words in (("--playbook", "demo"), ())][
        2:
    ]
    trips_of_other, sent = (
        {deploy["round_trips"] for deploy in other},
        max(deploy["sent_bytes"] for deploy in other),
    )
    seconds = statistics.median(deploy["seconds"] for deploy in other)
    print(
        f"deploy of another release   {seconds:5.2f} s in {sorted(trips_of_other)} round trips"
        f" (figure: [1]), {sent:,} bytes sent"
    )
    preflight = json.loads(_inv("preflight", "--box", box, "--json"))
    checks = f"{len(preflight['checks'])} checks in {preflight['seconds']:.1f} s on the box"
    print(f"preflight round trips       [{preflight['round_trips']}] (figure: [1]), {checks}")
    sys.exit(trips != {1} or trips_of_other != {1} or preflight["round_trips"] != 1)


def _deploy(box: str, *words: str) -> dict[str, float]:
    began = time.perf_counter()
    outcome = json.loads(_inv("deploy", box, "--json", *words))
    return outcome | {"whole": time.perf_counter() - began}


def _seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - began


def _inv(*words: str) -> str:
    return subprocess.run(
        [str(ROOT / "inv"), *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()
