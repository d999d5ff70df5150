"""Runs llama.cpp's converter on a merged model: Hugging Face files in, one float16 GGUF out.
Standard library only.

A process of its own, so that its memory goes back, and that what it prints and how it exits stay
its own.
"""

import os
import subprocess
import sys
from pathlib import Path

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed


def to_f16(source: Path, merged: Path, target: Path, name: str) -> None:
    """Convert the folder `merged` by the converter in `source`; `target` appears whole or not at
    all. Raises StageFailed.

    `name` is what the file calls its model (`general.name`).
    """
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    command = [
        sys.executable,
        str(source / "convert_hf_to_gguf.py"),
        str(merged),
        "--outfile",
        str(partial),
        "--outtype",
        "f16",
    ]
    code, output = run([*command, "--model-name", name], _environment())
    if code != 0 or not partial.is_file():
        partial.unlink(missing_ok=True)
        print(output)
        last = " | ".join(output.strip().splitlines()[-3:])
        raise StageFailed(
            _cause(code, output),
            "llama.cpp's converter gave up",
            last,
            "its whole output is in the job's log",
            str(merged),
        )
    settle(partial, target)


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a program to its end: its exit status, and what it printed on both streams."""
    both, nothing = subprocess.STDOUT, subprocess.DEVNULL
    ended = subprocess.run(
        command, env=environment, stdin=nothing, stdout=subprocess.PIPE, stderr=both, check=False
    )
    return ended.returncode, ended.stdout.decode(errors="replace")


def settle(partial: Path, target: Path) -> None:
    """Give a finished file its name, once it is on the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    atomic.sync_folder(target.parent)


def _environment() -> dict[str, str]:
    # Converting is work for the CPU, and nothing may be asked of the hub.
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
    }


def _cause(code: int, output: str) -> Cause:
    if "No space left on device" in output:
        return Cause.DISK_FULL
    return Cause.OUT_OF_MEMORY if code == -9 or "MemoryError" in output else Cause.CODE
