"""The Python environment of the torch stages: whole, of the locked versions, and able to compute.
Standard library only.

What needs torch runs in one subprocess, `probe.py`, by the environment's own interpreter: it prints
a line as it begins each group and a line for each check, so that a crash or a hang leaves what came
before and names what it was at.
"""

import json
import os
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.job import locks
from remote.contract.job.checks import Check, Verdict
from remote.contract.job.paths import BoxPaths
from remote.payload import environment
from remote.payload.preflight import model
from remote.payload.preflight.request import Request
from remote.payload.quiet import surroundings

LOCKED = ("torch", "transformers", "peft", "bitsandbytes")


class Probe:
    """The subprocess: starts at once, so that the other checks run meanwhile; `checks` waits for
    its end."""

    def __init__(self, request: Request) -> None:
        self._request = request
        requirements = environment.requirements_file(request.requirements)
        self._interpreter = environment.find(requirements, BoxPaths.of_release().environments)
        self._process = self._start(requirements) if self._interpreter else None

    def checks(self) -> list[Check]:
        """What the probe found, and a failing check where it did not come to its end."""
        if self._process is None:
            return [
                Check(
                    "environment",
                    "none that is whole",
                    "a Python environment",
                    Verdict.FAIL,
                    "`./inv deploy` makes it",
                )
            ]
        try:
            output, complaint = self._process.communicate(timeout=self._request.probe_seconds)
            ended = (
                ""
                if self._process.returncode == 0
                else f"ended with {_name(self._process.returncode)}: {_last_line(complaint)}"
            )
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            output, _ = self._process.communicate()
            ended = f"gave no answer in {self._request.probe_seconds:g} s"
        found, at = _read(output)
        return [*found, self._broken(at, ended)] if ended else found

    def _start(self, requirements: Path) -> "subprocess.Popen[str]":
        base = self._request.path("base")
        asked = {
            **asdict(self._request),
            "inputs": {name: str(self._request.path(name)) for name in self._request.inputs},
            "locked": locked(requirements),
            "embedding_rows": model.embedding_rows(base) if base else None,
        }
        process = subprocess.Popen(
            [str(self._interpreter), "-m", "remote.payload.preflight.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**surroundings(), "TORCHDYNAMO_DISABLE": "1"},
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once: its exit code says so
        return process

    def _broken(self, at: str, how: str) -> Check:
        assert self._interpreter is not None
        folder = self._interpreter.parents[2]
        remedy = (
            f"on the box: `{self._interpreter} -m pip check`; or `rm -r {folder}`, then `./inv"
            " deploy`"
        )
        return Check(
            at or "environment",
            f"the probe {how}" if at else f"{self._interpreter} {how}",
            "an environment that computes",
            Verdict.FAIL,
            remedy,
        )


def locked(requirements: Path) -> dict[str, str]:
    """The locked versions of the packages that training stands on."""
    pins = locks.versions(locks.lock_of(requirements, environment.flavour()).read_text())
    return {name: pins[name] for name in LOCKED if name in pins}


def _read(output: str) -> tuple[list[Check], str]:
    """The checks in the probe's output, and the group it was at when the output ends; empty after
    its last."""
    found, at = [], ""
    for line in output.splitlines():
        frame = _frame(line)
        if "check" in frame:
            found.append(Check.from_json(frame["check"]))
        at = frame.get("begin", at)
    return found, at


def _frame(line: str) -> dict[str, Any]:
    try:
        return untrusted_json.loads_object(line)
    except ValueError:
        return {}


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no word"
