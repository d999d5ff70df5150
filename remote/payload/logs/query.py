"""Tells the logs of a box's jobs, and what happened to the box meanwhile. Standard library only.

Reads a `remote.contract.log_query.Question` on standard input, and answers with the frames described there.
"""

import contextlib
import heapq
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from remote.contract import log_lines
from remote.contract.frames import HEARTBEAT_SECONDS, encode
from remote.contract.jobs import Cause, JobState, Status
from remote.contract.line_search import TooSlow
from remote.contract.log_lines import Filter, FolderLog, Moments, Piece, Scan
from remote.contract.log_query import Question, label_of
from remote.contract.paths import BoxPaths
from remote.contract.timeline import Event
from remote.payload.jobs import supervise
from remote.payload.telemetry.happenings import WATCHDOGS, Happening, Happenings

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.2
"""How often the jobs are asked how they stand, and the box what happened."""
ROUND_BYTES = 4 * 1024 * 1024
"""How much of one job is told before the others have their turn."""
PARTIAL_SECONDS, PARTIAL_BYTES = 0.5, 4096
"""How often, and how much of, a line that has no end yet is told."""
AROUND_SECONDS = 120.0
"""What happened so shortly before and after a job is told with it."""

_UNKNOWN = (-1, -1)


class Wire:
    """What goes to the laptop. While nothing else does, a heartbeat: to look through a large log takes its time."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._told_at = out, time.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def tell(self, header: dict[str, Any], content: bytes = b"") -> None:
        """Send a frame. Nothing stays in a buffer for longer than one round: see `flush`."""
        with self._lock:
            self._out.write(encode(header, content))
            self._told_at = time.monotonic()

    def flush(self) -> None:
        """See that all of it is on its way."""
        with self._lock:
            self._out.flush()

    def _beat(self) -> None:
        try:
            while True:
                time.sleep(HEARTBEAT_SECONDS)
                if time.monotonic() - self._told_at >= HEARTBEAT_SECONDS:
                    self.tell({"beat": True})
                    self.flush()
        except (OSError, ValueError):
            os._exit(0)  # the laptop has left; so do we


class JobLog:
    """The log of one job, as far as it is told."""

    def __init__(self, box: BoxPaths, state: JobState, run_id: str, question: Question, now: float) -> None:
        self.state, self.run_id = state, run_id
        self._box, log = box, FolderLog(box.job(state.job_id).folder)
        wanted, moments = Filter(question.grep, question.level), Moments(log.times())
        start = question.resume.get(state.job_id)
        if start is None:
            since = None if question.ago is None else now - question.ago
            start = log_lines.start_of(log, moments, wanted, since, question.tail)
        self.begins_at = moments.of(start) or state.started_at
        self.scan = Scan(log, start, wanted, moments)
        self._partial, self._partial_at = b"", 0.0
        self._newest, self._mark = box.job(state.job_id).log, _UNKNOWN

    def facts(self) -> dict[str, Any]:
        """The job for people, and from which byte on it is told."""
        label = label_of(self.state.job_id, self.run_id, self.state.stage)
        return {"job": self.state.job_id, "run": self.run_id, "stage": label, "status": self.state.status.value, "next": self.scan.next}

    def look(self) -> None:
        """Ask how it stands."""
        self.state = supervise.status(self._box, self.state.job_id)

    def backlog(self) -> Iterator[tuple[float, "JobLog", Piece]]:
        """What is there already, its times never falling: a clock that was set back must not hold up the others."""
        newest = 0.0
        for piece in self.scan.pieces():
            newest = max(newest, piece.at)
            yield newest, self, piece

    def news(self, now: float) -> Iterator[Piece]:
        """What was written since the last look. A look at a log that is as it was costs next to nothing."""
        try:
            found = self._newest.stat()
            mark = (found.st_ino, found.st_size)
        except FileNotFoundError:  # not written yet, or just rotated
            mark = (0, 0)
        if mark != self._mark:
            self._mark, begin = mark, self.scan.next
            yield from self.scan.pieces(now, ROUND_BYTES)
            if self.scan.next - begin >= ROUND_BYTES:
                self._mark = _UNKNOWN  # there may be more: after the others had their turn

    @property
    def has_more(self) -> bool:
        """Whether the last look did not reach the end."""
        return self._mark == _UNKNOWN

    def tell(self, wire: Wire, piece: Piece) -> None:
        """Send lines, or that there are none any more."""
        if piece.content:
            wire.tell({"job": self.state.job_id, "at": piece.at, "next": piece.next}, piece.content)
        elif piece.dropped:
            wire.tell({"job": self.state.job_id, "at": piece.at, "next": piece.next, "dropped": piece.dropped})

    def tell_partial(self, wire: Wire) -> None:
        """Send the line that has no end yet, where it has changed: a progress bar may never end one."""
        if time.monotonic() - self._partial_at < PARTIAL_SECONDS:
            return
        self._partial_at = time.monotonic()
        last = self.scan.unfinished(PARTIAL_BYTES).rstrip(b"\r").rpartition(b"\r")[2]
        if last != self._partial:
            self._partial = last
            wire.tell({"job": self.state.job_id, "at": time.time(), "partial": True}, last)

    def tell_end(self, wire: Wire, now: float | None) -> None:
        """Send what is left, and how the job stands."""
        for piece in self.scan.finish(now):
            self.tell(wire, piece)
        wire.tell({"ended": self.state.job_id, "status": self.state.status.value, "what": self.state.what, "why": self.state.why})


class Newcomers:
    """The jobs of a box whose state was written since the last look; `older` are those that there were at the first."""

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


class Telling:
    """One answer."""

    def __init__(self, box: BoxPaths, question: Question, out: BinaryIO) -> None:
        self._box, self._question, self._wire = box, question, Wire(out)
        self._now = time.time()
        self._known: set[str] = set()
        self._told_to: dict[str, int] = {}
        self._newcomers = Newcomers(box)
        # Where an earlier answer broke off, a job that it did not know has begun since: it is told from its beginning.
        ago, tail = (None, None) if question.resume else (question.ago, question.tail)
        self._open = [self._opened(told, ago, tail) for told in _chosen(box, question)]
        self._happenings = self._happenings_of(self._open)
        self._filter = Filter(question.grep, question.level)

    def tell_all(self) -> None:
        """The whole answer."""
        self._introduce(self._open)
        self._tell_backlog()
        if not self._question.follow:
            for job in self._open:
                job.tell_end(self._wire, None)
        else:
            self._wire.tell({"live": True})
            self._follow()
        self._wire.tell({"end": True})
        self._wire.flush()

    def _tell_backlog(self) -> None:
        events = [(each.event.time, each) for each in self._happened()]
        lines = ((at, (job, piece)) for at, job, piece in heapq.merge(*(job.backlog() for job in self._open), key=lambda each: each[0]))
        told: Iterator[tuple[float, Happening | tuple[JobLog, Piece]]] = heapq.merge(events, lines, key=lambda each: each[0])
        for _, each in told:
            if isinstance(each, Happening):
                self._tell_happening(each)
            else:
                each[0].tell(self._wire, each[1])

    def _follow(self) -> None:
        looked_at = 0.0
        while self._open or not self._question.jobs:
            ended = []
            if time.monotonic() - looked_at >= LOOK_SECONDS:
                looked_at = time.monotonic()
                for job in self._open:
                    job.look()
                # Looked at before its log is: what it wrote last is then told before its end.
                ended = [job for job in self._open if job.state.status.is_final]
                self._take_newcomers()
                for each in self._happened():
                    self._tell_happening(each)
            self._tell_news()
            for job in ended:
                if not job.has_more:
                    job.tell_end(self._wire, time.time())
                    self._told_to[job.state.job_id] = job.scan.next
                    self._open.remove(job)
            self._wire.flush()
            if (self._open or not self._question.jobs) and not any(job.has_more for job in self._open):
                time.sleep(POLL_SECONDS)

    def _tell_news(self) -> None:
        now = time.time()
        for job in self._open:
            for piece in job.news(now):
                job.tell(self._wire, piece)
            if self._filter.takes_all and not self._question.raw:
                job.tell_partial(self._wire)

    def _introduce(self, jobs: list[JobLog]) -> None:
        self._wire.tell({"now": time.time(), "jobs": [job.facts() for job in jobs]})
        self._wire.flush()

    def _take_newcomers(self) -> None:
        """Jobs that were started since, or started again, where the box is to choose; they may have ended already."""
        if self._question.jobs or not (written := self._newcomers.look() - {job.state.job_id for job in self._open}):
            return
        told = [each for each in _of_stage(supervise.listing(self._box), self._question.stage) if each["job_id"] in written]
        fresh = [each for each in reversed(told) if self._is_under_way_since(each)]
        # Of one that was there before, what it says from now on.
        newcomers = [self._opened(each, 0.0 if each["job_id"] in self._newcomers.older else None, None) for each in fresh]
        self._open += newcomers
        if newcomers:
            self._introduce(newcomers)

    def _is_under_way_since(self, told: dict[str, Any]) -> bool:
        is_unheard = told["job_id"] not in self._known and told["ended_at"] >= self._now
        return is_unheard or not Status(told["status"]).is_final

    def _opened(self, told: dict[str, Any], ago: float | None, tail: int | None) -> JobLog:
        self._known.add(told["job_id"])
        state = supervise.status(self._box, told["job_id"])
        question = replace(self._question, ago=ago, tail=tail, resume={**self._question.resume, **self._told_to})
        return JobLog(self._box, state, told["run_id"], question, self._now)

    def _happenings_of(self, jobs: list[JobLog]) -> Happenings:
        since = self._now
        if self._question.ago is not None:
            since = self._now - self._question.ago
        elif jobs:
            is_whole = self._question.tail is None
            since = min(job.state.started_at - AROUND_SECONDS if is_whole else job.begins_at for job in jobs)
        return Happenings(self._box.timeline, WATCHDOGS, since, self._question.seen)

    def _happened(self) -> list[Happening]:
        if self._question.raw:
            return []
        ends = [job.state.ended_at for job in self._open]
        until = max(ends) + AROUND_SECONDS if ends and all(ends) and not self._question.follow else float("inf")
        return [each for each in self._happenings.new() if each.event.time <= until and self._is_wanted(each.event)]

    def _is_wanted(self, event: Event) -> bool:
        return (not event.job or event.job in self._known) and self._filter.takes_event(event.level, event.text)

    def _tell_happening(self, happening: Happening) -> None:
        self._wire.tell({"event": vars(happening.event), "seen": {happening.file: happening.seen}})


def _chosen(box: BoxPaths, question: Question) -> list[dict[str, Any]]:
    """The jobs that are meant, oldest first."""
    told = supervise.listing(box)
    if question.jobs:
        known = {each["job_id"] for each in told}
        if missing := [job_id for job_id in question.jobs if job_id not in known]:
            raise supervise.Refused(Cause.LOST, f"there is no job {missing[0]} on the box", remedy="`./inv ps --all` lists what there is")
        return [each for each in reversed(told) if each["job_id"] in question.jobs]
    mine = _of_stage(told, question.stage)
    broke_off = time.time() - question.away if question.resume else float("inf")
    under_way = [
        each for each in mine
        if not Status(each["status"]).is_final or each["job_id"] in question.resume or each["ended_at"] >= broke_off
    ]  # fmt: skip
    return [each for each in reversed(mine) if each in under_way] or mine[:1]


def _of_stage(told: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    labels = {each["job_id"]: label_of(each["job_id"], each["run_id"], each["stage"]) for each in told}
    return [each for each in told if not stage or stage in (each["stage"], labels[each["job_id"]])]


def main() -> None:
    """The command line."""
    out = sys.stdout.buffer
    try:
        question = Question.from_json(sys.stdin.read())
        Telling(BoxPaths.of_release(), question, out).tell_all()
    except supervise.Refused as refusal:
        out.write(encode({"error": refusal.words}))
    except TooSlow as error:
        remedy = "a simpler `--grep`: no repetition within another"
        out.write(encode({"error": supervise.Refused(Cause.CONFIG, "--grep cannot be searched for", str(error), remedy).words}))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the laptop has left; so do we


if __name__ == "__main__":
    main()
