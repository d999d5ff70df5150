"""How quick and how big `./inv status` is, of 0, 1 and 64 running boxes, against SkyPilot's: python
benchmarks/status.py [ROUNDS]

Boxes of embedded clouds of its own. Peer: `sky status` without clusters, of a SkyPilot from PyPI in
an environment and a home of its own, runs interleaved, telemetry off. SkyPilot answers from a
server on the same machine, which the first command starts: warm means that it runs already. It then
asks no cloud; `./inv status` asks the cloud, and each box over SSH. Prints medians. Figure: under a
third of the peer's time and memory, which is that of the command and of what must run for it. Linux
only; takes about five minutes.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKYPILOT = "skypilot[aws]==0.14.1"
CLUSTERS_ALONE = ("--no-show-managed-jobs", "--no-show-services", "--no-show-pools")
COLD_ROUNDS = 2
# As a person's shell has it: with bytecode kept, and nobody's cloud.
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith(("AWS_", "SKY"))
}

Sample = tuple[float, float]
"""Seconds until a command ended, and the most memory that it held, in MB."""


def main() -> None:
    """Measure and print one line a figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory(prefix="windlass-status-") as folder:
        samples, server = _beside_the_peer(Path(folder), rounds)
        with Boxes(Path(folder, "many"), 64) as many:
            commands = {
                "./inv status, 64 boxes": many.status,
                "./inv status, 64 boxes, --quick": lambda: many.status("--quick"),
            }
            samples |= _interleaved(commands, rounds)
    for name, taken in samples.items():
        print(f"{name:32} {_seconds(taken):6.2f} s {_megabytes(taken):6.0f} MB")
    print(f"{'SkyPilot: its server, idle':32} {'':8} {server:6.0f} MB")
    sys.exit(not _is_under_a_third(samples, server))


def _beside_the_peer(folder: Path, rounds: int) -> tuple[dict[str, list[Sample]], float]:
    with (
        Boxes(folder / "none", 0) as none,
        Boxes(folder / "one", 1) as one,
        Sky(folder / "sky") as sky,
    ):
        cold = {"sky status, no cluster, cold": [sky.cold() for _ in range(COLD_ROUNDS)]}
        commands = {
            "./inv status, no box": none.status,
            "./inv status, 1 box": one.status,
            "./inv status, 1 box, --quick": lambda: one.status("--quick"),
            "sky status, no cluster, warm": sky.status,
            "the same, its clusters alone": lambda: sky.status(*CLUSTERS_ALONE),
        }
        return _interleaved(commands, rounds) | cold, sky.server_megabytes()


class Boxes:
    """A project of its own, with that many running boxes while it is entered."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.environment = PLAIN | {"WINDLASS_PROJECT": str(folder)}
        folder.mkdir()
        name, box = ("box-1", f", count: {count}") if count > 1 else ("box", "")
        (folder / "inventory.yaml").write_text(
            f"default_box: {name}\nboxes:\n  box: {{provider: embedded, disk_gb: 8{box}}}\n"
        )

    def __enter__(self) -> "Boxes":
        try:
            self._inv(*(("launch", "box", "--yes") if self.count else ("cloud.up",)))
            self.status()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._inv("cloud.down")

    def status(self, *words: str) -> Sample:
        """Ask for all boxes, once."""
        return _measured([str(ROOT / "inv"), "status", *words], self.environment)

    def _inv(self, *words: str) -> None:
        subprocess.run(
            [ROOT / "inv", *words], env=self.environment, check=True, capture_output=True
        )


class Sky:
    """A SkyPilot of its own: packages, home, port. Its server ends when it is left."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.bin, home = folder / "venv/bin", folder / "home"
        subprocess.run(
            [self.bin / "pip", "install", "--quiet", SKYPILOT],
            check=True,
            env=PLAIN,
            stderr=subprocess.DEVNULL,
        )
        home.mkdir()
        self.environment = PLAIN | {
            "HOME": str(home),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(_free_port()),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        }

    def __enter__(self) -> "Sky":
        self.status()  # makes its databases
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def cold(self) -> Sample:
        """Ask when no server runs."""
        self._stop()
        return self.status()

    def status(self, *words: str) -> Sample:
        """Ask for all clusters, once."""
        return _measured([str(self.bin / "sky"), "status", *words], self.environment)

    def server_megabytes(self) -> float:
        """What its server and all that this started hold, pages that they share counted once."""
        time.sleep(2)
        table = [(int(words[0]), int(words[1]), words[2]) for words in _processes()]
        family = {
            pid
            for pid, _, args in table
            if args.startswith(str(self.bin)) and "sky.server.server" in args
        }
        for _ in table:
            family |= {pid for pid, parent, _ in table if parent in family}
        return sum(_proportional_kilobytes(pid) for pid in family) / 1024

    def _stop(self) -> None:
        subprocess.run(
            [self.bin / "sky", "api", "stop"],
            env=self.environment,
            check=False,
            capture_output=True,
        )


def _interleaved(commands: dict[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            samples[name].append(command())
    return samples


def _measured(words: list[str], environment: dict[str, str]) -> Sample:
    began = time.perf_counter()
    silent = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    process = subprocess.Popen(words, cwd=ROOT, env=environment, **silent)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def _processes() -> list[list[str]]:
    told = subprocess.run(
        ["ps", "axo", "pid=,ppid=,args="], check=True, capture_output=True, text=True
    ).stdout
    return [line.split(maxsplit=2) for line in told.splitlines()]


def _proportional_kilobytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has just ended
        return 0
    return next(
        (int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _seconds(samples: list[Sample]) -> float:
    return statistics.median(seconds for seconds, _ in samples)


def _megabytes(samples: list[Sample]) -> float:
    return statistics.median(megabytes for _, megabytes in samples)


def _is_under_a_third(samples: dict[str, list[Sample]], server: float) -> bool:
    """Print our part of the peer's time and memory; whether those that the figure means are under a
    third."""
    theirs, lean = samples["sky status, no cluster, warm"], samples["the same, its clusters alone"]
    good = True
    for name in ("./inv status, no box", "./inv status, 1 box"):
        seconds, megabytes = _seconds(samples[name]), _megabytes(samples[name])
        time_part, memory_part = (
            seconds / _seconds(theirs),
            megabytes / (_megabytes(theirs) + server),
        )
        print(
            f"{name} / warm sky status: time {time_part:.2f} (its clusters alone:"
            f" {seconds / _seconds(lean):.2f}), ",
            end="",
        )
        print(
            f"memory {memory_part:.2f} (its client alone: {megabytes / _megabytes(theirs):.2f});"
            " figure: under 0.33 and 0.33"
        )
        good = good and time_part < 1 / 3 and memory_part < 1 / 3
    return good


if __name__ == "__main__":
    main()
