"""One box's answer to a question about its logs, over any number of lost connections: each line once."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from remote.contract import job_log, typed
from remote.contract.jobs import Cause, Status
from remote.contract.log_query import JobFacts, Question
from remote.contract.timeline import Event
from remote.control.errors import BoxUnreachable, CloudError, JobFailed, PreflightFailed
from remote.control.jobs.follow import ONCE_PATIENCE_SECONDS, ONCE_SECONDS, SILENCE_SECONDS, frames_of
from remote.control.jobs.mirror import hole_in_words
from remote.control.logs.told import LOG, Told
from remote.control.printable import sized
from remote.control.transport.base import Transport, last_lines
from remote.control.transport.payload import NO_PYTHON, NOT_DEPLOYED, complaint, is_older, no_python, payload_command, untold
from remote.control.transport.persist import FIRST_PAUSE_SECONDS, PATIENCE_SECONDS, persistently

FIRST_SECONDS = 3.0
"""How long a box is tried that was never heard: it may be down."""
MOST_LOG_BYTES = (job_log.KEPT_PARTS + 2) * job_log.PART_BYTES
"""More than a box keeps of the log of one job."""
MOST_JOBS = 1000
_MOST_SEEN, _FRAME_BYTES = 100, 100
_KNOWN = frozenset(("job", "event", "jobs", "ended", "live", "beat", "end", "error"))
SKEW_SECONDS = 2.0
"""A clock that is off by more is corrected for, and told of."""


class Listener:
    """What an answer is told to. Called from the thread that asks."""

    def introduce(self, job: JobFacts) -> None:
        """A job will be told."""

    def tell(self, told: Told) -> None:
        """Something of it."""

    def live(self) -> None:
        """What there was is told."""

    def ended(self, job: JobFacts, status: Status, why: str) -> None:
        """All of that job is told."""

    def notice(self, text: str) -> None:
        """A word for people."""


class Asking:
    """A question to one box. `jobs` are those that it has told of, by their ids; `resume` is how far each was told. `waits`: one that was
    never heard is waited for as one that was."""

    def __init__(
        self, box: str, root: str, open_transport: Callable[[], Transport], question: Question, to: Listener, waits: bool = False
    ) -> None:
        self._box, self._root, self._open, self._question, self._to, self._waits = box, root, open_transport, question, to, waits
        self.jobs: dict[str, JobFacts] = {}
        self.resume: dict[str, int] = dict(question.resume)
        self.ended: set[str] = set()
        self._seen: dict[str, list[int]] = {}
        self._frames = 0
        self._began = self._heard_at = time.monotonic()
        self._skew = 0.0
        self._bytes = 0

    def ask(self) -> None:
        """Ask until all is told. Raises BoxUnreachable where the box never answers, or no more; BoxStopped where it is gone."""
        deadline = time.monotonic() + FIRST_SECONDS
        while not self._frames:
            try:
                self._attempt()
                return
            except BoxUnreachable:
                if not self._frames and time.monotonic() > deadline:
                    if not self._waits:
                        raise
                    self._to.live()  # the others wait for it no longer
                    break
            time.sleep(FIRST_PAUSE_SECONDS)
        patience = PATIENCE_SECONDS if self._question.follow else ONCE_PATIENCE_SECONDS
        persistently(
            self._attempt, progress=lambda: self._frames, notice=lambda text: self._to.notice(f"{self._box}: {text}"),
            patience_seconds=patience, kept="the jobs go on on the box; nothing that was told is lost",
        )  # fmt: skip

    def _attempt(self) -> None:
        since = self._question.ago
        # What was written while the connection was lost must not fall out of the time that was asked for.
        ago = None if since is None else since + time.monotonic() - self._began
        question = replace(self._question, ago=ago, resume=self.resume, seen=self._seen, away=time.monotonic() - self._heard_at)
        with (
            self._opened() as transport,
            transport.open(payload_command(self._root, "logs.query"), question.to_json().encode(), silence=SILENCE_SECONDS) as stream,
        ):
            for header, content in frames_of(stream, transport.where):
                self._frames, self._heard_at = self._frames + (not _KNOWN.isdisjoint(header)), time.monotonic()
                self._count(len(content) + _FRAME_BYTES, transport.where)
                if self._take(header, content, transport.where):
                    return
        raise self._broken_off(transport.where, stream.exit_code, stream.stderr)

    def _count(self, size: int, where: str) -> None:
        """Raise JobFailed where an answer that is no following has passed a bound: a box may tell without end."""
        self._bytes += size
        most = MOST_LOG_BYTES * max(1, len(self._question.jobs), min(len(self.jobs), MOST_JOBS))
        seconds = time.monotonic() - self._began
        if self._question.follow or (self._bytes <= most and seconds <= ONCE_SECONDS):
            return
        bound = f"more than {sized(most)}, all that a box keeps" if self._bytes > most else f"for more than {ONCE_SECONDS / 60:.0f} minutes"
        raise JobFailed(
            "the box tells its logs without end", cause=Cause.CODE, where=where, why=f"it told {bound}",
            remedy=f"`./inv logs {self._box} --tail 1000`, or `--since 1h`, for a part; `-f` to follow", kept="what was told is above",
        )  # fmt: skip

    def _opened(self) -> Transport:
        try:
            return self._open()
        except CloudError as error:
            if not self._frames:
                raise
            # The laptop has no network at all: that may pass, as a lost connection may.
            raise BoxUnreachable(f"box {self._box} cannot be looked for", why=error.what) from None

    def _take(self, header: dict[str, Any], content: bytes, where: str) -> bool:
        """Take a frame; returns whether it was the last. Raises PreflightFailed for what this Windlass does not understand."""
        if "error" in header:
            raise complaint(where, header["error"])
        try:
            telling = self._understood(header, content)
        except (KeyError, ValueError, TypeError) as error:
            raise untold(where, error) from None
        telling()
        return "end" in header

    def _understood(self, header: dict[str, Any], content: bytes) -> Callable[[], None]:
        """What is to be done about a frame, all of which has been read. Raises KeyError, ValueError or TypeError."""
        if "job" in header:
            return self._lines(header, content)
        if "event" in header:
            return self._event(header)
        if "jobs" in header:
            return self._jobs(typed.value(float, header["now"], "now"), typed.value(list[JobFacts], header["jobs"], "jobs"))
        if "ended" in header:
            return self._end(header)
        return self._to.live if "live" in header else lambda: None

    def _lines(self, header: dict[str, Any], content: bytes) -> Callable[[], None]:
        if "dropped" in header:
            content = hole_in_words(typed.value(int, header["dropped"], "dropped")).encode() + b"\n"
        job, is_partial = self.jobs[header["job"]], "partial" in header
        at, following = self._here(header["at"]), 0 if is_partial else typed.value(int, header["next"], "next")
        told = Told(at, self._box, job.run, job.job, job.stage, LOG, content=content, is_partial=is_partial)

        def tell() -> None:
            self._to.tell(told)
            if not is_partial:
                self.resume[job.job] = following

        return tell

    def _event(self, header: dict[str, Any]) -> Callable[[], None]:
        event, seen = typed.read(Event, header["event"]), typed.value(dict[str, list[int]], header["seen"], "seen")
        if len({*self._seen, *seen}) > _MOST_SEEN:
            raise ValueError(f"more than {_MOST_SEEN} files of events")
        run = self.jobs[event.job].run if event.job in self.jobs else ""
        content = event.text.encode(errors="replace")
        told = Told(self._here(event.time), self._box, run, event.job, "", event.source, event.level, content)

        def tell() -> None:
            self._to.tell(told)
            self._seen.update(seen)

        return tell

    def _jobs(self, now: float, jobs: list[JobFacts]) -> Callable[[], None]:
        if len({*self.jobs, *(job.job for job in jobs)}) > MOST_JOBS:
            raise ValueError(f"more than {MOST_JOBS:,} jobs")

        def take() -> None:
            self._set_clock(now - time.time())
            for job in jobs:
                self.resume.setdefault(job.job, job.next)
                if job.job not in self.jobs:
                    self.jobs[job.job] = job
                    self._to.introduce(job)

        return take

    def _end(self, header: dict[str, Any]) -> Callable[[], None]:
        job, status = self.jobs[header["ended"]], Status(header["status"])
        why = ". ".join(str(words) for words in (header["what"], header["why"]) if words)

        def tell() -> None:
            if job.job not in self.ended:
                self.ended.add(job.job)
                self._to.ended(job, status, why)

        return tell

    def _here(self, at: Any) -> float:
        """A moment that the box told, by this laptop's clock; 0 where it is not known."""
        moment: float = typed.value(float, at, "at")
        return moment - self._skew if moment else 0.0

    def _set_clock(self, off: float) -> None:
        if abs(off) > SKEW_SECONDS and not self._skew:
            way = "ahead" if off > 0 else "behind"
            self._to.notice(f"{self._box}: its clock is {abs(off):,.0f} s {way}; times are told by this laptop's")
        self._skew = off if abs(off) > SKEW_SECONDS else 0.0

    def _broken_off(self, where: str, exit_code: int, stderr: bytes) -> Exception:
        remedy, why = f"`./inv deploy {self._box}`, then the same command", f"exit code {exit_code}: {last_lines(stderr)}"
        if exit_code == NOT_DEPLOYED:
            return PreflightFailed("nothing is deployed on the box yet", where=where, remedy=remedy)
        if exit_code == NO_PYTHON:
            return no_python(where, why)
        if is_older(stderr):
            return PreflightFailed("the code on the box is of an older Windlass, and cannot tell its logs", where=where, remedy=remedy)
        if b"Error" in stderr:
            return JobFailed("the logs cannot be told", cause=Cause.CODE, where=where, why=why, remedy=remedy)
        return BoxUnreachable(f"the logs from {where} broke off", where=where, why=why, remedy="run the same command again")
