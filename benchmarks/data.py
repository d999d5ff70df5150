"""Rows of JSON Lines a second: python benchmarks/data.py [ROWS]

Peers in turns on the same file: plain `json`, and Hugging Face `datasets` streaming. Ours reads
with all its checks; the stage `prepare` also takes out duplicates, splits, hashes and syncs. Run it
with the Python of a box's environment, which has `datasets`
(.windlass/environments/…/venv/bin/python). Prints medians of five; ends with 1 when a goal is
missed: three times as many rows a second as `datasets`, and a finished run asked again in under 1 %
of its time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from remote.contract.files import atomic
from remote.contract.job.jobs import JobSpec
from remote.payload.data.files.readers import Reading, rows_of


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder
        path = made(Path(folder) / "rows.jsonl", count)
        peers: dict[str, Callable[[], object]] = {
            "plain json": lambda: sum(1 for _ in map(json.loads, path.open("rb"))),
            "datasets, streaming": lambda: streamed(path),
            "ours, with its checks": lambda: sum(1 for _ in rows_of(path, "rows", Reading())),
        }
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(5):
            for name, work in peers.items():
                seconds[name].append(timed(work))
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        for name, median in medians.items():
            print(f"{name:28}{count / median / 1000:8.1f} krow/s")
        ratio = medians["datasets, streaming"] / medians["ours, with its checks"]
        first, again = prepared(Path(folder), path)
        print(f"{'the stage prepare':28}{count / first / 1000:8.1f} krow/s")
        print(f"ours against datasets: {ratio:.1f} x (goal 3)")
        print(f"asked again: {again:.2f} s of {first:.2f} s, {again / first:.1%} (goal 1 %)")
        sys.exit(ratio < 3 or again / first > 0.01)


def made(path: Path, count: int) -> Path:
    """Rows of some 400 bytes."""
    with path.open("w") as file:
        for number in range(count):
            words = " ".join(f"word{(number * 31 + place) % 5000}" for place in range(40))
            row = {
                "instruction": f"Question {number}?",
                "input": words,
                "output": f"Answer {number}.",
            }
            file.write(json.dumps(row) + "\n")
    return path


def streamed(path: Path) -> int:
    """Every row, by `datasets`."""
    from datasets import load_dataset

    return sum(1 for _ in load_dataset("json", data_files=str(path), split="train", streaming=True))


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def prepared(folder: Path, dataset: Path) -> tuple[float, float]:
    """Seconds of the stage, and of the same asked again."""
    job = folder / "windlass" / "jobs" / "job-1"
    spec = JobSpec("job-1", "prepare", "r", inputs={"dataset": str(dataset)})
    atomic.write_text(job / "spec.json", spec.to_json())
    words = [sys.executable, "-m", "remote.payload.stages.prepare", str(job)]

    def run() -> None:
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    return timed(run), timed(run)


if __name__ == "__main__":
    main()
