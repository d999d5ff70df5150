"""How a job ended, and what it left: from an exit code, a failure file and an outputs file to a JobState. Standard library only."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract import digest, notices
from remote.contract.exits import Exit
from remote.contract.jobs import Artifact, Cause, JobState, Status
from remote.contract.paths import JobPaths
from remote.contract.spill import ON_ITS_WAY


@dataclass(frozen=True)
class Ending:
    """What the supervisor saw: the stage's return code (negative: a signal), whether it was told to stop, by whom, and the notice that
    the watchdog left, if any."""

    code: int
    was_told: bool
    was_cancelled: bool
    memory_ran_out: bool
    notice: notices.Notice | None = None


def conclude(paths: JobPaths, state: JobState, ending: Ending) -> JobState:
    """The final state of a job."""
    state.exit_code, state.ended_at = ending.code, time.time()
    if ending.code == 0:
        return _succeeded(paths, state)
    if ending.was_cancelled:
        return cancelled(paths, state, _words_of(ending.code))
    starved = ending.code == -signal.SIGKILL and ending.memory_ran_out
    if not starved and (ending.was_told or ending.code in (-signal.SIGTERM, Exit.CANCELLED)):
        return _interrupted(paths, state, ending.notice)
    return _failed(paths, state, ending)


def cancelled(paths: JobPaths, state: JobState, why: str) -> JobState:
    """The state of a job that was ended on request."""
    state.status, state.cause, state.ended_at = Status.CANCELLED, Cause.CANCELLED, time.time()
    state.what, state.why = f"{state.stage} was cancelled", why
    state.remedy, state.kept = "`./inv resume` goes on from the newest checkpoint", kept(paths)
    return state


def kept(paths: JobPaths) -> str:
    """The newest whole checkpoint, in words; empty when there is none."""
    entries = list(paths.checkpoints.iterdir()) if paths.checkpoints.is_dir() else []
    whole = [entry for entry in entries if not entry.name.startswith(".") and not entry.name.endswith((".partial", ".tmp"))]
    if not whole:
        return ""
    newest = max(whole, key=lambda entry: (entry.stat().st_mtime, entry.name))
    return f"checkpoint {newest.name}"


def kept_on_its_way(kept_words: str, place: str) -> str:
    """What is kept while it is being spilled."""
    return f"{kept_words or 'its log'}, {ON_ITS_WAY}{place}"


def kept_in_the_end(kept_words: str, spilled: str, place: str) -> str:
    """What is kept after the spill that put `spilled` into the bucket; empty: it did not."""
    return f"{spilled} in {place}" if spilled else f"{kept_words or 'its log'} on the box; it could not be spilled to {place}"


def _succeeded(paths: JobPaths, state: JobState) -> JobState:
    root = paths.folder.parent.parent
    for name, output in _read(paths.outputs).items():
        if not isinstance(output, dict) or "path" not in output:
            state.values[name] = output["value"] if isinstance(output, dict) and "value" in output else output
            continue
        path = root / output["path"]
        if not path.exists():
            state.status, state.cause, state.why = Status.FAILED, Cause.ARTIFACT, f"{path} is not there"
            state.what = f"{state.stage} named the output `{name}` but did not leave it"
            return state
        state.artifacts[name] = Artifact(os.path.relpath(path, root), digest.size_of(path), digest.of_path(path), path.is_dir())
    state.status = Status.SUCCEEDED
    return state


def _interrupted(paths: JobPaths, state: JobState, notice: notices.Notice | None) -> JobState:
    state.status, state.kept = Status.INTERRUPTED, kept(paths)
    if notice is None:
        state.what = f"{state.stage} was interrupted"
        state.why = "it was told to stop (SIGTERM) by something other than `cancel`, such as the box shutting down"
        state.remedy = "`./inv resume` goes on from the newest checkpoint"
        return state
    state.why = notice.why
    if notice.kind == notices.SPOT:
        state.cause, state.what = Cause.SPOT, f"{state.stage} was interrupted: the cloud takes the spot box back"
        state.remedy = "`./inv resume` goes on on another box"
    else:
        state.cause, state.what = Cause.DEADMAN, f"{state.stage} was interrupted: a clock of the box ran out, and it stops itself"
        state.remedy = "`./inv resume` starts the box again and goes on from the newest checkpoint"
    return state


def _failed(paths: JobPaths, state: JobState, ending: Ending) -> JobState:
    words = _read(paths.failure)
    state.status, state.cause = Status.FAILED, _cause(words, ending)
    state.what = words.get("what") or f"{state.stage} failed"
    state.why = words.get("why") or ("" if words.get("what") else _why(paths, state.cause, ending.code))
    state.remedy = words.get("remedy") or "`./inv logs` shows the whole log"
    state.kept = words.get("kept") or kept(paths)
    return state


def _cause(words: dict[str, Any], ending: Ending) -> Cause:
    if words.get("cause") in {cause.value for cause in Cause}:
        return Cause(words["cause"])
    if ending.code == -signal.SIGKILL and ending.memory_ran_out:
        return Cause.OUT_OF_MEMORY
    return Cause.of_exit(ending.code)


def _why(paths: JobPaths, cause: Cause, code: int) -> str:
    if cause is Cause.OUT_OF_MEMORY:
        return "the kernel killed it because the box's memory ran out"
    return f"{_words_of(code)}; the log ends with: {_end_of(paths.log)}"


def _words_of(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in lines[-3:])


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
