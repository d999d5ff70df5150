"""How much `./inv` adds to Invoke: python benchmarks/cli.py

Peer: a bare `invoke --list` with as many empty tasks, same interpreter, runs interleaved. Prints medians and ratios.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
ROUNDS = 15


def main() -> None:
    """Measure and print one line a figure."""
    subprocess.run([ROOT / "inv", "--version"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        _write_bare_tasks(Path(folder))
        commands = {
            "bare invoke --list": ([PYTHON, "-m", "invoke", "--list"], folder),
            "invoke --list, our tasks": ([PYTHON, "-m", "invoke", "--list"], ROOT),
            "./inv --list": ([ROOT / "inv", "--list"], ROOT),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, (words, place) in commands.items():
                seconds[name].append(_time(words, place))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    bare, ours, wrapped = medians.values()
    for name, median in medians.items():
        print(f"{name:26} {median * 1000:6.0f} ms")
    print(f"./inv --list / bare        {wrapped / bare:6.2f}    (figure: at most 1.3)")
    print(f"the wrapper adds           {(wrapped - ours) * 1000:6.0f} ms (figure: below 150)")
    sys.exit(wrapped / bare > 1.3 or wrapped - ours > 0.15)


def _write_bare_tasks(folder: Path) -> None:
    count = len(subprocess.run([ROOT / "inv", "--list"], check=True, capture_output=True, text=True).stdout.splitlines())
    tasks = "\n".join(f'@task\ndef task_{number}(c):\n    """Nothing."""\n' for number in range(count))
    (folder / "tasks.py").write_text(f"from invoke import task\n\n{tasks}")


def _time(words: list[object], place: object) -> float:
    began = time.perf_counter()
    subprocess.run([str(word) for word in words], cwd=str(place), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
