"""How a job ended, and what it left: from an exit code, a failure file and an outputs file to a
JobState. Standard library only."""

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts.upload import ON_ITS_WAY
from remote.contract.files import digest, disk, untrusted_json
from remote.contract.job import notices
from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Artifact, Cause, JobState, Status
from remote.contract.job.paths import JobPaths
from remote.contract.logs import job_log
from remote.payload.telemetry import kernel

_LAST_WORDS = (
    (
        Cause.OUT_OF_MEMORY,
        re.compile(
            r"CUDA out of memory|OutOfMemoryError|MemoryError|std::bad_alloc|can't allocate memory"
        ),
    ),
    (Cause.DISK_FULL, re.compile(r"No space left on device|Disk quota exceeded")),
)
"""What the end of a log says about a stage that could not say it itself, such as one whose worker
failed."""

_REMEDIES = {
    Cause.OUT_OF_MEMORY: (
        "use a larger box, or halve `batch` and double `accumulation` in the recipe; `./inv resume`"
        " goes on as it is"
    ),
    Cause.DISK_FULL: "on the box: `df -h`, free space, then `./inv resume`",
    Cause.GPU_FAULT: (
        "`./inv stop`, then `./inv start`: the box mostly comes up on other hardware; then `./inv"
        " resume`"
    ),
}
_KERNEL_LINES = 2
_END_BYTES = 4096
_WORDS_CHARACTERS = 8192
_OUTPUTS_BYTES = 1024 * 1024
"""They become part of the job's state, which has to stay within `untrusted_json.RECORD_BYTES` for
those who read it."""


@dataclass(frozen=True)
class Ending:
    """What the supervisor saw: the stage's return code (negative: a signal), whether it was told to
    stop, by whom, and the notice that the watchdog left, if any.

    `memory_ran_out`: the kernel killed somebody for memory meanwhile; `within`: in the job's own
    control group. `kernel`: what else it said meanwhile; `pid`: the stage's. `disk_is_full`: there
    was no room left under Windlass's folder.
    """

    code: int
    was_told: bool
    was_cancelled: bool
    memory_ran_out: bool
    notice: notices.Notice | None = None
    within: bool = False
    disk_is_full: bool = False
    kernel: tuple[str, ...] = ()
    pid: int = 0

    @property
    def starved(self) -> bool:
        """Whether the kernel ended the stage, or a process of its group, for memory."""
        named = any(
            kernel.classify(line) == kernel.OUT_OF_MEMORY and f"Killed process {self.pid} " in line
            for line in self.kernel
        )
        return named or (self.memory_ran_out and (self.within or self.code == -signal.SIGKILL))


def conclude(paths: JobPaths, state: JobState, ending: Ending) -> JobState:
    """The final state of a job."""
    state.exit_code, state.ended_at = ending.code, time.time()
    if ending.code == 0:
        return _succeeded(paths, state)
    if ending.was_cancelled:
        return cancelled(paths, state, _words_of(ending.code))
    if not ending.starved and (ending.was_told or ending.code in (-signal.SIGTERM, Exit.CANCELLED)):
        return _interrupted(paths, state, ending.notice)
    return _failed(paths, state, ending)


def unbegun(
    paths: JobPaths, state: JobState, was_cancelled: bool, notice: notices.Notice | None
) -> JobState:
    """The final state of a job that was told to stop while it waited in line."""
    state.place, state.ended_at = 0, time.time()
    if was_cancelled:
        return cancelled(paths, state, "it waited in line and had not begun")
    return _interrupted(paths, state, notice)


def could_not_run(state: JobState, error: OSError) -> JobState:
    """The final state of a job for which the box's system refused what every job needs, such as a
    place for its state."""
    state.status, state.ended_at, state.why = Status.FAILED, time.time(), str(error)
    state.cause = Cause.DISK_FULL if disk.is_full(error) else Cause.CODE
    state.what, state.place = f"{state.stage} could not be started", 0
    state.remedy = _REMEDIES.get(state.cause, "fix that on the box, then `./inv resume`")
    return state


def cancelled(paths: JobPaths, state: JobState, why: str) -> JobState:
    """The state of a job that was ended on request."""
    state.status, state.cause, state.ended_at = Status.CANCELLED, Cause.CANCELLED, time.time()
    state.what, state.why = f"{state.stage} was cancelled", why
    state.remedy, state.kept = "`./inv resume` goes on from the newest checkpoint", kept(paths)
    return state


def kept(paths: JobPaths) -> str:
    """The newest whole checkpoint, in words; empty when there is none."""
    try:
        entries = list(paths.checkpoints.iterdir())
    except OSError:  # not there, or no folder that may be read
        return ""
    whole = [
        entry
        for entry in entries
        if not entry.name.startswith(".") and not entry.name.endswith((".partial", ".tmp"))
    ]
    if not whole:
        return ""
    newest = max(whole, key=lambda entry: (_made_at(entry), entry.name))
    return f"checkpoint {newest.name}"


def _made_at(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except (
        OSError
    ):  # a stage that nobody supervises any more saves still, and clears older ones away
        return 0.0


def kept_on_its_way(kept_words: str, place: str) -> str:
    """What is kept while it is being spilled."""
    return f"{kept_words or 'its log'}, {ON_ITS_WAY}{place}"


def kept_in_the_end(kept_words: str, spilled: str, place: str) -> str:
    """What is kept after the spill that put `spilled` into the bucket; empty: it did not."""
    return (
        f"{spilled} in {place}"
        if spilled
        else f"{kept_words or 'its log'} on the box; it could not be spilled to {place}"
    )


def _succeeded(paths: JobPaths, state: JobState) -> JobState:
    root = paths.folder.parent.parent
    for name, output in _outputs(paths.outputs).items():
        if not isinstance(output, dict) or "path" not in output:
            state.values[name] = (
                output["value"] if isinstance(output, dict) and "value" in output else output
            )
            continue
        path = root / output["path"]
        if not path.exists():
            state.status, state.cause, state.why = (
                Status.FAILED,
                Cause.ARTIFACT,
                f"{path} is not there",
            )
            state.what = f"{state.stage} named the output `{name}` but did not leave it"
            return state
        state.artifacts[name] = Artifact(
            os.path.relpath(path, root), digest.size_of(path), digest.of_path(path), path.is_dir()
        )
    state.status = Status.SUCCEEDED
    return state


def _interrupted(paths: JobPaths, state: JobState, notice: notices.Notice | None) -> JobState:
    state.status, state.kept = Status.INTERRUPTED, kept(paths)
    if notice is None:
        state.what = f"{state.stage} was interrupted"
        state.why = (
            "it was told to stop (SIGTERM) by something other than `cancel`, such as the box"
            " shutting down"
        )
        state.remedy = "`./inv resume` goes on from the newest checkpoint"
        return state
    state.why = notice.why
    if notice.kind == notices.SPOT:
        state.cause, state.what = (
            Cause.SPOT,
            f"{state.stage} was interrupted: the cloud takes the spot box back",
        )
        state.remedy = "`./inv resume` goes on on another box"
    else:
        state.cause, state.what = (
            Cause.DEADMAN,
            f"{state.stage} was interrupted: a clock of the box ran out, and it stops itself",
        )
        state.remedy = "`./inv resume` starts the box again and goes on from the newest checkpoint"
    return state


def _failed(paths: JobPaths, state: JobState, ending: Ending) -> JobState:
    words = _words_in(paths.failure)
    state.status, state.cause = Status.FAILED, _cause(paths, words, ending)
    state.what = words.get("what") or f"{state.stage} failed"
    state.why = words.get("why") or ("" if words.get("what") else _why(paths, state.cause, ending))
    if said := _said_by_kernel(ending):
        state.why = f"{state.why}; meanwhile the kernel said: {said}".lstrip("; ")
    state.remedy = words.get("remedy") or _REMEDIES.get(
        state.cause, "`./inv logs` shows the whole log"
    )
    state.kept = words.get("kept") or kept(paths)
    return state


def _cause(paths: JobPaths, words: dict[str, str], ending: Ending) -> Cause:
    if words.get("cause") in {cause.value for cause in Cause}:
        return Cause(words["cause"])
    if any(kernel.blames_gpu(line) for line in ending.kernel):
        return Cause.GPU_FAULT
    if ending.starved:
        return Cause.OUT_OF_MEMORY
    told = Cause.of_exit(ending.code)
    if told is Cause.CODE and ending.disk_is_full:
        return Cause.DISK_FULL
    return _cause_in(_end_of(paths.log, lines=None)) if told is Cause.CODE else told


def _cause_in(last_words: str) -> Cause:
    return next((cause for cause, words in _LAST_WORDS if words.search(last_words)), Cause.CODE)


def _why(paths: JobPaths, cause: Cause, ending: Ending) -> str:
    if cause is Cause.OUT_OF_MEMORY and ending.starved:
        return (
            f"the kernel killed {'it' if ending.code == -signal.SIGKILL else 'a process of it'}"
            " because the box's memory ran out"
        )
    return f"{_words_of(ending.code)}; the log ends with: {_end_of(paths.log)}"


def _said_by_kernel(ending: Ending) -> str:
    """The lines that may have to do with it: those of the kinds that an on-call wants to see, the
    newest."""
    return " | ".join([line for line in ending.kernel if kernel.classify(line)][-_KERNEL_LINES:])


def _words_of(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    names = {each.value: each.name for each in signal.Signals}
    return f"killed by {names.get(-code, f'signal {-code}')}"


def _end_of(log: Path, lines: int | None = 3) -> str:
    """The last lines of a log that hold anything, on one; all of its last bytes where `lines` is
    None."""
    found = job_log.tail(log.parent, _END_BYTES).decode(errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in (found if lines is None else found[-lines:]))


def _outputs(path: Path) -> dict[str, Any]:
    """What the stage says that it made. Raises OSError or ValueError for what cannot be read: it
    may not have made it."""
    try:
        return untrusted_json.read_object(path, max_bytes=_OUTPUTS_BYTES)
    except FileNotFoundError:
        return {}


def _words_in(path: Path) -> dict[str, str]:
    """The stage's own account of its failure, each word of it a text of bounded length; empty where
    there is none to be read."""
    try:
        told = untrusted_json.read_object(path, max_bytes=untrusted_json.RECORD_BYTES)
    except (OSError, ValueError):
        return {}
    return {name: text[:_WORDS_CHARACTERS] for name, text in told.items() if isinstance(text, str)}
