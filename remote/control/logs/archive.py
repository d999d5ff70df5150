"""The log of a job that no box is asked for: in the bucket, or in this laptop's own copy."""

import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from remote.contract.artifacts.upload import Manifest
from remote.contract.files import digest
from remote.contract.job.jobs import JobSpec, JobState, Status
from remote.contract.logs import job_log
from remote.contract.logs import lines as log_lines
from remote.contract.logs.lines import Filter, Log, Scan
from remote.contract.logs.query import LOG, METRICS, JobFacts, LogQuery, label_of
from remote.contract.telemetry import timeline
from remote.contract.telemetry.timeline import Event
from remote.control.cloud import bucket
from remote.control.cloud.bucket import Bucket
from remote.control.errors import ArtifactCorrupt
from remote.control.logs.record import LogRecord, LogSink
from remote.control.output.sanitize import sized

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory


T = TypeVar("T")
_OFFSET = re.compile(r"[0-9]{1,15}")
MOST_BYTES = 4 * job_log.PART_BYTES
"""No record of a job, and no part of its log, is larger."""


@dataclass(frozen=True)
class ArchivedLog:
    """What is kept of a job: its log, what happened around it, and for people where that lies.
    `close` it after use."""

    job_id: str
    log: Log
    place: str
    run: str = ""
    stage: str = ""
    state: JobState | None = None
    events: tuple[Event, ...] = ()
    close: Callable[[], None] = lambda: None

    def facts(self) -> JobFacts:
        """The job as a box would introduce it."""
        return JobFacts(self.job_id, self.run, self.stage)


@dataclass(frozen=True)
class _Part:
    """The bytes `start` to `end` of a log, in the manifest under `path`."""

    start: int
    end: int
    path: str


class BucketLog:
    """A log in the bucket. Each of its parts is brought, verified, when it is first read: the end
    of a long log is a small part of it."""

    def __init__(self, found: Bucket, manifest: Manifest) -> None:
        self._bucket, self._manifest = found, manifest
        self._folder = tempfile.TemporaryDirectory(prefix="windlass-")
        self._parts = _parts(manifest)

    def bounds(self) -> tuple[int, int]:
        """The offsets of the first byte that is there, and behind the last."""
        return (self._parts[0].start, self._parts[-1].end) if self._parts else (0, 0)

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """At most `size` bytes from `offset` on, and the offset that they begin at."""
        part = next((part for part in self._parts if offset < part.end), None)
        if part is None:
            return offset, b""
        begin = max(offset, part.start)
        with self._brought(part.path).open("rb") as file:
            return begin, os.pread(file.fileno(), min(size, part.end - begin), begin - part.start)

    def times(self) -> Iterable[tuple[int, float]]:
        """When which byte was written."""
        name = f"jobs/{self._manifest.job_id}/{job_log.TIMES}"
        return job_log.times(self._brought(name).parent) if name in self._manifest.files else ()

    def close(self) -> None:
        """Remove what was brought."""
        self._folder.cleanup()

    def record(self, name: str) -> Path | None:
        """Another file of the job, or None."""
        path = f"jobs/{self._manifest.job_id}/{name}"
        return self._brought(path) if path in self._manifest.files else None

    def state(self) -> JobState | None:
        """How the job stood; None where that is not there, or no state: its log is read all the
        same."""
        return self._understood("state.json", JobState.read)

    def run_id(self) -> str:
        """The run that the job belongs to, as far as that is known."""
        spec = self._understood("spec.json", JobSpec.read)
        return spec.run_id if spec else ""

    def _understood(self, name: str, read: Callable[[Path], T]) -> T | None:
        with suppress(KeyError, TypeError, ValueError):
            return read(path) if (path := self.record(name)) else None
        return None

    def _corrupt(self, what: str, why: str = "") -> ArtifactCorrupt:
        remedy = "run the command again; `./inv ps --all` shows what the boxes themselves keep"
        return ArtifactCorrupt(
            what, where=self._bucket.place(self._manifest.job_id), why=why, remedy=remedy
        )

    def _brought(self, name: str) -> Path:
        if (size := self._manifest.files[name].size) > MOST_BYTES:
            raise self._corrupt(
                f"{name} in the bucket has {sized(size)}: more than any record of a job"
            )
        place = Path(self._folder.name) / name
        if not place.exists():
            beside = place.with_name(f".{place.name}")
            self._bucket.download(self._manifest, name, beside)
            if digest.of_file(beside) != self._manifest.files[name].sha256:
                raise self._corrupt(f"{name} does not verify as it came from the bucket")
            beside.replace(place)
        return place


def in_bucket(found: Bucket, job_id: str) -> ArchivedLog | None:
    """What lies there of a job, or None. Raises CloudError."""
    manifest = found.manifest(job_id)
    if manifest is None:
        return None
    log = BucketLog(found, manifest)
    try:
        return _whole(log, job_id, found.place(job_id))
    except BaseException:
        log.close()
        raise


def _whole(log: BucketLog, job_id: str, place: str) -> ArchivedLog:
    told, run, events = log.state(), log.run_id(), log.record("timeline.jsonl")
    stage = label_of(job_id, run, told.stage if told else "")
    return ArchivedLog(
        job_id,
        log,
        place,
        run,
        stage,
        told,
        tuple(timeline.read(events)) if events else (),
        log.close,
    )


def of_box(inventory: "Inventory", box: str, job_id: str) -> ArchivedLog | None:
    """What that box has put into the bucket of a job, or None. Raises CloudError."""
    entry = inventory.boxes.get(box)
    found = bucket.of_entry(inventory.storage.bucket, entry) if entry else None
    return in_bucket(found, job_id) if found else None


def send(
    kept: ArchivedLog,
    box: str,
    query: LogQuery,
    sink: LogSink,
    start: int | None = None,
    known: str = "",
    is_growing: bool = False,
) -> None:
    """Send what is wanted of it to a sink, in the order of time.

    `start` goes on where the box was read last, and `known` is the mark of what is here before that
    (see `remote.contract.logs.frames.mark`). `is_growing`: a last line without an end is left out.
    """
    if start is not None and not log_lines.continues(kept.log, start, known):
        sink.restart(kept.job_id, LOG)
        start = 0
    scan = log_lines.scan_of(kept.log, query, time.time(), start)
    events = _events(kept, box, query, scan)
    blank = LogRecord(0.0, box, kept.run, kept.job_id, kept.stage)
    for piece in itertools.chain(scan.pieces(), () if is_growing else scan.finish()):
        while events and piece.at and events[0].at <= piece.at:
            sink.take(events.pop(0))
        if piece.dropped or piece.content:
            sink.take(
                replace(
                    blank,
                    at=piece.at,
                    content=piece.content,
                    next=piece.next,
                    dropped=piece.dropped,
                )
            )
    for event in events:
        sink.take(event)


def _events(kept: ArchivedLog, box: str, query: LogQuery, scan: Scan) -> list[LogRecord]:
    if query.raw:
        return []
    since = 0.0 if query.ago is None else time.time() - query.ago
    oldest, wanted = (
        max(since, scan.moments.of(scan.next) if query.tail is not None else 0.0),
        Filter(query.grep, query.level),
    )
    return [
        LogRecord(
            each.time,
            box,
            kept.run,
            kept.job_id,
            "",
            each.source,
            each.level,
            each.text.encode(errors="replace"),
        )
        for each in kept.events
        if each.time >= oldest
        and each.source not in (LOG, METRICS)
        and wanted.takes_event(each.level, each.text)
    ]


def state_of(kept: ArchivedLog) -> JobState:
    """How the job stood when it was put there: one that had not ended is lost with its box."""
    state = kept.state or JobState(kept.job_id, kept.stage)
    return state if state.status.is_final else replace(state, status=Status.LOST)


def _parts(manifest: Manifest) -> list[_Part]:
    """The parts of the log that the bucket has, oldest first."""
    newest = f"jobs/{manifest.job_id}/{job_log.NAME}"
    older = sorted(
        path
        for path in manifest.files
        if path.startswith(f"{newest}.") and _OFFSET.fullmatch(path[len(newest) + 1 :])
    )
    older = older[-job_log.KEPT_PARTS :]
    starts = [int(path.rpartition(".")[2]) for path in older]
    if newest in manifest.files:
        starts.append(starts[-1] + manifest.files[older[-1]].size if older else 0)
        older.append(newest)
    return [
        _Part(start, start + manifest.files[path].size, path)
        for start, path in zip(starts, older, strict=True)
    ]
