"""How long a warm demo takes, stage by stage: python benchmarks/demo.py

Runs `./inv demo` once to warm up (environments, base model, caches) and once measured. Figure:
under 120 s on 2 cores.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print one line a stage."""
    _demo()
    began = time.perf_counter()
    receipt = _demo()
    whole = time.perf_counter() - began
    stages = receipt["stages"]
    for stage in stages:
        print(f"{stage['label']:12} {stage['seconds']:6.1f} s")
    print(
        f"{'the rest':12} {whole - sum(stage['seconds'] for stage in stages):6.1f} s  (box, deploy,"
        " stop)"
    )
    print(f"{'whole':12} {whole:6.1f} s  (figure: below 120)")
    sys.exit(whole >= 120)


def _demo() -> dict[str, list[dict[str, float]]]:
    return json.loads(
        subprocess.run(
            [str(ROOT / "inv"), "demo", "--json"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    )


if __name__ == "__main__":
    main()
