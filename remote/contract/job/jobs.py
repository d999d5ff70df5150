"""A job as data: what to do (`JobSpec`) and how it stands (`JobState`). Plain JSON on the wire and
on disk."""

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from remote.contract.files import listing, typed, untrusted_json
from remote.contract.job.exits import Exit

MOST_ARTIFACTS = 1000
_LONGEST_ID = 250
LATEST = 253402300799.0
"""The last second of the year 9999: what comes after it no calendar knows."""

_LARGEST_PID = 2**31 - 1


class Status(str, Enum):
    """Where a job stands. The first two can still change; LOST is what an observer calls RUNNING
    without a process."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"
    LOST = "LOST"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self not in (Status.PENDING, Status.RUNNING)


class Cause(str, Enum):
    """Why a job did not succeed."""

    OUT_OF_MEMORY = "oom"
    NOT_A_NUMBER = "nan"
    DISK_FULL = "disk_full"
    GPU_FAULT = "xid"
    SPOT = "spot"
    DEADMAN = "deadman"
    CANCELLED = "cancelled"
    LOST = "lost"
    DATA = "data"
    MODEL_MISSING = "model_missing"
    ARTIFACT = "artifact"
    CONFIG = "config"
    GATE = "gate"
    CODE = "code"

    @classmethod
    def _missing_(cls, value: object) -> "Cause":
        """One that only a newer Windlass on the box knows: the words beside it tell."""
        return cls.CODE

    @property
    def exit_code(self) -> Exit:
        """The exit code that stands for this cause."""
        return _EXIT_OF_CAUSE[self]

    @classmethod
    def of_exit(cls, code: int) -> "Cause":
        """The cause behind a stage's exit code; `CODE` for any that is not ours."""
        return next(
            (cause for cause, exit_code in _EXIT_OF_CAUSE.items() if exit_code == code), cls.CODE
        )


_EXIT_OF_CAUSE = {
    Cause.OUT_OF_MEMORY: Exit.OUT_OF_MEMORY,
    Cause.NOT_A_NUMBER: Exit.NOT_A_NUMBER,
    Cause.DISK_FULL: Exit.DISK_FULL,
    Cause.GPU_FAULT: Exit.GPU_FAULT,
    Cause.SPOT: Exit.SPOT,
    Cause.DEADMAN: Exit.DEADMAN,
    Cause.CANCELLED: Exit.CANCELLED,
    Cause.LOST: Exit.LOST,
    Cause.DATA: Exit.DATA,
    Cause.MODEL_MISSING: Exit.MODEL_MISSING,
    Cause.ARTIFACT: Exit.ARTIFACT,
    Cause.CONFIG: Exit.CONFIG,
    Cause.GATE: Exit.GATE,
    Cause.CODE: Exit.JOB_FAILED,
}


@dataclass(frozen=True)
class JobSpec:
    """One stage to run on a box.

    `inputs` maps names to paths on the box, relative to the box's root
    (`jobs/<id>/artifacts/adapter`) or absolute; `options` holds the plain values of `with:`;
    `recipe` is the composed recipe, or None; `release` is the digest of the release whose code
    runs; `environment` names the requirements file of the Python environment (`requirements.txt`),
    or is None for the system's Python. Of the `exclusive` jobs of a box one runs at a time.
    """

    job_id: str
    stage: str
    release: str
    run_id: str = ""
    environment: str | None = "requirements.txt"
    inputs: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    exclusive: bool = False

    def to_json(self) -> str:
        """The spec as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "JobSpec":
        """Read a spec; raises ValueError or TypeError when it is not one. Unknown keys of a newer
        Windlass are left out."""
        return typed.read(
            cls, untrusted_json.loads_object(text, max_bytes=untrusted_json.RECORD_BYTES)
        )

    @classmethod
    def read(cls, path: Path) -> "JobSpec":
        """Read a specification file. Raises OSError, ValueError or TypeError."""
        return typed.read(
            cls, untrusted_json.read_object(path, max_bytes=untrusted_json.RECORD_BYTES)
        )


@dataclass(frozen=True)
class Artifact:
    """A file or folder that a stage made. `path` is relative to the box's root; `sha256` per
    `remote.contract.files.digest`."""

    path: str
    size: int
    sha256: str
    is_folder: bool = False

    def check(self) -> None:
        """Raise ValueError for one that cannot be: its digest and the last part of its path become
        the names of files elsewhere.

        A stage may leave an artifact outside of the box's root: its path begins with `..` then.
        """
        listing.check_sha256(self.sha256)
        listing.check_size(self.size)
        within = self.path
        while within.startswith("../"):
            within = within[3:]
        listing.check_name(within)


@dataclass
class JobState:
    """How a job stands. Times are seconds since the epoch, UTC; start ticks are field 22 of
    /proc/PID/stat.

    `boot_id` with (`pid`, `start_ticks`) names a process for good: a reused pid is never mistaken
    for it. A PENDING job that waits in line has one too, and its `place`: so many jobs are before
    it, the one that runs counted. `environment` is the SHA-256 of the lock that the stage's Python
    environment was installed from; empty for the system's Python.
    """

    job_id: str
    stage: str
    status: Status = Status.PENDING
    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""
    queued_at: float = 0.0
    place: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    exit_code: int | None = None
    cause: Cause | None = None
    what: str = ""
    why: str = ""
    remedy: str = ""
    kept: str = ""
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    environment: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The state as plain values, to be put into JSON."""
        cause = None if self.cause is None else self.cause.value
        return {**asdict(self), "status": self.status.value, "cause": cause}

    def to_json(self) -> str:
        """The state as one JSON object."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "JobState":
        """Read a state; raises ValueError, KeyError or TypeError when it is not one. Unknown keys
        of a newer Windlass are left out."""
        return cls.of(untrusted_json.loads_object(text, max_bytes=untrusted_json.RECORD_BYTES))

    @classmethod
    def read(cls, path: Path) -> "JobState":
        """Read a state file. Raises OSError, ValueError, KeyError or TypeError."""
        return cls.of(untrusted_json.read_object(path, max_bytes=untrusted_json.RECORD_BYTES))

    @classmethod
    def of(cls, told: dict[str, Any]) -> "JobState":
        """The state out of its JSON object. Raises ValueError, KeyError or TypeError."""
        if "status" not in told:
            raise KeyError(
                "status"
            )  # it has a default, for who makes one; what was written must say it
        state = typed.read(cls, {**told, "cause": told.get("cause") or None})
        if (
            "/" in state.job_id
            or "\0" in state.job_id
            or state.job_id in (".", "..")
            or len(state.job_id) > _LONGEST_ID
        ):
            raise ValueError(f"{state.job_id[:80]!r} names no job")  # it becomes the name of files
        if not 0 <= state.pid <= _LARGEST_PID or state.start_ticks < 0:
            raise ValueError(f"{state.pid} is no process")
        if not all(
            0 <= moment <= LATEST for moment in (state.queued_at, state.started_at, state.ended_at)
        ):
            raise ValueError("a time that is on no calendar")
        state.check_artifacts()
        return state

    def check_artifacts(self) -> None:
        """Raise ValueError for more artifacts than a job has, or for one that can be none."""
        if len(self.artifacts) > MOST_ARTIFACTS:
            raise ValueError(
                f"{len(self.artifacts):,} artifacts; at most {MOST_ARTIFACTS:,} are taken"
            )
        for artifact in self.artifacts.values():
            artifact.check()
