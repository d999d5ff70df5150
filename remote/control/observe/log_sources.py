"""Where the records of logs come from: a box, what it has left in the bucket, or this laptop's own
copy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from remote.contract.logs.query import LOG, METRICS, LogQuery
from remote.control import targets
from remote.control.errors import BoxStopped, CloudError, NotFound
from remote.control.logs import archive
from remote.control.logs.archive import ArchivedLog
from remote.control.logs.client import LogClient
from remote.control.logs.mirror import CopySink, FileLog
from remote.control.logs.record import LogSink
from remote.control.observe.log_reading import Output, Stream
from remote.control.targets import InBucket, JobTarget, OfRun, OnBox, Source

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import Inventory

_ATTACHED_LINES = 2000


def stream_of(job: JobTarget, inventory: "Inventory") -> Stream:
    """A job on a box that runs, from its last lines on, until it ends."""
    query = LogQuery(jobs=[job.job_id], tail=_ATTACHED_LINES, follow=True, metrics=True)
    wanted = _OnBox(job.box.name, query, lambda: inventory, [job.job_id], box=job.box)
    return Stream(job.box.name, wanted.read)


def streams_of(
    found: Sequence[Source], query: LogQuery, mode: str, inventory: "Callable[[], Inventory]"
) -> list[Stream]:
    """One for each box, whatever is wanted of it, and one for each job that needs none. `mode` is
    lines, json or raw; `inventory` is called where a box is asked, and its ConfigError is that
    stream's."""
    streams: dict[str, Stream] = {}
    boxes: dict[str, _OnBox] = {}
    for source in found:
        if isinstance(source, InBucket):
            streams[source.job_id] = Stream(source.job_id, _FromBucket(source, query).read)
        elif (
            isinstance(source, OfRun)
            and source.is_whole_here
            and query.ago is None
            and mode != "json"
        ):
            streams[source.job.job_id] = Stream(source.job.job_id, _FromCopy(source, query).read)
        else:
            name = source.job.box if isinstance(source, OfRun) else source.entry.name
            boxes.setdefault(name, _OnBox(name, query, inventory)).add(
                source, copies=len(found) == 1 and mode == "lines"
            )
            streams[name] = Stream(name, boxes[name].read)
    return list(streams.values())


@dataclass
class _OnBox:
    """What is wanted of one box; where it is gone, of what it has left. `copied` is the run whose
    copy here is brought up to date."""

    name: str
    query: LogQuery
    inventory: "Callable[[], Inventory]"
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

    def read(self, output: Output) -> None:
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

    def _read(self, sink: LogSink, output: Output) -> None:
        from remote.control.cloud import boxes
        from remote.control.transport.connect import connect

        inventory = self.inventory()
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
                lambda: connect(firsts.pop() if firsts else boxes.running(entry), output.say),
                query,
                sink,
                waits=query.follow and not output.is_alone,
            )
            client.run()
        except BoxStopped as error:
            self._read_left(inventory, client, sink, error)
            return
        if not client.jobs and query.stage:
            raise targets.no_such_stage(box, query.stage, sink.notice)
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

    def read(self, output: Output) -> None:
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

    def read(self, output: Output) -> None:
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
