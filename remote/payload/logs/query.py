"""Answers a query about the logs of a box's jobs, and what happened to the box meanwhile. Standard
library only.

Reads a `remote.contract.logs.query.LogQuery` on standard input, and answers with the frames
described there.
"""

import contextlib
import heapq
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from remote.contract.job.jobs import Cause, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs.frames import HEARTBEAT_SECONDS, encode
from remote.contract.logs.lines import Filter, FolderLog, Piece, continues, scan_of
from remote.contract.logs.query import LOG, METRICS, LogQuery, label_of
from remote.contract.logs.search import TooSlow
from remote.contract.telemetry.timeline import Event
from remote.payload.jobs import supervise
from remote.payload.telemetry.box_events import WATCHDOGS, BoxEvent, BoxEvents

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.1
"""How often the state of the jobs is read, and what happened to the box."""
ROUND_BYTES = 4 * 1024 * 1024
"""How much of one file is sent before the others have their turn."""
PARTIAL_SECONDS, PARTIAL_BYTES = 0.5, 4096
"""How often, and how much of, a line without an end is sent."""
AROUND_SECONDS = 120.0
"""What happened so shortly before and after a job is sent with it."""

_UNKNOWN = (-1, -1)


class Wire:
    """What goes to the laptop. While nothing else does, a heartbeat: to read a large log takes its
    time."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._sent_at = out, time.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def send(self, header: dict[str, Any], content: bytes = b"") -> None:
        """Send a frame. Nothing stays in a buffer for longer than one round: see `flush`."""
        with self._lock:
            self._out.write(encode(header, content))
            self._sent_at = time.monotonic()

    def flush(self) -> None:
        """See that all of it is on its way."""
        with self._lock:
            self._out.flush()

    def _beat(self) -> None:
        try:
            while True:
                time.sleep(HEARTBEAT_SECONDS)
                if time.monotonic() - self._sent_at >= HEARTBEAT_SECONDS:
                    self.send({"beat": True})
                    self.flush()
        except (OSError, ValueError):
            os._exit(0)  # the laptop has left; so do we


class LogFile:
    """One growing file of a job, its log or its measurements, as far as it has been sent."""

    def __init__(self, job_id: str, name: str, path: Path, query: LogQuery, now: float) -> None:
        self.path, self.name, self._job_id = path, name, job_id
        self._log = FolderLog(path.parent, path.name)
        self._query = query if name == LOG else LogQuery()
        start = query.resume.get(job_id, {}).get(name)
        self._is_replaced = start is not None and not continues(
            self._log, start, query.marks.get(name, "")
        )
        self.scan = scan_of(self._log, self._query, now, 0 if self._is_replaced else start)
        self._read_at = _UNKNOWN
        self._end: int | None = None

    def begin(self, wire: Wire) -> None:
        """Say so where it is another file than the one that the laptop has a part of."""
        if self._is_replaced:
            wire.send({"restart": self._job_id, "file": self.name})
        self._is_replaced = False

    def backlog(self) -> Iterator[Piece]:
        """What is there by now. Whoever goes on writing is not waited for."""
        return self.scan.pieces(at_most=max(0, self._log.bounds()[1] - self.scan.next))

    def send_news(self, wire: Wire, now: float) -> None:
        """Send what was written since the last look. A look at a file that is as it was costs next
        to nothing."""
        try:
            found = self.path.stat()
            mark = (found.st_ino, found.st_size)
        except FileNotFoundError:  # not written yet, or just rotated
            mark = (0, 0)
        if mark == self._read_at:
            return
        if self.scan.next > self._log.bounds()[1]:  # shorter than it was: another one
            self._is_replaced, self.scan = True, scan_of(self._log, self._query, now, 0)
            self.begin(wire)
        self._read_at, begin = mark, self.scan.next
        for piece in self.scan.pieces(now, ROUND_BYTES):
            self.send(wire, piece)
        if self.scan.next - begin >= ROUND_BYTES:
            self._read_at = _UNKNOWN  # there may be more: after the others had their turn

    @property
    def is_sent(self) -> bool:
        """Whether all is sent that was there when this was asked first."""
        if self._end is None:
            self._end = self._log.bounds()[1]
        return self._read_at != _UNKNOWN or self.scan.next >= self._end

    @property
    def has_more(self) -> bool:
        """Whether the last look did not reach the end."""
        return self._read_at == _UNKNOWN

    def send(self, wire: Wire, piece: Piece) -> None:
        """Send lines, or that there are none any more."""
        header = {"job": self._job_id, "at": piece.at, "next": piece.next}
        if self.name != LOG:
            header["file"] = self.name
        if piece.dropped:
            wire.send({**header, "dropped": piece.dropped})
        elif piece.content:
            wire.send(header, piece.content)

    def send_end(self, wire: Wire, now: float | None) -> None:
        """Send a last line that has no end."""
        for piece in self.scan.finish(now):
            self.send(wire, piece)


class JobLog:
    """What is sent of one job."""

    def __init__(
        self, box: BoxPaths, state: JobState, run_id: str, query: LogQuery, now: float
    ) -> None:
        self.state, self.run_id = state, run_id
        self._box, paths = box, box.job(state.job_id)
        self.log = LogFile(state.job_id, LOG, paths.log, query, now)
        self.files = [self.log]
        if query.metrics:
            self.files.append(LogFile(state.job_id, METRICS, paths.metrics, query, now))
        self.begins_at = self._begins_at(query)
        self._partial, self._partial_at = b"", 0.0
        self._waiting = ""

    def facts(self) -> dict[str, Any]:
        """The job for people, and from which byte on its log is sent."""
        label = label_of(self.state.job_id, self.run_id, self.state.stage)
        return {
            "job": self.state.job_id,
            "run": self.run_id,
            "stage": label,
            "status": self.state.status.value,
            "next": self.log.scan.next,
        }

    def sent_to(self) -> dict[str, int]:
        """How far its files are sent."""
        return {file.name: file.scan.next for file in self.files}

    @property
    def ended_at(self) -> float:
        """When it ended, as far as that is known; never for one that is under way."""
        if not self.state.status.is_final:
            return float("inf")
        # Nobody saw when a lost job ended: its last line is the last that is known of it.
        return self.state.ended_at or self.log.scan.moments.of(self.log.scan.next) or float("inf")

    def _begins_at(self, query: LogQuery) -> float:
        """From when on what happened to the box is sent with it: earlier things were sent before,
        or are not wanted."""
        start, moments = self.log.scan.next, self.log.scan.moments
        if self.state.job_id in query.resume and start:
            return moments.of(start - 1) or self.state.started_at
        is_whole = query.ago is None and query.tail is None
        began = self.state.started_at or self.state.queued_at  # one in line has not begun
        return began - AROUND_SECONDS if is_whole else moments.of(start) or began

    def look(self) -> None:
        """Read its state."""
        self.state = supervise.status(self._box, self.state.job_id)

    def backlog(self) -> Iterator[tuple[float, "JobLog", Piece]]:
        """What is there already, its times never falling: a clock that was set back must not hold
        up the others."""
        newest = 0.0
        for piece in self.log.backlog():
            newest = max(newest, piece.at)
            yield newest, self, piece

    def send_place(self, wire: Wire) -> None:
        """Send its place in line, where that has changed."""
        why = self.state.why if self.state.place else ""
        if why != self._waiting and not self.state.status.is_final:
            wire.send({"waiting": self.state.job_id, "place": self.state.place, "why": why})
        self._waiting = why

    def send_partial(self, wire: Wire) -> None:
        """Send the line that has no end yet, where it has changed: a progress bar may never end
        one."""
        if time.monotonic() - self._partial_at < PARTIAL_SECONDS:
            return
        self._partial_at = time.monotonic()
        last = self.log.scan.unfinished(PARTIAL_BYTES).rstrip(b"\r").rpartition(b"\r")[2]
        if last != self._partial:
            self._partial = last
            wire.send({"job": self.state.job_id, "at": time.time(), "partial": True}, last)

    def send_end(self, wire: Wire, now: float | None) -> None:
        """Send what is left, and the job's state."""
        for file in self.files:
            for piece in file.backlog() if file is not self.log else ():
                file.send(wire, piece)
            file.send_end(wire, now)
        wire.send({"ended": self.state.job_id, "state": self.state.to_dict()})


class Newcomers:
    """The jobs of a box whose state was written since the last look; `older` are those that there
    were at the first."""

    def __init__(self, box: BoxPaths) -> None:
        self._box = box
        self._marks: dict[str, tuple[int, int]] = {}
        self.older = self.look()

    def look(self) -> set[str]:
        """Their ids."""
        found = set()
        for folder in self._box.jobs.iterdir() if self._box.jobs.is_dir() else ():
            with contextlib.suppress(OSError):
                state = self._box.job(folder.name).state.stat()
                if self._marks.get(folder.name) != (mark := (state.st_ino, state.st_mtime_ns)):
                    self._marks[folder.name] = mark
                    found.add(folder.name)
        return found


class Answer:
    """The answer to one query."""

    def __init__(self, box: BoxPaths, query: LogQuery, out: BinaryIO) -> None:
        self._box, self._query, self._wire = box, query, Wire(out)
        self._now = time.time()
        self._known: set[str] = set()
        self._sent_to: dict[str, dict[str, int]] = {}
        self._newcomers = Newcomers(box)
        # Where an earlier answer broke off, a job that it did not know has begun since: it is told
        # from its beginning.
        ago, tail = (None, None) if query.resume else (query.ago, query.tail)
        self._open = [self._opened(told, ago, tail) for told in _chosen(box, query)]
        self._happenings = self._happenings_of(self._open)
        self._filter = Filter(query.grep, query.level)

    def send_all(self) -> None:
        """The whole answer."""
        self._introduce(self._open)
        self._send_backlog()
        if not self._query.follow:
            for job in self._open:
                job.send_place(self._wire)
                job.send_end(self._wire, None)
        else:
            self._wire.send({"live": True})
            self._follow()
        self._wire.send({"end": True})
        self._wire.flush()

    def _send_backlog(self) -> None:
        events = [(each.event.time, each) for each in self._happened()]
        lines = (
            (at, (job, piece))
            for at, job, piece in heapq.merge(
                *(job.backlog() for job in self._open), key=lambda each: each[0]
            )
        )
        merged: Iterator[tuple[float, BoxEvent | tuple[JobLog, Piece]]] = heapq.merge(
            events, lines, key=lambda each: each[0]
        )
        for _, each in merged:
            if isinstance(each, BoxEvent):
                self._send_event(each)
            else:
                each[0].log.send(self._wire, each[1])

    def _follow(self) -> None:
        looked_at = 0.0
        while self._open or not self._query.jobs:
            ended = []
            if time.monotonic() - looked_at >= LOOK_SECONDS:
                looked_at = time.monotonic()
                for job in self._open:
                    job.look()
                    job.send_place(self._wire)
                # Looked at before its log is: what it wrote last is then told before its end.
                ended = [job for job in self._open if job.state.status.is_final]
                self._take_newcomers()
                for each in self._happened():
                    self._send_event(each)
            self._send_news()
            for job in ended:
                if job.log.is_sent:
                    job.send_end(self._wire, time.time())
                    self._sent_to[job.state.job_id] = job.sent_to()
                    self._open.remove(job)
            self._wire.flush()
            if (self._open or not self._query.jobs) and not any(
                job.log.has_more for job in self._open
            ):
                time.sleep(POLL_SECONDS)

    def _send_news(self) -> None:
        now = time.time()
        for job in self._open:
            for file in job.files:
                file.send_news(self._wire, now)
            if self._filter.takes_all and not self._query.raw:
                job.send_partial(self._wire)

    def _introduce(self, jobs: list[JobLog]) -> None:
        self._wire.send({"now": time.time(), "jobs": [job.facts() for job in jobs]})
        for file in (file for job in jobs for file in job.files):
            file.begin(self._wire)
        self._wire.flush()

    def _take_newcomers(self) -> None:
        """Jobs that were started since, or started again, where the box is to choose; they may have
        ended already."""
        if self._query.jobs or not (
            written := self._newcomers.look() - {job.state.job_id for job in self._open}
        ):
            return
        told = [
            each
            for each in _of_stage(supervise.listing(self._box), self._query.stage)
            if each["job_id"] in written
        ]
        fresh = [each for each in reversed(told) if self._is_under_way_since(each)]
        # Of one that was there before, what it says from now on.
        newcomers = [
            self._opened(each, 0.0 if each["job_id"] in self._newcomers.older else None, None)
            for each in fresh
        ]
        self._open += newcomers
        if newcomers:
            self._introduce(newcomers)

    def _is_under_way_since(self, told: dict[str, Any]) -> bool:
        is_unheard = told["job_id"] not in self._known and told["ended_at"] >= self._now
        return is_unheard or not Status(told["status"]).is_final

    def _opened(self, told: dict[str, Any], ago: float | None, tail: int | None) -> JobLog:
        self._known.add(told["job_id"])
        state = supervise.status(self._box, told["job_id"])
        query = replace(
            self._query, ago=ago, tail=tail, resume={**self._query.resume, **self._sent_to}
        )
        return JobLog(self._box, state, told["run_id"], query, self._now)

    def _happenings_of(self, jobs: list[JobLog]) -> BoxEvents:
        since = self._now
        if self._query.ago is not None:
            since = self._now - self._query.ago
        elif jobs:
            since = min(job.begins_at for job in jobs)
        return BoxEvents(self._box.timeline, WATCHDOGS, since, self._query.seen)

    def _happened(self) -> list[BoxEvent]:
        if self._query.raw:
            return []
        goes_on = self._query.follow and not self._query.jobs
        ends = [float("inf") if goes_on else job.ended_at for job in self._open]
        until = max(ends, default=float("inf")) + AROUND_SECONDS
        return [
            each
            for each in self._happenings.new()
            if each.event.time <= until and self._is_wanted(each.event)
        ]

    def _is_wanted(self, event: Event) -> bool:
        return (not event.job or event.job in self._known) and self._filter.takes_event(
            event.level, event.text
        )

    def _send_event(self, happening: BoxEvent) -> None:
        self._wire.send({"event": vars(happening.event), "seen": {happening.file: happening.seen}})


def _chosen(box: BoxPaths, query: LogQuery) -> list[dict[str, Any]]:
    """The jobs that are meant, oldest first."""
    told = supervise.listing(box)
    if query.jobs:
        known = {each["job_id"] for each in told}
        if missing := [job_id for job_id in query.jobs if job_id not in known]:
            raise supervise.Refused(
                Cause.LOST,
                f"there is no job {missing[0]} on the box",
                remedy="`./inv ps --all` lists what there is",
            )
        return [each for each in reversed(told) if each["job_id"] in query.jobs]
    mine = _of_stage(told, query.stage)
    broke_off = time.time() - query.away if query.resume else float("inf")
    under_way = [
        each
        for each in mine
        if not Status(each["status"]).is_final
        or each["job_id"] in query.resume
        or each["ended_at"] >= broke_off
    ]
    return [each for each in reversed(mine) if each in under_way] or mine[:1]


def _of_stage(told: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    labels = {
        each["job_id"]: label_of(each["job_id"], each["run_id"], each["stage"]) for each in told
    }
    return [each for each in told if not stage or stage in (each["stage"], labels[each["job_id"]])]


def main() -> None:
    """The command line."""
    out = sys.stdout.buffer
    try:
        query = LogQuery.from_json(sys.stdin.read())
        Answer(BoxPaths.of_release(), query, out).send_all()
    except supervise.Refused as refusal:
        out.write(encode({"error": refusal.words}))
    except TooSlow as error:
        remedy = "a simpler `--grep`: no repetition within another"
        out.write(
            encode(
                {
                    "error": (
                        supervise.Refused(
                            Cause.CONFIG, "--grep cannot be searched for", str(error), remedy
                        ).words
                    )
                }
            )
        )
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the laptop has left; so do we


if __name__ == "__main__":
    main()
