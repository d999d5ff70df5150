"""The line for a box's GPU: one exclusive job has it, the others wait, first come, first served.
Linux, standard library only.

```
<root>/queue/000000000007.JOB-ID   a ticket: the process that stands in line for the job, its stage
and run; the lowest number
                                   has the GPU
```
A ticket holds good while that process lives, or the job's stage: one whose supervisor was killed
may still be saving. Others are cleared away by whoever looks, so nothing that dies can hold up the
line, and a reboot empties it.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remote.contract.files import untrusted_json
from remote.contract.job.jobs import JobSpec
from remote.contract.job.paths import BoxPaths
from remote.payload.identity import Identity

STAGE = "stage.json"
"""In a job's folder: the process that is its stage."""


@dataclass(frozen=True)
class Ticket:
    """A job's place. `is_orphan`: its supervisor is gone, and what is left of its stage ends soon.
    `run`: what a command is given to mean it, the job's own id where it belongs to no run."""

    path: Path
    stage: str
    run: str
    is_orphan: bool

    @property
    def number(self) -> int:
        """The lower, the sooner."""
        return int(self.path.name.partition(".")[0])

    @property
    def job_id(self) -> str:
        """Whose it is."""
        return self.path.name.partition(".")[2]


class Taken(Exception):
    """Somebody else has the GPU, or waits for it: `line`, the one whose turn it is first."""

    def __init__(self, line: list[Ticket]) -> None:
        super().__init__(f"{len(line)} in line")
        self.line = line


def enter(box: BoxPaths, spec: JobSpec, may_wait: bool, takes_over: bool = False) -> None:
    """Stand in line for the job: at its end, or at the job's place where it has one. Raises Taken
    where that is to wait and it may not.

    A place whose holder lives is left to it: the job's supervisor may be up already. The supervisor
    itself `takes_over`.
    """
    with _locked(box) as folder:
        line = _line(box, folder)
        mine = next((ticket for ticket in line if ticket.job_id == spec.job_id), None)
        others = [ticket for ticket in line if not ticket.is_orphan]
        if mine is None and others and not may_wait:
            raise Taken(others)
        if mine and not mine.is_orphan and not takes_over:
            return
        number = mine.number if mine else _next_number(folder)
        ticket = folder / f"{number:012}.{spec.job_id}"
        Identity.of(os.getpid()).write(ticket, stage=spec.stage, run=spec.run_id or spec.job_id)


def ahead(box: BoxPaths, job_id: str) -> list[Ticket]:
    """Who is before the job, the one that has the GPU first; empty when it is the job's own
    turn."""
    with _locked(box) as folder:
        line = _line(box, folder)
    mine = next((ticket.number for ticket in line if ticket.job_id == job_id), float("inf"))
    return [ticket for ticket in line if ticket.number < mine]


def leave(box: BoxPaths, job_id: str) -> None:
    """Give up the place, or the GPU, where it is this process that holds it: who started a job may
    give up waiting for its supervisor after that has taken the place over."""
    me = Identity.of(os.getpid())
    with _locked(box) as folder:
        for path in _tickets(folder):
            if path.name.partition(".")[2] == job_id and Identity.read(path) == me:
                path.unlink(missing_ok=True)


def kill_orphan(box: BoxPaths, ticket: Ticket) -> None:
    """End what is left of a job without a supervisor."""
    if stage := Identity.read(box.job(ticket.job_id).folder / STAGE):
        stage.kill_group()


def _line(box: BoxPaths, folder: Path) -> list[Ticket]:
    found = (_ticket(box, path) for path in _tickets(folder))
    return [ticket for ticket in found if ticket is not None]


def _tickets(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.glob("[0-9]*.*") if path.name.partition(".")[0].isdecimal()
    )


def _ticket(box: BoxPaths, path: Path) -> Ticket | None:
    """The ticket if it holds good; one that does not is cleared away, with workers that a killed
    job left behind."""
    holder = Identity.read(path)
    is_orphan = holder is None or not holder.lives()
    ticket = Ticket(path, *_names(path), is_orphan)
    stage = Identity.read(box.job(ticket.job_id).folder / STAGE) if is_orphan else None
    if not is_orphan or (stage is not None and stage.lives()):
        return ticket
    kill_orphan(box, ticket)
    path.unlink(missing_ok=True)
    return None


def _names(path: Path) -> tuple[str, str]:
    try:
        told = untrusted_json.read_object(path)
        return str(told["stage"]), str(told["run"])
    except (OSError, ValueError, TypeError, KeyError):
        return "a job", path.name.partition(".")[2]


def _next_number(folder: Path) -> int:
    return max((int(path.name.partition(".")[0]) for path in _tickets(folder)), default=0) + 1


@contextlib.contextmanager
def _locked(box: BoxPaths) -> Iterator[Path]:
    folder = box.root / "queue"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
