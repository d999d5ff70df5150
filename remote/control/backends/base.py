"""What every backend offers: a place where jobs run. The engine knows no other way to one.

A new backend is a class that inherits `Backend`, and a line in `backends.of_entry`. It must have
the five verbs and `preflight`; the rest has defaults, for a place that neither costs money nor goes
away.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.job.jobs import JobState
from remote.control.backends.display import Display
from remote.control.backends.preflight import Report
from remote.control.backends.resolved import Resolved, StageArtifact
from remote.control.errors import WindlassError

Record = Callable[..., Any]
"""Writes an event into the run's ledger: its name, and its facts by keyword."""


@dataclass(frozen=True)
class JobRequest:
    """A job as the engine asks for it: which stage, and what goes in. How the inputs get to where
    it runs is the backend's business."""

    job_id: str
    stage: str
    run_id: str
    inputs: Mapping[str, Resolved] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    environment: str | None = None
    exclusive: bool = False


class Backend(ABC):
    """A place where the jobs of one run go. Use as a context manager: leaving it ends connections,
    never a job.

    `name` is what the ledger calls it; `files` are the laptop's files that jobs may read, set
    before the first one starts.
    """

    name: str
    files: list[Path]

    @property
    @abstractmethod
    def where(self) -> str:
        """The place for people, in errors."""
        ...

    # ---- the five verbs ----

    @abstractmethod
    def start(
        self,
        job: JobRequest,
        *,
        is_again: bool = False,
        queue: bool = False,
        secrets: Mapping[str, str] | None = None,
    ) -> JobState:
        """Start a job, once for its id: one that runs or has succeeded is only reported; one that
        ended badly goes on from its checkpoints.

        `is_again`: the ledger says that it was started before, perhaps elsewhere. `queue`: it may
        wait in line for the GPU; without it Busy is raised where that is taken. `secrets`:
        variables that its stage finds in its environment and that are stored nowhere else.
        """
        ...

    @abstractmethod
    def state(self, job_id: str, restore: bool = False) -> JobState | None:
        """How a job stands, as the place itself knows; None where it knows no such job. `restore`:
        one that was saved elsewhere is brought back first, with what it made."""
        ...

    @abstractmethod
    def follow(self, job_id: str, log: Path, metrics: Path, display: Display) -> JobState:
        """Follow a job until it ends, its log and measurements copied to those files; returns its
        last state. `display` hears its measurements and warnings. Ctrl-C leaves it running."""
        ...

    @abstractmethod
    def cancel(self, job_id: str, patience_seconds: float) -> JobState:
        """End a job, with so many seconds for a last checkpoint; one that has ended is only
        reported."""
        ...

    @abstractmethod
    def fetch(self, made: StageArtifact, folder: Path) -> Path:
        """Bring what a job made into `folder` on the laptop, verified; nothing is asked where it is
        there already. Raises BoxStopped where the place is gone."""
        ...

    # ---- beside jobs ----

    def ready(self) -> None:
        """Make the place ready, before the ledger says that a job starts there."""

    @abstractmethod
    def preflight(self, recipe: Mapping[str, Any], inputs: Mapping[str, Resolved]) -> Report:
        """Measure, in one question, whether the place can do what `recipe` asks of these
        inputs."""
        ...

    def taken_back(self, error: WindlassError) -> str:
        """Why the place was taken away, where that is behind `error` and the run may go on in
        another one of that name; else empty. Raises BoxStopped where somebody ended it on
        purpose."""
        return ""

    def leave(self, why: str) -> None:
        """Give up a place that was taken away; the next job gets another one."""

    def saved(self, job: JobState) -> JobState:
        """The state of a job that ended badly, once all that it keeps is safe."""
        return job

    def finish(self, action: str, other_run: Callable[[], str | None], is_done: bool) -> None:
        """Do what a playbook's `finally` says. `other_run` tells which other run uses the place;
        `is_done` whether all stages of this one succeeded."""

    def is_another(self, box_id: str) -> bool:
        """Whether the place is known not to be the one of that id any more."""
        return False

    def sweep(self) -> None:
        """After a run has succeeded: drop what its jobs kept for going on."""

    def more_time(self) -> str:
        """How to have the place's clocks give a job more time; empty where it has none."""
        return ""

    def __enter__(self) -> "Backend":
        return self

    def __exit__(self, *exception: object) -> None: ...
