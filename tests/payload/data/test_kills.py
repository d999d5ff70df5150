"""Killed at any moment, `prepare` goes on where it was, and ends in the same bytes."""

import json
import random
import signal
import subprocess
import sys
import time

from remote.contract.files import atomic, digest
from remote.contract.job.jobs import JobSpec
from remote.control.project import CODE


def job_of(folder, dataset):
    spec = JobSpec(folder.name, "prepare", "r", inputs={"dataset": str(dataset)})
    atomic.write_text(folder / "spec.json", spec.to_json())
    return [sys.executable, "-m", "remote.payload.stages.prepare", str(folder)]


def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path, pytestconfig):
    dataset = tmp_path / "data"
    dataset.mkdir()
    for number in range(24):
        rows = [
            {"instruction": f"q {number} {row % 90}", "output": "a" * (row % 70)}
            for row in range(400)
        ]
        lines = [json.dumps(row) for row in rows] + ["{"] * (number % 3)
        (dataset / f"{number:02}.jsonl").write_text("\n".join(lines))
    undisturbed, killed = (tmp_path / name / "jobs" / "job-1" for name in ("one", "two"))
    done = subprocess.run(
        job_of(undisturbed, dataset), cwd=CODE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words, moments = job_of(killed, dataset), random.Random(7)
    survived = 0
    for _ in range(50 if pytestconfig.getoption("--long") else 12):
        with subprocess.Popen(
            words, cwd=CODE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as command:
            time.sleep(moments.uniform(0.05, 1.5))
            survived += command.poll() == 0
            command.send_signal(signal.SIGKILL)
    done = subprocess.run(words, cwd=CODE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert survived < 12
    for name in ("train.jsonl", "val.jsonl", "rejects.jsonl", "manifest.json"):
        ours, theirs = (folder / "artifacts" / name for folder in (undisturbed, killed))
        assert digest.of_file(ours) == digest.of_file(theirs), name
    leftovers = [path.name for path in (killed / "artifacts").iterdir() if "partial" in path.name]
    assert leftovers == []
