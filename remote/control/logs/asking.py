"""One box's answer to a question about its logs, over any number of lost connections: each line once."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from remote.contract.jobs import Cause, Status
from remote.contract.log_query import Question
from remote.control.errors import BoxUnreachable, CloudError, JobFailed, PreflightFailed
from remote.control.jobs.follow import SILENCE_SECONDS, frames_of
from remote.control.jobs.mirror import hole_in_words
from remote.control.logs.told import LOG, Told
from remote.control.transport.base import Transport, last_lines
from remote.control.transport.payload import NO_PYTHON, NOT_DEPLOYED, is_older, no_python, payload_command
from remote.control.transport.persist import FIRST_PAUSE_SECONDS, PATIENCE_SECONDS, persistently

FIRST_SECONDS = 3.0
"""How long a box is tried that was never heard: it may be down."""
ONCE_PATIENCE_SECONDS = 60.0
"""How long it is tried to get back to a box that is not followed."""
SKEW_SECONDS = 2.0
"""A clock that is off by more is corrected for, and told of."""


class Listener:
    """What an answer is told to. Called from the thread that asks."""

    def introduce(self, job: dict[str, Any]) -> None:
        """A job will be told: `job`, `run`, `stage`, `status`."""

    def tell(self, told: Told) -> None:
        """Something of it."""

    def live(self) -> None:
        """What there was is told."""

    def ended(self, job: dict[str, Any], status: Status, why: str) -> None:
        """All of that job is told."""

    def notice(self, text: str) -> None:
        """A word for people."""


class Asking:
    """A question to one box. `jobs` are those that it has told of, by their ids; `resume` is how far each was told."""

    def __init__(self, box: str, root: str, open_transport: Callable[[], Transport], question: Question, to: Listener) -> None:
        self._box, self._root, self._open, self._question, self._to = box, root, open_transport, question, to
        self.jobs: dict[str, dict[str, Any]] = {}
        self.resume: dict[str, int] = dict(question.resume)
        self.ended: set[str] = set()
        self._seen: dict[str, list[int]] = {}
        self._frames = 0
        self._began = time.monotonic()
        self._skew = 0.0

    def ask(self) -> None:
        """Ask until all is told. Raises BoxUnreachable where the box never answers, or no more; BoxStopped where it is gone."""
        deadline = time.monotonic() + FIRST_SECONDS
        while not self._frames:
            try:
                self._attempt()
                return
            except BoxUnreachable:
                if not self._frames and time.monotonic() > deadline:
                    raise
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
        question = replace(self._question, ago=ago, resume=self.resume, seen=self._seen)
        with (
            self._opened() as transport,
            transport.open(payload_command(self._root, "logs.query"), question.to_json().encode(), silence=SILENCE_SECONDS) as stream,
        ):
            for header, content in frames_of(stream, transport.where):
                self._frames += 1
                if self._take(header, content, transport.where):
                    return
        raise self._broken_off(transport.where, stream.exit_code, stream.stderr)

    def _opened(self) -> Transport:
        try:
            return self._open()
        except CloudError as error:
            if not self._frames:
                raise
            # The laptop has no network at all: that may pass, as a lost connection may.
            raise BoxUnreachable(f"box {self._box} cannot be looked for", why=error.what) from None

    def _take(self, header: dict[str, Any], content: bytes, where: str) -> bool:
        if "job" in header:
            self._take_lines(header, content)
        elif "event" in header:
            self._take_event(header)
        elif "jobs" in header:
            self._take_jobs(header)
        elif "live" in header:
            self._to.live()
        elif "ended" in header:
            self._take_end(header)
        elif "error" in header:
            words = header["error"]
            raise JobFailed(words["what"], cause=Cause(words["cause"]), where=where, why=words["why"], remedy=words["remedy"])
        return "end" in header

    def _take_lines(self, header: dict[str, Any], content: bytes) -> None:
        job_id, is_partial = header["job"], "partial" in header
        if "dropped" in header:
            content = hole_in_words(header["dropped"]).encode() + b"\n"
        job = self.jobs[job_id]
        at = header["at"] - self._skew if header["at"] else 0.0
        self._to.tell(Told(at, self._box, job["run"], job_id, job["stage"], LOG, content=content, is_partial=is_partial))
        if not is_partial:
            self.resume[job_id] = header["next"]

    def _take_event(self, header: dict[str, Any]) -> None:
        event = header["event"]
        job = self.jobs.get(event["job"], {})
        at, run = event["time"] - self._skew, job.get("run", "")
        content = event["text"].encode(errors="replace")
        self._to.tell(Told(at, self._box, run, event["job"], "", event["source"], event["level"], content))
        self._seen.update(header["seen"])

    def _take_jobs(self, header: dict[str, Any]) -> None:
        off = header["now"] - time.time()
        if abs(off) > SKEW_SECONDS and not self._skew:
            way = "ahead" if off > 0 else "behind"
            self._to.notice(f"{self._box}: its clock is {abs(off):,.0f} s {way}; times are told by this laptop's")
        self._skew = off if abs(off) > SKEW_SECONDS else 0.0
        for job in header["jobs"]:
            self.resume.setdefault(job["job"], job["next"])
            if job["job"] not in self.jobs:
                self.jobs[job["job"]] = job
                self._to.introduce(job)

    def _take_end(self, header: dict[str, Any]) -> None:
        if header["ended"] not in self.ended:
            self.ended.add(header["ended"])
            why = ". ".join(words for words in (header["what"], header["why"]) if words)
            self._to.ended(self.jobs[header["ended"]], Status(header["status"]), why)

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
        return BoxUnreachable(f"the logs from {where} broke off", where=where, why=why)
