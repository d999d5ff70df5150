"""`inv logs`: asks where the logs lie, all at once, and prints what is told by the order of time."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from remote.contract.jobs import Status
from remote.contract.line_search import TooSlow
from remote.contract.log_query import JobFacts, Question
from remote.control import console, targets
from remote.control.errors import BoxStopped, CloudError, DataError, FleetFailed, NotFound, WindlassError
from remote.control.faults import as_error
from remote.control.logs import kept, plain
from remote.control.logs.asking import Asking, Listener
from remote.control.logs.merging import Merging
from remote.control.logs.printing import Printer
from remote.control.logs.told import Told
from remote.control.targets import InBucket, OfRun, OnBox, Source


def show(words: Sequence[str], question: Question, mode: str) -> None:
    """Show the logs that are meant: `mode` is lines, json or raw. Raises the error of the only source, or FleetFailed."""
    found = targets.logs_of(words, question.stage, question.follow)
    if len(found) == 1 and isinstance(found[0], OfRun) and mode == "lines" and _is_all(question):
        plain.show(found[0], question.follow)
        return
    lanes = _lanes_of(found, question, mode)
    _print(lanes, Printer(mode, len(lanes)), question)
    errors = {lane.name: lane.error for lane in lanes if lane.error}
    if len(errors) < len(lanes):  # the others were told of it: that these have no such stage is no failure
        errors = {name: error for name, error in errors.items() if not isinstance(error, targets.NoSuchStage)}
    if errors and len(lanes) == 1:
        raise next(iter(errors.values()))
    if errors:
        raise FleetFailed(errors, [{"box": lane.name} for lane in lanes])


def _is_all(question: Question) -> bool:
    return question.ago is None and question.tail is None and not question.grep and question.level == "info"


@dataclass
class _Lane:
    """One box that is asked, or one job whose box is not; what it tells goes to `to` until it has ended."""

    name: str
    ask: Callable[["_Voice"], None]
    error: WindlassError | None = None


@dataclass
class _Voice(Listener):
    """What a source tells, on its way to the one printer."""

    name: str
    merging: Merging
    printer: Printer
    told: list[tuple[str, Status, str]] = field(default_factory=list)

    @property
    def is_alone(self) -> bool:
        """Whether nothing else is told beside it."""
        return len(self.merging.names) == 1

    def introduce(self, job: JobFacts) -> None:
        self.printer.introduce(self.name, job.stage, job.run or job.job)
        if job.status == Status.PENDING.value:
            self.notice(f"{job.stage} of {job.run or self.name} has not begun; `./inv ps` shows where in line it waits")

    def tell(self, told: Told) -> None:
        self.merging.put(self.name, told)

    def live(self) -> None:
        self.merging.live(self.name)

    def ended(self, job: JobFacts, status: Status, why: str) -> None:
        self.told.append((f"{job.stage} of {job.run or self.name}", status, why))

    def notice(self, text: str) -> None:
        console.say(text, "yellow")


def _print(lanes: list[_Lane], printer: Printer, question: Question) -> None:
    merging = Merging([lane.name for lane in lanes])
    voices = [_Voice(lane.name, merging, printer) for lane in lanes]
    for lane, voice in zip(lanes, voices, strict=True):
        threading.Thread(target=_run, args=(lane, voice), name=f"logs of {lane.name}", daemon=True).start()
    try:
        for told in merging:
            printer.tell(told)
    except KeyboardInterrupt:
        printer.finish()
        if question.follow:
            console.say("the jobs go on; the same command comes back to them")
        raise
    printer.finish()
    for label, status, why in (each for voice in voices for each in voice.told):
        if status.is_final and status is not Status.SUCCEEDED:
            console.say(f"{label} is {status.value}{f': {why}' if why else ''}", "yellow")


def _run(lane: _Lane, voice: _Voice) -> None:
    try:
        lane.ask(voice)
    except TooSlow as error:
        remedy = "a simpler `--grep`: no repetition within another"
        lane.error = DataError("--grep cannot be searched for", where=lane.name, why=str(error), remedy=remedy)
    except Exception as error:  # it is told when all others have ended, and nothing waits for this one
        lane.error = as_error(error)
        if not voice.is_alone:
            voice.notice(f"{lane.name}: {lane.error.what}")
    finally:
        voice.merging.end(lane.name)


# ---- what is asked where ---------------------------------------------------------------------------------------------


def _lanes_of(found: list[Source], question: Question, mode: str) -> list[_Lane]:
    """One for each box, whatever is wanted of it, and one for each job that needs none."""
    lanes: dict[str, _Lane] = {}
    asked: dict[str, _OfBox] = {}
    for source in found:
        if isinstance(source, InBucket):
            lanes[source.job_id] = _Lane(source.job_id, _FromBucket(source, question).ask)
        elif isinstance(source, OfRun) and source.is_whole_here and question.ago is None and mode != "json":
            lanes[source.job.job_id] = _Lane(source.job.job_id, _FromCopy(source, question).ask)
        else:
            name = source.job.box if isinstance(source, OfRun) else source.entry.name
            asked.setdefault(name, _OfBox(name, question)).add(source)
            lanes[name] = _Lane(name, asked[name].ask)
    return list(lanes.values())


@dataclass
class _OfBox:
    """What is wanted of one box; where it is gone, of what it has left."""

    name: str
    question: Question
    jobs: list[str] = field(default_factory=list)
    chooses: bool = False
    copies: dict[str, OfRun] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        """Want this too."""
        if isinstance(source, OfRun):
            self.jobs.append(source.job.job_id)
            self.copies[source.job.job_id] = source
        elif isinstance(source, OnBox):
            self.jobs += source.jobs
            self.chooses = self.chooses or not source.jobs

    def ask(self, voice: _Voice) -> None:
        """Ask the box, then what it has left. Raises BoxStopped where that is nothing."""
        from remote.control.cloud import boxes
        from remote.control.config.inventory import load_inventory
        from remote.control.transport.connect import connect

        inventory = load_inventory()
        jobs = [] if self.chooses else list(dict.fromkeys(self.jobs))
        asking: Asking | None = None
        try:
            entry = inventory.box(self.name)
            box = boxes.running(entry)  # a box that is gone, and says so, is looked for in the bucket
            firsts = [box]
            asking = Asking(
                self.name, entry.root, lambda: connect(firsts.pop() if firsts else boxes.running(entry)),
                replace(self.question, jobs=jobs), voice, waits=self.question.follow and not voice.is_alone,
            )  # fmt: skip
            asking.ask()
        except BoxStopped as error:
            self._tell_left(inventory, asking, voice, error)
            return
        if not asking.jobs and self.question.stage:
            raise targets.no_such_stage(box, self.question.stage)
        if not asking.jobs and not voice.is_alone:
            voice.notice(f"box {self.name} keeps no job")
        elif not asking.jobs:
            raise NotFound(f"box {self.name} keeps no job", where=box.where, remedy=targets.ALL_JOBS)

    def _tell_left(self, inventory: Any, asking: Asking | None, voice: _Voice, error: BoxStopped) -> None:
        resume = asking.resume if asking else {}
        wanted = [job for job in (resume or self.jobs) if not asking or job not in asking.ended]
        found = {job: left for job in wanted if (left := self._left_of(inventory, job, voice)) is not None}
        for job, left in found.items():
            voice.notice(f"{error.what}: this is what is left in {left.place}")
            _tell(left, self.name, self.question, voice, resume.get(job))
        if not found and (wanted or not resume):
            error.kept = error.kept or "nothing of its logs, here or in the bucket"
            raise error

    def _left_of(self, inventory: Any, job_id: str, voice: _Voice) -> "kept.Kept | None":
        try:
            if left := kept.of_box(inventory, self.name, job_id):
                return left
        except CloudError as error:
            voice.notice(f"not asked: the bucket: {error.what}")
        return _copy_of(self.copies[job_id]) if job_id in self.copies and self.copies[job_id].log.exists() else None


@dataclass
class _FromBucket:
    source: InBucket
    question: Question

    def ask(self, voice: _Voice) -> None:
        """Tell what lies there."""
        left = kept.in_bucket(self.source.bucket, self.source.job_id)
        if left is None:
            raise NotFound(f"nothing whole lies in the bucket of {self.source.job_id}", remedy="`./inv ps --all` lists what the boxes keep")
        voice.notice(f"its box is not asked: this is what lies in {left.place}")
        _tell(left, self.source.job_id, self.question, voice, None)


@dataclass
class _FromCopy:
    source: OfRun
    question: Question

    def ask(self, voice: _Voice) -> None:
        """Tell what this laptop has."""
        _tell(_copy_of(self.source), self.source.job.job_id, self.question, voice, None)


def _copy_of(source: OfRun) -> "kept.Kept":
    return kept.Kept(source.job.job_id, kept.FileLog(source.log), str(source.log), source.ledger.run_id, source.job.label)


def _tell(left: "kept.Kept", box: str, question: Question, voice: _Voice, start: int | None) -> None:
    try:
        voice.introduce(left.facts())
        if question.ago is not None and not any(True for _ in left.log.times()):
            voice.notice(f"when its lines were written is not known here: all of {left.job_id} is told")
        for told in kept.told_of(left, box, question, start):
            voice.tell(told)
        if left.state is not None:
            voice.ended(left.facts(), *kept.ended(left))
    finally:
        left.close()
