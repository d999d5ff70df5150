"""The log of a job whose box is gone: what lies in the bucket, or else in this laptop's own copy."""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from remote.contract import digest, job_log, log_lines, timeline
from remote.contract.jobs import JobSpec, JobState, Status
from remote.contract.log_lines import Filter, Log, Moments, Scan
from remote.contract.log_query import JobFacts, Question, label_of
from remote.contract.spill import Manifest
from remote.contract.timeline import Event
from remote.control.cloud import bucket
from remote.control.cloud.bucket import Bucket
from remote.control.errors import ArtifactCorrupt
from remote.control.jobs import kept_log, mirror
from remote.control.logs.told import Told
from remote.control.printable import sized

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory


T = TypeVar("T")
MOST_BYTES = 4 * job_log.PART_BYTES
"""No record of a job, and no part of its log, is larger."""


@dataclass(frozen=True)
class Kept:
    """What is left of a job: its log, what happened around it, and for people where that lies. `close` when it is told."""

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


class FileLog:
    """A log in one file with holes, as this laptop keeps it: when which line was written is not known."""

    def __init__(self, path: Path) -> None:
        self._path, self._holes = path, mirror.holes(path)

    def bounds(self) -> tuple[int, int]:
        """The offsets of the first byte that is there, and behind the last."""
        return 0, self._path.stat().st_size

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """At most `size` bytes from `offset` on, and the offset that they begin at."""
        offset = next((end for start, end in self._holes if start <= offset < end), offset)
        size = min([size, *(start - offset for start, _ in self._holes if start > offset)])
        with self._path.open("rb") as file:
            return offset, os.pread(file.fileno(), size, offset)

    def times(self) -> Iterable[tuple[int, float]]:
        """Not known."""
        return ()


class BucketLog:
    """A log in the bucket. Each of its parts is brought, verified, when it is first read: the end of a long log is a small part of it."""

    def __init__(self, found: Bucket, manifest: Manifest) -> None:
        self._bucket, self._manifest = found, manifest
        self._folder = tempfile.TemporaryDirectory(prefix="windlass-")
        self._parts = kept_log.parts(manifest)

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
        """How the job stood; None where that is not there, or no state: its log is told all the same."""
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
        return ArtifactCorrupt(what, where=self._bucket.place(self._manifest.job_id), why=why, remedy=remedy)

    def _brought(self, name: str) -> Path:
        if (size := self._manifest.files[name].size) > MOST_BYTES:
            raise self._corrupt(f"{name} in the bucket has {sized(size)}: more than any record of a job")
        place = Path(self._folder.name) / name
        if not place.exists():
            beside = place.with_name(f".{place.name}")
            self._bucket.download(self._manifest, name, beside)
            if digest.of_file(beside) != self._manifest.files[name].sha256:
                raise self._corrupt(f"{name} does not verify as it came from the bucket")
            beside.replace(place)
        return place


def in_bucket(found: Bucket, job_id: str) -> Kept | None:
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


def _whole(log: BucketLog, job_id: str, place: str) -> Kept:
    told, run, events = log.state(), log.run_id(), log.record("timeline.jsonl")
    stage = label_of(job_id, run, told.stage if told else "")
    return Kept(job_id, log, place, run, stage, told, tuple(timeline.read(events)) if events else (), log.close)


def of_box(inventory: "Inventory", box: str, job_id: str) -> Kept | None:
    """What that box has put into the bucket of a job, or None. Raises CloudError."""
    entry = inventory.boxes.get(box)
    found = bucket.of_entry(inventory.storage.bucket, entry) if entry else None
    return in_bucket(found, job_id) if found else None


def told_of(kept: Kept, box: str, question: Question, start: int | None = None) -> Iterator[Told]:
    """What is wanted of it, in the order of time; `start` goes on where the box was heard last."""
    wanted, moments = Filter(question.grep, question.level), Moments(kept.log.times())
    since = None if question.ago is None else time.time() - question.ago
    if start is None:
        start = log_lines.start_of(kept.log, moments, wanted, since, question.tail)
    scan = Scan(kept.log, start, wanted, moments)
    oldest = max(since or 0.0, moments.of(start) if question.tail is not None else 0.0)
    events = [] if question.raw else [each for each in kept.events if each.time >= oldest and wanted.takes_event(each.level, each.text)]
    blank = Told(0.0, box, kept.run, kept.job_id, kept.stage)
    for piece in itertools.chain(scan.pieces(), scan.finish()):
        while events and piece.at and events[0].time <= piece.at:
            yield _told_event(events.pop(0), blank)
        if piece.dropped:
            yield replace(blank, at=piece.at, content=mirror.hole_in_words(piece.dropped).encode() + b"\n")
        if piece.content:
            yield replace(blank, at=piece.at, content=piece.content)
    yield from (_told_event(event, blank) for event in events)


def ended(kept: Kept) -> tuple[Status, str]:
    """How it stood when it was put there: one that had not ended is lost with its box."""
    if kept.state is None:
        return Status.LOST, ""
    status = kept.state.status if kept.state.status.is_final else Status.LOST
    return status, ". ".join(words for words in (kept.state.what, kept.state.why) if words)


def _told_event(event: Event, blank: Told) -> Told:
    return replace(blank, at=event.time, stage="", source=event.source, level=event.level, content=event.text.encode(errors="replace"))
