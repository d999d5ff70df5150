"""What a word on the command line means: which run, box, group or job. Every command asks here.

A word is, in this order: the id of a run of this laptop; a box or group of inventory.yaml; the
beginning or end of the id of a run of this laptop; a run or job that the boxes know, by its id or
the beginning or end of it; the same of what lies in the bucket.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from remote.contract.job.jobs import Status
from remote.control.errors import BoxStopped, CloudError, NotFound
from remote.control.jobs import table
from remote.control.output.suggestion import suggestion
from remote.control.progress import Say, warning
from remote.control.project import runs_folder
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.state import RunState, StageState, standing, state_of

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.cloud.bucket import Bucket
    from remote.control.config.inventory import BoxEntry, Inventory
    from remote.control.jobs.state import BoxJob

Choose = Callable[[str, Sequence[str]], int | None]
"""Asks somebody which of these runs a verb means; None where nobody chose."""

ALL_JOBS = "`./inv ps --all` lists the jobs of all boxes"

_SHOWN = 5
_LINK_SECONDS = 3.0
_ASKED = ("running", "unknown")
"""A box in another state is asked nothing, and that says why it tells of no job."""


class NoSuchStage(NotFound):
    """There are jobs, but none of the stage that was asked for."""


@dataclass(frozen=True)
class OfRun:
    """A job of a run of this laptop."""

    ledger: Ledger
    job: StageState

    @property
    def log(self) -> Path:
        """This laptop's exact copy of the log, as far as it was followed."""
        return self.ledger.folder / "logs" / f"{self.job.label}.log"

    @property
    def metrics(self) -> Path:
        """This laptop's copy of its measurements."""
        return self.ledger.folder / "metrics" / f"{self.job.label}.jsonl"

    @property
    def is_whole_here(self) -> bool:
        """Whether the copy has all of it: whether the box still runs then matters to nobody."""
        return self.log.exists() and self.job.status in (Status.SUCCEEDED, Status.FAILED)


@dataclass(frozen=True)
class OnBox:
    """Jobs of a box by their ids; the box chooses where none are named."""

    entry: "BoxEntry"
    jobs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class InBucket:
    """A job that its box has put into the bucket, known by nothing else."""

    bucket: "Bucket"
    job_id: str


Source = OfRun | OnBox | InBucket
"""Where logs lie."""


@dataclass(frozen=True)
class JobTarget:
    """A job on a box that runs; `status` is the last that is known here."""

    box: "Box"
    job_id: str
    run_id: str
    label: str
    status: Status

    @property
    def name(self) -> str:
        """What a command is given to mean this job: its run, or its own id where it has none."""
        return self.run_id or self.job_id

    @property
    def title(self) -> str:
        """The job for people, without its run's id."""
        return self.job_id.removeprefix(f"{self.run_id}-")


# ---- runs of this laptop ----


def nobody(verb: str, rows: Sequence[str]) -> None:
    """There is nobody to ask."""


def find_run(word: str) -> Ledger:
    """The run of that id, or the only one whose id begins or ends so; without a word the newest.

    Raises NotFound.
    """
    runs = all_runs()
    if not runs:
        remedy = "./inv demo, or ./inv run PLAYBOOK"
        raise NotFound("there are no runs yet", where=str(runs_folder()), remedy=remedy)
    exact = [run for run in runs if run.run_id == word]
    matching = exact or [run for run in runs if _matches(run.run_id, word)] if word else runs[:1]
    if len(matching) > 1:
        raise _several_runs(word, [run.run_id for run in matching])
    if not matching:
        names = [name for run in runs for name in (run.run_id, run.run_id.rsplit("-", 1)[-1])]
        raise NotFound(
            f"no run `{word}`",
            where=str(runs_folder()),
            why=f"there is {', '.join(run.run_id for run in runs[:_SHOWN])}",
            remedy=f"{suggestion(word, names)} `./inv runs` lists them".lstrip(),
        )
    return matching[0]


def run_of(
    word: str,
    verb: str,
    fits: Callable[[RunState], bool] = lambda state: True,
    to: Literal["show", "follow", "drive"] = "show",
    choose: Choose = nobody,
) -> Ledger:
    """The run that a command means. Without a word, of those that `fits`: the one that a command
    drives, else the one whose job may go on, else `to` show the newest, and to follow the only
    one; to drive, none that another command drives. Where several are left, `choose` says which.

    Raises NotFound where there is none, or several and nobody chose.
    """
    if word:
        return find_run(word)
    fitting = {run: state for run in all_runs() if fits(state := state_of(run))}
    driven = [run for run in fitting if run.is_driven()]
    free = [run for run in fitting if run not in driven]
    alive = [run for run in free if fitting[run].is_alive]
    others = free[:1] if to == "show" else free
    meant = alive or free or driven if to == "drive" else driven or alive or others
    return _only(meant, verb, choose) if meant else find_run("")


def _only(runs: list[Ledger], verb: str, choose: Choose) -> Ledger:
    if len(runs) == 1:
        return runs[0]
    shown = runs[:_SHOWN]
    rows = [f"{run.run_id}  {standing(run, state_of(run))}" for run in shown]
    if (number := choose(verb, rows)) is not None:
        return shown[number]
    left = len(runs) - len(shown)
    raise NotFound(
        f"{len(runs)} runs may be meant by `./inv {verb}`",
        where=str(runs_folder()),
        why="; ".join(rows) + (f"; and {left} more, which `./inv runs` lists" if left else ""),
        remedy=" or ".join(f"`./inv {verb} {run.run_id}`" for run in shown),
    )


def _job_of_run(ledger: Ledger, label: str = "", lacks: str = "job") -> OfRun:
    """The job of a run's stage, else its newest. Raises NotFound, also for one that never began,
    because the box worked for another job: there is no `lacks` of it."""
    state = state_of(ledger)
    job = state.stages.get(label) if label else state.latest_job()
    if not job or not job.job_id:
        known = [stage.label for stage in state.stages.values() if stage.job_id]
        stage = f"no job of a stage `{label}`" if label else "no job yet"
        why = f"stages with a job: {', '.join(known) or 'none yet'}"
        logs = f"`./inv logs {ledger.run_id} --stage {known[-1]}`" if known else ""
        remedy = logs or f"`./inv resume {ledger.run_id}`"
        raise NotFound(f"run {ledger.run_id} has {stage}", why=why, remedy=remedy)
    if job.was_refused:
        raise NotFound(
            f"{job.label} of run {ledger.run_id} has no {lacks}: it never began",
            where=f"box {job.box}",
            why=str(job.failure.get("what", "")),
            remedy=(
                f"`./inv resume {ledger.run_id} --queue` starts it as soon as the box is free; "
                f"`./inv logs {job.box} -f` shows the other"
            ),
        )
    return OfRun(ledger, job)


# ---- boxes ----


def boxes_of(inventory: "Inventory", names: Sequence[str]) -> "list[Box]":
    """The boxes of those names or groups as they stand; without names all of the inventory, what
    runs besides in this project's name, and this machine once jobs ran on it. Raises ConfigError
    for a name that is neither."""
    from remote.control.cloud import boxes

    wanted = [entry.name for entry in inventory.resolve(names)] if names else inventory.places
    local = [
        boxes.running(inventory.box(name)) for name in wanted if inventory.means_this_machine(name)
    ]
    if names and len(local) == len(wanted):
        return local
    listing = boxes.listing(inventory)
    return [*(box for box in listing if not names or box.name in wanted), *local]


# ---- jobs, wherever they are known ----


def logs_of(
    words: Sequence[str],
    stage: str,
    follow: bool,
    inventory: "Callable[[], Inventory]",
    say: Say,
    choose: Choose = nobody,
) -> list[Source]:
    """Where the logs lie that these words mean, each once. Raises NotFound, and ConfigError of
    `inventory`, which a run of this laptop does not need. `say` hears which boxes are not asked.

    Of a run that boxes alone know the jobs under way, else the newest. Without words the run of
    this laptop that is alive, else its newest (to `follow`, `choose` says which); where it has
    none, the jobs under way on any box, or the newest of all.
    """
    search, found = _Search(inventory, say, stage), list[Source]()
    verb = "logs -f" if follow else "logs"
    for word in dict.fromkeys(words or [""]):
        if search.is_run(word):
            ledger = run_of(word, verb, to="follow" if follow else "show", choose=choose)
            found.append(_job_of_run(ledger, stage, "log"))
        elif entries := search.entries(word):
            found += [OnBox(entry) for entry in entries]
        elif isinstance(jobs := search.jobs(word), InBucket):
            found.append(jobs)
        else:
            box = search.inventory.box
            found += [OnBox(box(job.box), [job.state.job_id]) for job in _current(jobs)]
    return [source for number, source in enumerate(found) if source not in found[:number]]


def job_of(
    word: str,
    verb: str,
    inventory: "Inventory",
    say: Say,
    choose: Choose = nobody,
    surely: bool = False,
) -> JobTarget:
    """The job that a command may act on: of several the one under way.

    Without a word that of the run of this laptop that is alive, or of its only run that has a job;
    else `choose` says which, and no job of others is taken for it. Where this laptop has no run,
    the one job that is under way on any box; `surely` asks for every box to have told that it is.
    `say` hears which boxes are not asked. Raises NotFound for none, or too many; BoxStopped where
    the job's box does not run.
    """
    from remote.control.cloud import boxes

    search = _Search(lambda: inventory, say)
    if search.is_run(word):
        ledger = run_of(word, verb, lambda state: state.latest_job() is not None, "follow", choose)
        job = _job_of_run(ledger).job
        box = boxes.running(inventory.box(job.box))
        return JobTarget(box, job.job_id, ledger.run_id, job.label, job.status)
    jobs = search.jobs(word)
    if isinstance(jobs, InBucket):
        what, kept = f"the box of job {jobs.job_id} is gone", jobs.bucket.place(jobs.job_id)
        raise BoxStopped(what, kept=kept, remedy=f"`./inv logs {word}` shows its log")
    current = _current(jobs)
    if not word and current[0].state.status.is_final:
        raise NotFound("no job is under way", why=search.unasked(), remedy=ALL_JOBS)
    if len(current) > 1:
        what = f"{len(current)} jobs are {f'meant by `{word}`' if word else 'under way'}"
        why = ", ".join(f"{each.state.job_id} on {each.box}" for each in current)
        raise NotFound(what, why=why, remedy="name one of those jobs, or its run")
    target = search.target(current[0])
    if surely and search.not_asked and not word:
        raise NotFound(
            f"whether {target.job_id} on {target.box.name} is the only job under way is not known",
            why=search.unasked(),
            remedy=f"where it is meant: `./inv {verb} {target.job_id}`",
        )
    return target


def newest_of(
    word: str, stage: str, inventory: "Callable[[], Inventory]", say: Say, choose: Choose = nobody
) -> Ledger | JobTarget | InBucket:
    """The run of this laptop, else the newest job of the box, run or job. Raises NotFound, and
    ConfigError of `inventory`, which a run of this laptop does not need. `say` hears which boxes
    are not asked."""
    search = _Search(inventory, say, stage)
    if search.is_run(word):
        return run_of(word, "why", choose=choose)
    jobs = search.jobs(word)
    if isinstance(jobs, InBucket):
        return jobs
    return search.target(max(jobs, key=lambda job: job.state.started_at or float("inf")))


def no_such_stage(box: "Box", stage: str, say: Say) -> NoSuchStage:
    """That a box keeps no job of that stage, with the stages that it has jobs of."""
    return _lacks_stage(table.look([box], say, _LINK_SECONDS)[0], stage, box.name)


class _Search:
    """Finds what words mean. The inventory is read and boxes are asked when that is needed, once;
    what could not be asked is said at once, and stands in `not_asked`."""

    def __init__(self, inventory: "Callable[[], Inventory]", say: Say, stage: str = "") -> None:
        self.not_asked: list[str] = []
        self._read, self._say, self._stage = inventory, say, stage
        self._boxes: dict[str, Box] = {}

    @cached_property
    def inventory(self) -> "Inventory":
        """Raises ConfigError."""
        return self._read()

    def is_run(self, word: str) -> bool:
        """Whether a run of this laptop is meant; a box's name goes before a part of a run's id."""
        ids = [run.run_id for run in all_runs()]
        if not word or word in ids:
            return bool(ids)
        return any(_matches(each, word) for each in ids) and not self.entries(word)

    def entries(self, word: str) -> "list[BoxEntry]":
        """The boxes of a box's or a group's name; none where it is no such name."""
        inventory = self.inventory
        is_box = word in (*inventory.boxes, *inventory.groups) or inventory.means_this_machine(word)
        return inventory.resolve([word]) if is_box else []

    def jobs(self, word: str) -> "list[BoxJob] | InBucket":
        """The jobs of a box, group or run, or the one of that id; without a word those of all
        boxes. Raises NotFound, also where several runs are meant."""
        names = [entry.name for entry in self.entries(word)]
        known = self._ask(names) if names else self._all_jobs
        exact = [job for job in known if word and word in (job.run_id, job.state.job_id)]
        jobs = exact or [job for job in known if names or _is_called(job, word)]
        owners = list(dict.fromkeys(job.run_id or job.state.job_id for job in jobs))
        if word and not names and len(owners) > 1:
            raise _several_runs(word, owners)
        if word and not names and not jobs and (stored := self._stored(word)):
            return stored
        if not jobs:
            raise self._no_job(word, names)
        found = [job for job in jobs if self._stage in ("", job.state.stage, job.label)]
        if not found:
            raise _lacks_stage(jobs, self._stage, word or "the inventory")
        return found

    def target(self, job: "BoxJob") -> JobTarget:
        """A job that a box was just found to have."""
        box, state = self._boxes[job.box], job.state
        return JobTarget(box, state.job_id, job.run_id, job.label, state.status)

    def unasked(self) -> str:
        """Which boxes could not be asked, and why."""
        return "; ".join(f"not asked: {line}" for line in self.not_asked)

    @cached_property
    def _all_jobs(self) -> "list[BoxJob]":
        return self._ask(self.inventory.places)

    def _ask(self, names: Sequence[str]) -> "list[BoxJob]":
        from remote.control.cloud import boxes

        there = boxes_of(self.inventory, names)
        self._boxes |= {box.name: box for box in there}
        jobs, silent = table.look(there, self._say, _LINK_SECONDS)
        self._leave_out(*silent, *boxes.unknown(there))
        return jobs

    def _leave_out(self, *lines: str) -> None:
        self.not_asked += lines
        for line in lines:
            self._say(warning(f"not asked: {line}"))

    def _stored(self, word: str) -> InBucket | None:
        """The newest such job in the bucket, whichever checkout put it there."""
        from remote.control.cloud import bucket

        name = self.inventory.storage.bucket
        clouds = {entry.provider: entry for entry in self.inventory.boxes.values()}
        try:
            for seen in filter(None, (bucket.of_entry(name, each) for each in clouds.values())):
                for found in seen.of_projects():
                    jobs = [each for each in found.spilled() if self._is_stored(each.job_id, word)]
                    if jobs:
                        return InBucket(found, max(jobs, key=lambda each: each.at).job_id)
        except CloudError as error:
            self._leave_out(f"the bucket: {error.what}")
        return None

    def _is_stored(self, job_id: str, word: str) -> bool:
        """Whether an id, which is `RUN-LABEL-KEY`, is that of a job of the run, or of the job."""
        is_meant = job_id.startswith(word) or f"{word}-" in job_id
        return is_meant and (not self._stage or f"-{self._stage}-" in job_id)

    def _no_job(self, word: str, names: Sequence[str]) -> NotFound:
        remedy = f"{ALL_JOBS}, `./inv runs` the runs of this laptop"
        if names:
            what = f"nothing is under way on {word}, and it keeps no job"
            states = [(name, box.state) for name, box in self._boxes.items() if name in names]
            at_rest = [f"{name} is {state}" for name, state in states if state not in _ASKED]
            why = "; ".join(at_rest).replace("is terminated", "is absent")
        elif word:
            what, known = f"no run, job, box or group `{word}`", [run.run_id for run in all_runs()]
            known += [*self.inventory.boxes, *self.inventory.groups]
            known += [name for job in self._all_jobs for name in (job.run_id, job.state.job_id)]
            bucket = ", the bucket" if self.inventory.storage.bucket else ""
            why = f"looked for in the runs here, inventory.yaml, the boxes that run{bucket}"
            remedy = f"{suggestion(word, known)} {remedy}".lstrip()
        else:
            what, why = "there are no runs here, and no box that runs keeps a job", ""
            hint = "`./inv status` shows how the boxes stand, `./inv doctor` why"
            remedy = hint if self.not_asked else "./inv demo, or ./inv run PLAYBOOK"
        return NotFound(what, why="; ".join(filter(None, (why, self.unasked()))), remedy=remedy)


def _matches(run_or_job: str, word: str) -> bool:
    return bool(run_or_job) and (run_or_job.startswith(word) or run_or_job.endswith(word))


def _is_called(job: "BoxJob", word: str) -> bool:
    return _matches(job.run_id, word) or _matches(job.state.job_id, word)


def _several_runs(word: str, runs: Sequence[str]) -> NotFound:
    what, why = f"{len(runs)} runs match `{word}`", f"there are {', '.join(runs[:_SHOWN])}"
    return NotFound(what, why=why, remedy="name one of those; `./inv runs` lists yours")


def _lacks_stage(jobs: "Sequence[BoxJob]", stage: str, whose: str) -> NoSuchStage:
    there = ", ".join(sorted({job.label for job in jobs})) or "none"
    what = f"{whose} has no job of a stage `{stage}`"
    return NoSuchStage(what, why=f"stages with a job: {there}", remedy=ALL_JOBS)


def _current(jobs: "Sequence[BoxJob]") -> "list[BoxJob]":
    """Those under way, else the newest."""
    newest = max(jobs, key=lambda job: job.state.started_at)
    return [job for job in jobs if not job.state.status.is_final] or [newest]
