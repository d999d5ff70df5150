"""How much `./inv` adds to Invoke: python benchmarks/cli.py [ROUNDS]

Peer: a bare `invoke --list` with as many empty tasks, same interpreter, runs interleaved. The
commands that ask a box are typed against a static box, an sshd on loopback that holds this
checkout's release and the job of one run; `ssh BOX true` beside them is what any connection to it
takes. Prints medians and ratios; ends with 1 when a figure is missed. Linux, with an sshd.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rope.ground import Ground, near

from tests.integration import boxes

PYTHON = ROOT / ".venv" / "bin" / "python"
ROUNDS = 15
LIST_LIMIT, BOX_LIMIT, WRAPPER_SECONDS = 1.3, 2.5, 0.15
# As a person's shell has it: with bytecode kept, and nobody's cloud.
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "AWS_", "WINDLASS_"))
}


def main() -> None:
    """Measure and print one line a figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    subprocess.run([ROOT / "inv", "--version"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="windlass-cli-") as folder:
        bare, project = Path(folder, "bare"), Path(folder, "project")
        _write_bare_tasks(bare)
        with near(Path(folder, "ground")) as ground:
            os.environ["WINDLASS_PROJECT"] = str(ground.inventory(project))
            run_id = _deployed(ground)
            typed = {
                name: [ROOT / "inv", *name.split()]
                for name in ("deploy box", "ps box", f"logs {run_id}", "status box")
            }
            commands = {
                "bare invoke --list": ([PYTHON, "-m", "invoke", "--list"], bare),
                "invoke --list, our tasks": ([PYTHON, "-m", "invoke", "--list"], ROOT),
                "./inv --list": ([ROOT / "inv", "--list"], ROOT),
                "ssh box true": ([*ground.ssh, "box", "true"], ROOT),
                **{f"./inv {name.split()[0]}": (words, ROOT) for name, words in typed.items()},
            }
            samples: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
            for _ in range(rounds):
                for name, (words, place) in commands.items():
                    samples[name].append(_measured(words, place))
    sys.exit(not _shown(samples))


def _write_bare_tasks(folder: Path) -> None:
    folder.mkdir()
    count = len(
        subprocess.run(
            [ROOT / "inv", "--list"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
    )
    tasks = "\n".join(
        f'@task\ndef task_{number}(c):\n    """Nothing."""\n' for number in range(count)
    )
    (folder / "tasks.py").write_text(f"from invoke import task\n\n{tasks}")


def _deployed(ground: Ground) -> str:
    """Have the box hold this checkout's release and a finished job; the id of its run, of which
    this laptop knows the beginning only."""
    from remote.control.jobs.start import start
    from remote.control.jobs.state import read_state
    from remote.control.runs.ledger import Ledger

    run, job_id = Ledger.create("bench"), "job-1"
    with ground.transport() as transport:
        digest = boxes.deploy_stages(transport, boxes.code_tree(ground.folder / "stages"))
        start(transport, "windlass", boxes.spec(digest, "count", job_id, run.run_id, lines=20))
        boxes.await_true(lambda: read_state(transport, "windlass", job_id).status.is_final)
    plan = {"name": "bench", "stages": [{"label": "count", "uses": "train"}], "finally_": []}
    run.append("run_created", plan=plan, box="box", facts={})
    run.append("stage_started", label="count", key="bench", job_id=job_id, box="box")
    ground.mark(ROOT, "windlass")
    subprocess.run(
        [ROOT / "inv", "deploy", "box"], env=_environment(), check=True, stdout=subprocess.DEVNULL
    )
    return run.run_id


def _environment() -> dict[str, str]:
    return PLAIN | {"WINDLASS_PROJECT": os.environ["WINDLASS_PROJECT"]}


def _measured(words: list[object], place: object) -> tuple[float, float]:
    """Seconds from start to end, and of the processors."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [str(word) for word in words],
        cwd=str(place),
        env=_environment(),
        check=True,
        capture_output=True,
    )
    taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _shown(samples: dict[str, list[tuple[float, float]]]) -> bool:
    """Print the medians and what they are to a bare list; whether all figures are reached."""
    medians = {
        name: statistics.median(seconds for seconds, _ in taken) for name, taken in samples.items()
    }
    processor = {
        name: statistics.median(seconds for _, seconds in taken) for name, taken in samples.items()
    }
    bare = medians["bare invoke --list"]
    limits = {name: BOX_LIMIT for name in medians if name.startswith("./inv")} | {
        "./inv --list": LIST_LIMIT
    }
    for name, median in medians.items():
        goal = f"  (figure: at most {limits[name]})" if name in limits else ""
        print(
            f"{name:26} {median * 1000:6.0f} ms, {processor[name] * 1000:4.0f} of the processor,"
            f" {median / bare:5.2f} x bare{goal}"
        )
    added = medians["./inv --list"] - medians["invoke --list, our tasks"]
    print(
        f"the wrapper adds           {added * 1000:6.0f} ms (figure: below"
        f" {WRAPPER_SECONDS * 1000:.0f})"
    )
    return added <= WRAPPER_SECONDS and all(
        medians[name] <= limit * bare for name, limit in limits.items()
    )


if __name__ == "__main__":
    main()
