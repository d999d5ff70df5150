"""Show logs: each source is read in a thread of its own, and printed with the others by the order
of time."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from remote.contract.job.jobs import JobState, Status
from remote.contract.logs.query import LOG, METRICS, JobFacts, LogQuery
from remote.contract.logs.search import TooSlow
from remote.control import targets
from remote.control.errors import (
    BoxStopped,
    CloudError,
    DataError,
    FleetFailed,
    NotFound,
    WindlassError,
)
from remote.control.faults import as_error
from remote.control.logs import archive
from remote.control.logs.archive import ArchivedLog
from remote.control.logs.client import LogClient
from remote.control.logs.follow import read_metrics
from remote.control.logs.merging import Merging
from remote.control.logs.mirror import CopySink, FileLog
from remote.control.logs.printing import Printer
from remote.control.logs.record import LogRecord, LogSink
from remote.control.output import console
from remote.control.secrets import mask
from remote.control.targets import InBucket, OfRun, OnBox, Source

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import Inventory
    from remote.control.jobs.display import Display

_HINT = "the jobs go on; the same command comes back to them"
_ATTACHED_LINES = 2000


def show(words: Sequence[str], query: LogQuery, mode: str) -> None:
    """Show the logs that are meant: `mode` is lines, json or raw. Raises the error of the only
    source, or FleetFailed."""
    found = targets.logs_of(words, query.stage, query.follow)
    streams = _streams_of(found, query, mode)
    only = found[0] if len(found) == 1 else None
    title = only.job.label if isinstance(only, OfRun) and query.follow and mode == "lines" else ""
    for each in _print(streams, mode, query.follow, title, _HINT):
        status = each.state.status
        if status.is_final and status is not Status.SUCCEEDED:
            console.say(f"{each.label} is {status.value}{each.why}{each.hint}", "yellow")
    errors = {stream.name: stream.error for stream in streams if stream.error}
    if len(errors) < len(
        streams
    ):  # the others were asked for it too: that these have no such stage is no failure
        errors = {
            name: error
            for name, error in errors.items()
            if not isinstance(error, targets.NoSuchStage)
        }
    if errors and len(streams) == 1:
        raise next(iter(errors.values()))
    if errors:
        raise FleetFailed(errors, [{"box": stream.name} for stream in streams])


def attach(job: targets.JobTarget) -> JobState:
    """Show a job live, from its last lines on, until it ends; returns its state then. Ctrl-C leaves
    it running."""
    query = LogQuery(jobs=[job.job_id], tail=_ATTACHED_LINES, follow=True, metrics=True)
    stream = _Stream(job.box.name, _OnBox(job.box.name, query, [job.job_id], box=job.box).read)
    hint = (
        f"the job goes on; come back with `./inv attach {job.name}`, or end it with `./inv cancel"
        f" {job.name}`"
    )
    ended = _print([stream], "lines", True, job.title, hint)
    if stream.error:
        raise stream.error
    return ended[-1].state


@dataclass
class _Stream:
    """One box, or one job that no box is asked for; `read` gives its records to a sink until it has
    ended."""

    name: str
    read: Callable[["_Output"], None]
    error: WindlassError | None = None


@dataclass(frozen=True)
class _Ended:
    label: str
    state: JobState
    hint: str = ""

    @property
    def why(self) -> str:
        words = ". ".join(filter(None, (self.state.what, self.state.why)))
        return f": {words}" if words else ""


@dataclass
class _Output(LogSink):
    """The records of one stream, on their way to the one printer."""

    name: str
    merging: Merging
    printer: Printer
    display: "Display | None" = None
    is_of_one_job: bool = False
    all_ended: list[_Ended] = field(default_factory=list)
    run_here: str = ""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other stream."""
        return len(self.merging.names) == 1

    def introduce(self, job: JobFacts) -> None:
        self.printer.introduce(self.name, job.stage, job.run or job.job)

    def take(self, record: LogRecord) -> None:
        if record.source == METRICS:
            if self.display:
                read_metrics(record, self.display.metric)
        elif record.source == LOG or not self.is_of_one_job:
            self.merging.put(self.name, record)
        elif warning := record.warning(mask()):  # standard output has the log alone
            self.notice(warning)

    def live(self) -> None:
        self.merging.live(self.name)

    def ended(self, job: JobFacts, state: JobState) -> None:
        hint = f"; `./inv resume {self.run_here}` goes on" if self.run_here else ""
        self.all_ended.append(_Ended(f"{job.stage} of {job.run or self.name}", state, hint))

    def notice(self, text: str) -> None:
        console.say(text, "yellow")


def _print(
    streams: list[_Stream], mode: str, follow: bool, title: str, on_interrupt: str
) -> list[_Ended]:
    """Print all records; `title` shows the progress of the only job beside them. Returns the jobs
    that have ended."""
    with ExitStack() as closing:
        printer, display = Printer(mode, len(streams), shows_partial=not title), None
        if title:
            from remote.control.jobs.display import display_for

            closing.enter_context(console.ended_well())
            display = closing.enter_context(display_for(title))
        merging = Merging([stream.name for stream in streams])
        outputs = [_Output(stream.name, merging, printer, display) for stream in streams]
        for stream, output in zip(streams, outputs, strict=True):
            threading.Thread(
                target=_run, args=(stream, output), name=f"logs of {stream.name}", daemon=True
            ).start()
        try:
            for record in merging:
                printer.print(record)
        except KeyboardInterrupt:
            printer.finish()
            if follow:
                console.say(on_interrupt)
            raise
        printer.finish()
    return [each for output in outputs for each in output.all_ended]


def _run(stream: _Stream, output: _Output) -> None:
    try:
        stream.read(output)
    except TooSlow as error:
        remedy = "a simpler `--grep`: no repetition within another"
        stream.error = DataError(
            "--grep cannot be searched for", where=stream.name, why=str(error), remedy=remedy
        )
    except (
        Exception
    ) as error:  # it is raised when all others have ended, and nothing waits for this one
        stream.error = as_error(error)
        if not output.is_alone:
            output.notice(f"{stream.name}: {stream.error.what}")
    finally:
        output.merging.end(stream.name)


# ---- what is read where ----


def _streams_of(found: list[Source], query: LogQuery, mode: str) -> list[_Stream]:
    """One for each box, whatever is wanted of it, and one for each job that needs none."""
    streams: dict[str, _Stream] = {}
    boxes: dict[str, _OnBox] = {}
    for source in found:
        if isinstance(source, InBucket):
            streams[source.job_id] = _Stream(source.job_id, _FromBucket(source, query).read)
        elif (
            isinstance(source, OfRun)
            and source.is_whole_here
            and query.ago is None
            and mode != "json"
        ):
            streams[source.job.job_id] = _Stream(source.job.job_id, _FromCopy(source, query).read)
        else:
            name = source.job.box if isinstance(source, OfRun) else source.entry.name
            boxes.setdefault(name, _OnBox(name, query)).add(
                source, copies=len(found) == 1 and mode == "lines"
            )
            streams[name] = _Stream(name, boxes[name].read)
    return list(streams.values())


@dataclass
class _OnBox:
    """What is wanted of one box; where it is gone, of what it has left. `copied` is the run whose
    copy here is brought up to date."""

    name: str
    query: LogQuery
    jobs: list[str] = field(default_factory=list)
    chooses: bool = False
    runs: dict[str, OfRun] = field(default_factory=dict)
    copied: OfRun | None = None
    box: "Box | None" = None

    def add(self, source: Source, copies: bool) -> None:
        """Want this too."""
        if isinstance(source, OfRun):
            self.jobs.append(source.job.job_id)
            self.runs[source.job.job_id] = source
            self.copied = source if copies and self.query.takes_all and not self.query.raw else None
        elif isinstance(source, OnBox):
            self.jobs += source.jobs
            self.chooses = self.chooses or not source.jobs

    def read(self, output: _Output) -> None:
        """Read what this laptop has, then the box, then what it has left. Raises BoxStopped where
        that is nothing."""
        if self.copied is None:
            output.is_of_one_job = self.box is not None
            self._read(output, output)
            return
        if self.copied.log.exists():
            archive.send(_copy_of(self.copied), self.name, self.query, output, is_growing=True)
        output.run_here, output.is_of_one_job = self.copied.ledger.run_id, True
        self.query = replace(self.query, metrics=True)
        sink = CopySink({LOG: self.copied.log, METRICS: self.copied.metrics}, output)
        try:
            self._read(sink, output)
        finally:
            sink.close()

    def _read(self, sink: LogSink, output: _Output) -> None:
        from remote.control.cloud import boxes
        from remote.control.config.inventory import load_inventory
        from remote.control.transport.connect import connect

        inventory = load_inventory()
        query = replace(self.query, jobs=[] if self.chooses else list(dict.fromkeys(self.jobs)))
        client: LogClient | None = None
        try:
            entry = inventory.box(self.name)
            box = self.box or boxes.running(
                entry
            )  # a box that is gone, and says so, is looked for in the bucket
            firsts = [box]
            client = LogClient(
                self.name,
                entry.root,
                lambda: connect(firsts.pop() if firsts else boxes.running(entry)),
                query,
                sink,
                waits=query.follow and not output.is_alone,
            )
            client.run()
        except BoxStopped as error:
            self._read_left(inventory, client, sink, error)
            return
        if not client.jobs and query.stage:
            raise targets.no_such_stage(box, query.stage)
        if not client.jobs and not output.is_alone:
            sink.notice(f"box {self.name} keeps no job")
        elif not client.jobs:
            raise NotFound(
                f"box {self.name} keeps no job", where=box.where, remedy=targets.ALL_JOBS
            )

    def _read_left(
        self, inventory: "Inventory", client: LogClient | None, sink: LogSink, error: BoxStopped
    ) -> None:
        resume = client.resume if client else {}
        wanted = [job for job in resume or self.jobs if not client or job not in client.ended]
        found = {
            job: left for job in wanted if (left := self._left_of(inventory, job, sink)) is not None
        }
        for job, left in found.items():
            sink.notice(f"{error.what}: this is what is left in {left.place}")
            start, known = sink.positions().get(LOG, (resume.get(job, {}).get(LOG), ""))
            _send(left, self.name, self.query, sink, start, known)
        if not found and (wanted or not resume):
            error.kept = error.kept or "nothing of its logs, here or in the bucket"
            raise error

    def _left_of(self, inventory: "Inventory", job_id: str, sink: LogSink) -> ArchivedLog | None:
        try:
            if left := archive.of_box(inventory, self.name, job_id):
                return left
        except CloudError as error:
            sink.notice(f"not asked: the bucket: {error.what}")
        return (
            _copy_of(self.runs[job_id])
            if job_id in self.runs and self.runs[job_id].log.exists()
            else None
        )


@dataclass
class _FromBucket:
    source: InBucket
    query: LogQuery

    def read(self, output: _Output) -> None:
        """Read what lies there."""
        left = archive.in_bucket(self.source.bucket, self.source.job_id)
        if left is None:
            raise NotFound(
                f"nothing whole lies in the bucket of {self.source.job_id}",
                remedy="`./inv ps --all` lists what the boxes keep",
            )
        output.notice(f"its box is not asked: this is what lies in {left.place}")
        _send(left, self.source.job_id, self.query, output)


@dataclass
class _FromCopy:
    source: OfRun
    query: LogQuery

    def read(self, output: _Output) -> None:
        """Read what this laptop has."""
        _send(_copy_of(self.source), self.source.job.job_id, self.query, output)


def _copy_of(source: OfRun) -> ArchivedLog:
    return ArchivedLog(
        source.job.job_id,
        FileLog(source.log),
        str(source.log),
        source.ledger.run_id,
        source.job.label,
    )


def _send(
    left: ArchivedLog,
    box: str,
    query: LogQuery,
    sink: LogSink,
    start: int | None = None,
    known: str = "",
) -> None:
    try:
        sink.introduce(left.facts())
        if query.ago is not None and not any(True for _ in left.log.times()):
            sink.notice(
                f"when its lines were written is not known here: all of {left.job_id} is shown"
            )
        archive.send(left, box, query, sink, start, known)
        if left.state is not None:
            sink.ended(left.facts(), archive.state_of(left))
    finally:
        left.close()
