"""The client of a box's logs: one query, over any number of lost connections, each record once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from remote.contract.files import typed
from remote.contract.job.jobs import Cause, JobState
from remote.contract.logs import job_log
from remote.contract.logs.frames import HEARTBEAT_SECONDS, FrameReader
from remote.contract.logs.query import LOG, METRICS, JobFacts, LogQuery
from remote.contract.telemetry.timeline import Event
from remote.control.errors import BoxUnreachable, CloudError, JobFailed, LoginRefused
from remote.control.jobs.state import state_of
from remote.control.logs.record import LogRecord, LogSink
from remote.control.output.sanitize import sized
from remote.control.retry import PATIENCE_SECONDS, retry_while_unreachable
from remote.control.transport.base import Stream, Transport, deploying
from remote.control.transport.payload import complaint, failure, payload_command, untold

FIRST_SECONDS = 3.0
"""How long a box that never answered is tried: it may be down."""
SILENCE_SECONDS = HEARTBEAT_SECONDS * 5
ONCE_SECONDS, ONCE_PATIENCE_SECONDS = 3600.0, 60.0
"""How long a box that is not followed may take, and how long it is tried to get back to it."""
FRAME_SECONDS = 120.0
"""How long a frame may take, whole: a poor link carries some kilobytes a second, a broken box a
byte now and then."""
MOST_LOG_BYTES = (job_log.KEPT_PARTS + 2) * job_log.PART_BYTES
"""More than a box keeps of the log of one job."""
MOST_JOBS, MOST_RESTARTS = 1000, 100
SKEW_SECONDS = 2.0
"""A clock that is off by more is corrected for, and said so."""
_MOST_SEEN, _FRAME_BYTES = 100, 100
_KNOWN = frozenset(
    ("job", "event", "jobs", "ended", "live", "beat", "end", "error", "restart", "waiting")
)
"""Only a frame of these is progress: what is garbled time and again is none."""

Action = Callable[[], object]


class LogClient:
    """One query to one box, whose records go to a sink.

    `jobs` are those that the box has named, by their ids; `resume` is how far each was read.
    `first_seconds`: how long a box that never answered is tried; 0: as long as one that did, and so
    it is with `waits`, but then the sink is told that there is nothing to wait for yet.
    """

    def __init__(
        self,
        box: str,
        root: str,
        open_transport: Callable[[], Transport],
        query: LogQuery,
        sink: LogSink,
        first_seconds: float = FIRST_SECONDS,
        waits: bool = False,
    ) -> None:
        self._box, self._root, self._open, self._query, self._sink = (
            box,
            root,
            open_transport,
            query,
            sink,
        )
        self._first_seconds, self._waits = first_seconds, waits
        self.jobs: dict[str, JobFacts] = {}
        self.resume: dict[str, dict[str, int]] = {
            job: dict(files) for job, files in query.resume.items()
        }
        self.ended: dict[str, JobState] = {}
        self._seen: dict[str, list[int]] = {}
        self._frames = self._bytes = self._restarts = 0
        self._began = self._heard_at = time.monotonic()
        self._skew = 0.0

    def run(
        self,
        patience_seconds: float = PATIENCE_SECONDS,
        what: str = "",
        kept: str = "",
        remedy: str = "",
    ) -> None:
        """Read until all is read. Raises BoxUnreachable where the box never answers, or no more;
        BoxStopped where it is gone."""
        patience_seconds = (
            patience_seconds if self._query.follow else min(patience_seconds, ONCE_PATIENCE_SECONDS)
        )
        if self._first_seconds and self._read_first():
            return
        retry_while_unreachable(
            self._attempt,
            progress=lambda: self._frames,
            notice=self._notice,
            patience_seconds=patience_seconds,
            what=what,
            remedy=remedy,
            kept=kept or "the jobs go on on the box; nothing that was read is lost",
        )

    def _read_first(self) -> bool:
        """Whether all could be read, while the box was tried for a moment. Raises BoxUnreachable
        where it never answered."""
        try:
            return retry_while_unreachable(self._heard, patience_seconds=self._first_seconds)
        except LoginRefused:
            raise
        except BoxUnreachable:
            if not self._waits:
                raise
        self._sink.live()  # there is nothing to wait for yet
        return False

    def _heard(self) -> bool:
        try:
            self._attempt()
        except BoxUnreachable:
            if not self._frames:
                raise
            return False
        return True

    def _notice(self, text: str) -> None:
        self._sink.notice(f"{self._box}: {text}" if self._box else text)

    def _attempt(self) -> None:
        command, query = (
            payload_command(self._root, "logs.query"),
            self._query_now().to_json().encode(),
        )
        with (
            self._opened() as transport,
            transport.open(command, query, silence=SILENCE_SECONDS) as stream,
        ):
            for header, content in _frames(stream, transport.where):
                self._frames, self._heard_at = (
                    self._frames + (not _KNOWN.isdisjoint(header)),
                    time.monotonic(),
                )
                self._count(len(content) + _FRAME_BYTES, transport.where)
                self._take(header, content, transport.where)
                if "end" in header:
                    return
        raise failure(
            transport.where,
            stream.exit_code,
            stream.stderr,
            f"the logs from {transport.where} broke off",
        )

    def _query_now(self) -> LogQuery:
        copied = self._sink.positions()
        for job in self._query.jobs if copied else ():
            self.resume[job] = {name: offset for name, (offset, _) in copied.items()}
        return replace(
            self._query,
            # What was written while the connection was lost must not fall out of the time that was
            # asked for.
            ago=(
                None
                if self._query.ago is None
                else self._query.ago + time.monotonic() - self._began
            ),
            resume=self.resume,
            marks={name: mark for name, (_, mark) in copied.items()},
            seen=self._seen,
            away=time.monotonic() - self._heard_at,
        )

    def _opened(self) -> Transport:
        try:
            return self._open()
        except CloudError as error:
            if not self._frames:
                raise
            # The laptop has no network at all: that may pass, as a lost connection may.
            raise BoxUnreachable(f"box {self._box} cannot be looked for", why=error.what) from None

    def _count(self, size: int, where: str) -> None:
        """Raise JobFailed where an answer that is not followed has passed a bound: a broken box may
        send without end."""
        self._bytes += size
        most = MOST_LOG_BYTES * max(1, len(self._query.jobs), min(len(self.jobs), MOST_JOBS))
        if self._query.follow or (
            self._bytes <= most and time.monotonic() - self._began <= ONCE_SECONDS
        ):
            return
        is_time = self._bytes <= most
        raise self._endless(
            where,
            (
                f"for more than {ONCE_SECONDS / 60:.0f} minutes"
                if is_time
                else f"more than {sized(most)}"
            ),
        )

    def _endless(self, where: str, bound: str) -> JobFailed:
        name = self._box or self._query.jobs[0]
        return JobFailed(
            "the box sends its logs without end",
            cause=Cause.CODE,
            where=where,
            why=f"it sent {bound}",
            kept="what has arrived",
            remedy=f"`./inv logs {name} --tail 1000`, or `--since 1h`, for a part; `-f` to follow",
        )

    def _take(self, header: dict[str, Any], content: bytes, where: str) -> None:
        """Take a frame. Raises PreflightFailed for what this Windlass does not understand,
        BoxUnreachable for what was not asked for."""
        if "error" in header:
            raise complaint(where, header["error"])
        try:
            action = self._read(header, content, where)
        except (KeyError, ValueError, TypeError) as error:
            raise untold(where, error) from None
        try:
            action()
        except ValueError as error:
            raise _garbled(where, error) from None

    def _read(self, header: dict[str, Any], content: bytes, where: str) -> Action:
        """What is to be done about a frame, all of which has been read. Raises KeyError, ValueError
        or TypeError."""
        readers: dict[str, Callable[[], Action]] = {
            "job": lambda: self._lines(header, content),
            "event": lambda: self._event(header),
            "jobs": lambda: self._jobs(header),
            "ended": lambda: partial(
                self._end, self.jobs[header["ended"]], state_of(header["state"], where)
            ),
            "restart": lambda: partial(
                self._restart, self.jobs[header["restart"]].job, _file_in(header), where
            ),
            "waiting": lambda: self._waiting(header),
            "live": lambda: self._sink.live,
        }
        return next(
            (read for kind, read in readers.items() if kind in header), lambda: lambda: None
        )()

    def _lines(self, header: dict[str, Any], content: bytes) -> Action:
        job, name, is_partial = self.jobs[header["job"]], _file_in(header), "partial" in header
        offset = 0 if is_partial else typed.value(int, header["next"], "next")
        dropped = typed.value(int, header.get("dropped", 0), "dropped")
        record = LogRecord(
            self._here(header["at"]),
            self._box,
            job.run,
            job.job,
            job.stage,
            name,
            content=content,
            next=offset,
            dropped=dropped,
            is_partial=is_partial,
        )

        def take() -> None:
            self._sink.take(record)
            if not is_partial:
                self.resume.setdefault(job.job, {})[name] = offset

        return take

    def _event(self, header: dict[str, Any]) -> Action:
        event, seen = (
            typed.read(Event, header["event"]),
            typed.value(dict[str, list[int]], header["seen"], "seen"),
        )
        if len({*self._seen, *seen}) > _MOST_SEEN:
            raise ValueError(f"more than {_MOST_SEEN} files of events")
        run = self.jobs[event.job].run if event.job in self.jobs else ""
        if event.source in (LOG, METRICS):
            raise ValueError(f"an event of source {event.source}")
        content = event.text.encode(errors="replace")
        record = LogRecord(
            self._here(event.time),
            self._box,
            run,
            event.job,
            "",
            event.source,
            event.level,
            content,
        )

        def take() -> None:
            self._sink.take(record)
            self._seen.update(seen)

        return take

    def _jobs(self, header: dict[str, Any]) -> Action:
        now, jobs = (
            typed.value(float, header["now"], "now"),
            typed.value(list[JobFacts], header["jobs"], "jobs"),
        )
        if len({*self.jobs, *(job.job for job in jobs)}) > MOST_JOBS:
            raise ValueError(f"more than {MOST_JOBS:,} jobs")

        def take() -> None:
            self._set_clock(now - time.time())
            for job in jobs:
                self.resume.setdefault(job.job, {}).setdefault(LOG, job.next)
                if job.job not in self.jobs:
                    self.jobs[job.job] = job
                    self._sink.introduce(job)

        return take

    def _restart(self, job_id: str, name: str, where: str) -> None:
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:  # each may leave a copy behind
            raise self._endless(
                where, f"{self._restarts} logs of one job, each in place of the one before"
            )
        self._sink.restart(job_id, name)
        self.resume.setdefault(job_id, {})[name] = 0

    def _waiting(self, header: dict[str, Any]) -> Action:
        job, place = self.jobs[header["waiting"]], typed.value(int, header["place"], "place")
        why = typed.value(str, header["why"], "why")
        text = (
            f"{job.stage} has place {place} in line for the box's GPU: {why}"
            if place
            else f"it is the turn of {job.stage}"
        )
        return partial(self._sink.notice, text)

    def _end(self, job: JobFacts, state: JobState) -> None:
        if job.job not in self.ended:
            self._sink.ended(job, state)
        self.ended[job.job] = state

    def _here(self, at: Any) -> float:
        """A moment by the box's clock, by this laptop's; 0 where it is not known."""
        moment: float = typed.value(float, at, "at")
        return moment - self._skew if moment else 0.0

    def _set_clock(self, off: float) -> None:
        if abs(off) > SKEW_SECONDS and not self._skew:
            way = "ahead" if off > 0 else "behind"
            self._notice(f"its clock is {abs(off):,.0f} s {way}; times are shown by this laptop's")
        self._skew = off if abs(off) > SKEW_SECONDS else 0.0


def _file_in(header: dict[str, Any]) -> str:
    name: str = typed.value(str, header.get("file", LOG), "file")
    if name not in (LOG, METRICS):
        raise ValueError(f"a file called {name[:80]!r}")
    return name


def _frames(stream: Stream, where: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The frames of a stream. Raises BoxUnreachable where they are garbled: asked again, the box
    may send them whole."""
    reader, since = FrameReader(), time.monotonic()
    for chunk in stream:
        try:
            for frame in reader.feed(chunk):
                yield frame
                since = time.monotonic()
            if time.monotonic() - since > FRAME_SECONDS:
                raise ValueError(f"it took more than {FRAME_SECONDS:g} s over one piece")
        except ValueError as error:
            raise _garbled(where, error) from None


def _garbled(where: str, why: object) -> BoxUnreachable:
    remedy = f"run the same command again; should it stay so: {deploying(where)}"
    return BoxUnreachable(
        f"what {where} sent is garbled", where=where, why=str(why)[:300], remedy=remedy
    )
