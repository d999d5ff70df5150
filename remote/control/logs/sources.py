"""What is meant by the words after `inv logs`, and where its logs lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.jobs import Status
from remote.contract.log_query import label_of
from remote.control.errors import BoxUnreachable, CloudError, NotFound
from remote.control.runs.ledger import is_called

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.cloud.bucket import Bucket
    from remote.control.config.inventory import Inventory
    from remote.control.jobs.state import BoxJob
    from remote.control.runs.ledger import Ledger
    from remote.control.runs.state import StageState

_LOOK_SECONDS, _LINK_SECONDS = 20.0, 3.0


ALL_JOBS = "`./inv ps --all` lists the jobs of all boxes"


class NoSuchStage(NotFound):
    """There are jobs, but none of the stage that was asked for."""


@dataclass(frozen=True)
class OnBox:
    """Jobs of a box by their ids; the box chooses where none are named. `stage` narrows that."""

    entry: Any
    jobs: list[str] = field(default_factory=list)
    stage: str = ""


@dataclass(frozen=True)
class OfRun:
    """A job that this laptop's ledger knows."""

    ledger: "Ledger"
    job: "StageState"

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
class InBucket:
    """A job that its box has put into the bucket, known by nothing else."""

    bucket: "Bucket"
    job_id: str


Source = OnBox | OfRun | InBucket


@dataclass(frozen=True)
class Found:
    """The sources, and in words the boxes that could not be asked."""

    sources: list[Source]
    silent: list[str] = field(default_factory=list)


def find(words: Sequence[str], stage: str, follow: bool = False) -> Found:
    """What is meant: runs of this laptop, then boxes and groups, then runs that the boxes tell of, then runs in the bucket.

    Without words the run of this laptop that is alive, else its newest (to `follow`, it asks which); where it has none, the jobs under way
    on any box, or the newest of all. Raises NotFound for a word that is none of these.
    """
    from remote.control.runs.ledger import all_runs
    from remote.control.runs.meant import run_to_look_at

    if not words and all_runs():
        meant = run_to_look_at("", "logs -f" if follow else "logs", or_newest=not follow)
        return Found([_of_ledger(meant.run_id, stage)])
    sources, unknown = [], []
    for word in dict.fromkeys(words):
        if here := _here(word, stage):
            sources += here
        else:
            unknown.append(word)
    if words and not unknown:
        return Found(_each_once(sources))
    there = _there(unknown, stage)
    return Found(_each_once([*sources, *there.sources]), there.silent)


def _here(word: str, stage: str) -> "list[Source]":
    """What this laptop knows by that name: a name that is a run's or a box's as it stands goes before the beginning or end of a run's."""
    from remote.control.config.inventory import load_inventory
    from remote.control.runs.ledger import all_runs

    runs = [run.run_id for run in all_runs()]
    if word in runs:
        return [_of_ledger(word, stage)]
    inventory = load_inventory()
    if word in (*inventory.boxes, *inventory.groups):
        return [OnBox(entry, stage=stage) for entry in inventory.resolve([word])]
    return [_of_ledger(word, stage)] if any(is_called(run_id, word) for run_id in runs) else []


def _of_ledger(word: str, stage: str) -> OfRun:
    from remote.control.jobs.of_run import begun_job_of
    from remote.control.runs.ledger import find_run

    ledger = find_run(word or None)
    return OfRun(ledger, begun_job_of(ledger, stage, "log"))


def _there(words: Sequence[str], stage: str) -> Found:
    """What the boxes know by these names, or else the bucket; without names what is under way anywhere, or the newest of all."""
    from remote.control.config.inventory import load_inventory

    inventory = load_inventory()
    jobs, silent = _look(inventory)
    if not words:
        jobs = _of_stage(jobs, stage)
        if not jobs:
            why = "; ".join(silent) or "no box that runs keeps a job" + (f" of a stage `{stage}`" if stage else "")
            remedy = "`./inv status` shows how the boxes stand, `./inv doctor` why" if silent else "./inv demo, or ./inv run PLAYBOOK"
            raise NotFound("there is no log to show: there are no runs here", why=why, remedy=remedy)
        return Found(_on_boxes(inventory, _under_way_or_newest(jobs)), silent)
    sources: list[Source] = []
    for word in words:
        mine = [job for job in jobs if is_called(job.run_id, word) or is_called(job.state.job_id, word)]
        if len(runs := dict.fromkeys(job.run_id for job in mine)) > 1:
            raise NotFound(f"{len(runs)} runs match `{word}`", why=", ".join(runs), remedy="name one of those")
        if mine and not _of_stage(mine, stage):
            raise _lacks_stage(f"run {mine[0].run_id or word}", stage, mine)
        sources += (
            _on_boxes(inventory, _under_way_or_newest(_of_stage(mine, stage))) if mine else [_in_bucket(inventory, word, stage, silent)]
        )  # fmt: skip
    return Found(sources, silent)


def no_such_stage(box: "Box", stage: str) -> NoSuchStage:
    """That a box keeps no job of that stage, with the stages that it has jobs of."""
    return _lacks_stage(f"box {box.name}", stage, _jobs_of(box))


def _lacks_stage(whose: str, stage: str, jobs: "list[BoxJob]") -> NoSuchStage:
    there = ", ".join(sorted({_label(job) for job in jobs}))
    return NoSuchStage(f"{whose} has no job of a stage `{stage}`", why=f"stages with a job: {there or 'none'}", remedy=ALL_JOBS)


def _of_stage(jobs: "list[BoxJob]", stage: str) -> "list[BoxJob]":
    return [job for job in jobs if stage in ("", job.state.stage, _label(job))]


def _label(job: "BoxJob") -> str:
    return label_of(job.state.job_id, job.run_id, job.state.stage)


def _look(inventory: "Inventory") -> "tuple[list[BoxJob], list[str]]":
    """Every job of the boxes that run, and in words the boxes that did not answer. A link that fails is tried again for a moment."""
    from remote.control import fleet
    from remote.control.cloud import boxes

    listing = [box for box in boxes.listing(inventory) if box.name in inventory.boxes]
    running = [box for box in listing if box.state == "running"]
    outcomes = fleet.outcomes_of(running, lambda box, _: _jobs_of(box), seconds=_LOOK_SECONDS, late=_late)
    silent = [f"{outcome.one.name}: {outcome.error.what}" for outcome in outcomes if outcome.error] + boxes.unknown(listing)
    return [job for outcome in outcomes for job in outcome.found or ()], silent


def _jobs_of(box: "Box") -> "list[BoxJob]":
    from remote.control.jobs.state import jobs_on
    from remote.control.transport.connect import connect
    from remote.control.transport.persist import persistently

    def ask() -> "list[BoxJob]":
        with connect(box) as transport:
            return jobs_on(transport, box.root, box.name)

    return persistently(ask, progress=lambda: None, notice=lambda text: None, patience_seconds=_LINK_SECONDS)


def _late(box: "Box") -> BoxUnreachable:
    return BoxUnreachable(f"no answer within {_LOOK_SECONDS:.0f} s", where=box.where)


def _under_way_or_newest(jobs: "list[BoxJob]") -> "list[BoxJob]":
    newest = max(jobs, key=lambda job: job.state.started_at)
    return [job for job in jobs if not job.state.status.is_final] or [newest]


def _on_boxes(inventory: "Inventory", jobs: "list[BoxJob]") -> list[Source]:
    by_box: dict[str, list[str]] = {}
    for job in jobs:
        by_box.setdefault(job.box, []).append(job.state.job_id)
    return [OnBox(inventory.boxes[box], ids) for box, ids in by_box.items()]


def _in_bucket(inventory: "Inventory", word: str, stage: str, silent: list[str]) -> InBucket:
    from remote.control.logs import archive

    told = list(silent)
    try:
        found = archive.newest(inventory, word, stage)
    except CloudError as error:
        told, found = [*told, f"the bucket: {error.what}"], None
    if found is not None:
        return InBucket(*found)
    places = "the runs of this laptop, inventory.yaml, the boxes that run" + (", the bucket" if inventory.storage.bucket else "")
    why = f"looked for in {places}" + (f"; not asked: {'; '.join(told)}" if told else "")
    remedy = "`./inv ps --all` lists the jobs of the boxes, `./inv runs` the runs here"
    raise NotFound(f"no run, box or group `{word}`", why=why, remedy=remedy)


def _each_once(sources: list[Source]) -> list[Source]:
    """What was named twice, as a box by its group and by itself, once."""
    return [source for number, source in enumerate(sources) if source not in sources[:number]]
