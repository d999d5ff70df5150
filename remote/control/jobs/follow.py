"""Follow a job's log and metrics: local files that are exact beginnings of the box's, whatever happens to the connection.

Their sizes say where to go on, so a connection, a command or a laptop may die at any byte: nothing is lost or repeated.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from remote.contract import disk
from remote.contract.events import Metric
from remote.contract.frames import HEARTBEAT_SECONDS, FrameReader, mark
from remote.contract.jobs import Cause, JobState
from remote.control.errors import BoxUnreachable, JobFailed, LoginRefused
from remote.control.transport.base import Transport, last_lines
from remote.control.transport.payload import NOT_DEPLOYED, payload_command

SILENCE_SECONDS = HEARTBEAT_SECONDS * 5
PATIENCE_SECONDS = 600.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 15.0

Notice = Callable[[str], None]


class Mirror:
    """A local file that is a byte-exact beginning of one on the box, and its lines as they become whole.

    Bytes are written at their own offset, so two commands that follow one job into one file write the same thing twice.
    """

    def __init__(self, name: str, path: Path, on_line: Callable[[str], None], notice: Notice) -> None:
        self.name, self.path, self._on_line, self._notice = name, path, on_line, notice
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.offset = os.fstat(self._file).st_size
        self._rest = self._unfinished_line()

    def take(self, offset: int, content: bytes) -> None:
        """Take a piece of the box's file. Raises ValueError for one that would leave a gap."""
        if offset > self.offset:
            raise ValueError(f"{self.name}: the box sent byte {offset}, byte {self.offset} is next")
        fresh = memoryview(content)[self.offset - offset :]
        while fresh:
            written = os.pwrite(self._file, fresh, self.offset)
            self.offset += written
            self._give_lines(bytes(fresh[:written]))
            fresh = fresh[written:]

    def restart(self) -> None:
        """The box's file is another one now: set ours aside and begin anew."""
        aside = _free_name(self.path)
        shutil.copyfile(self.path, aside)
        os.ftruncate(self._file, 0)
        self.offset, self._rest = 0, b""
        self._notice(f"the box's {self.name} is another file now: beginning anew, the old one is kept as {aside.name}")

    def finish(self) -> None:
        """Give the last line, should it have no end."""
        if self._rest:
            self._on_line(self._rest.decode(errors="replace"))
            self._rest = b""

    def close(self) -> None:
        """Close the local file."""
        os.close(self._file)

    def arguments(self) -> tuple[str, str]:
        """What the box needs to go on: offset and mark."""
        return str(self.offset), mark(self.path, self.offset) or "none"

    def _give_lines(self, content: bytes) -> None:
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))

    def _unfinished_line(self) -> bytes:
        rest = b""
        at = self.offset
        while at > 0 and b"\n" not in rest:
            start = max(0, at - 65536)
            rest = os.pread(self._file, at - start, start) + rest
            at = start
        return rest.rsplit(b"\n", 1)[-1]


def follow(
    open_transport: Callable[[], Transport], box_root: str, job_id: str, log: Path, metrics: Path,
    on_log: Callable[[str], None], on_metric: Callable[[Metric], None], wait: bool = True,
    notice: Notice = lambda text: None, patience_seconds: float = PATIENCE_SECONDS,
) -> JobState:  # fmt: skip
    """Follow a job to its end (or, without `wait`, fetch what there is) and return its state.

    `on_log` gets each whole line that is new to the local file, `on_metric` each measurement. A lost connection is made anew,
    for as long as `patience_seconds` pass without success: then BoxUnreachable. The job goes on whatever happens here.
    """
    mirrors = [Mirror("log", log, on_log, notice), Mirror("metrics", metrics, _measured(on_metric), notice)]
    try:
        attempt = partial(_attempt, open_transport, box_root, job_id, mirrors, wait, notice)
        return _persistently(attempt, mirrors, job_id, notice, patience_seconds)
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise _no_space(log) from None
    finally:
        for mirror in mirrors:
            mirror.close()


def _persistently(attempt: Callable[[], JobState], mirrors: list[Mirror], job_id: str, notice: Notice, patience_seconds: float) -> JobState:
    pause, heard_at, had = FIRST_WAIT_SECONDS, time.monotonic(), _received(mirrors)
    while True:
        try:
            return attempt()
        except LoginRefused:
            raise
        except (BoxUnreachable, ValueError) as error:
            if _received(mirrors) != had:
                pause, heard_at, had = FIRST_WAIT_SECONDS, time.monotonic(), _received(mirrors)
            if time.monotonic() - heard_at > patience_seconds:
                raise _given_up(error, job_id, mirrors[0].path) from None
            notice(f"connection lost ({getattr(error, 'why', '') or error}): trying again in {pause:g} s; the job goes on on the box")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_WAIT_SECONDS)


def _received(mirrors: list[Mirror]) -> list[int]:
    return [mirror.offset for mirror in mirrors]


def _attempt(
    open_transport: Callable[[], Transport], box_root: str, job_id: str, mirrors: list[Mirror], wait: bool, notice: Notice,
) -> JobState:  # fmt: skip
    words = [word for mirror in mirrors for word in mirror.arguments()]
    command = payload_command(box_root, "follow", job_id, *words, *([] if wait else ["--once"]))
    reader = FrameReader()
    with open_transport() as transport, transport.open(command, silence=SILENCE_SECONDS) as stream:
        for chunk in stream:
            for header, content in reader.feed(chunk):
                if "alert" in header:
                    notice(str(header["alert"]))
                elif state := _handle(header, content, {mirror.name: mirror for mirror in mirrors}, transport.where):
                    return state
    raise _broken_off(transport.where, stream.exit_code, stream.stderr)


def _handle(header: dict[str, Any], content: bytes, mirrors: dict[str, Mirror], where: str) -> JobState | None:
    if "file" in header:
        mirrors[header["file"]].take(header["offset"], content)
    elif "restart" in header:
        mirrors[header["restart"]].restart()
    elif "error" in header:
        words = header["error"]
        raise JobFailed(words["what"], cause=Cause(words["cause"]), where=where, why=words["why"], remedy=words["remedy"])
    elif "state" in header:
        for mirror in mirrors.values():
            mirror.finish()
        return JobState.from_json(json.dumps(header["state"]))
    return None


def _measured(on_metric: Callable[[Metric], None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        with contextlib.suppress(ValueError, TypeError):
            on_metric(Metric.from_line(line))

    return on_line


def _broken_off(where: str, exit_code: int, stderr: bytes) -> Exception:
    why = f"exit code {exit_code}: {last_lines(stderr)}"
    if exit_code == NOT_DEPLOYED or b"Error" in stderr:
        remedy = "`./inv deploy`, then the same command"
        return JobFailed("the job cannot be followed", cause=Cause.CODE, where=where, why=why, remedy=remedy)
    return BoxUnreachable(f"the log from {where} broke off", where=where, why=why)


def _given_up(error: Exception, job_id: str, log: Path) -> BoxUnreachable:
    where, why = getattr(error, "where", ""), getattr(error, "why", "") or str(error)
    return BoxUnreachable(
        f"lost sight of job {job_id}", where=where, why=why, kept="the job goes on on the box; every byte that arrived is in the local log",
        remedy=f"{_again(log)} when the box answers again",
    )  # fmt: skip


def _no_space(log: Path) -> JobFailed:
    return JobFailed(
        "this laptop's disk is full", cause=Cause.DISK_FULL, where=str(log.parent), remedy=f"free space, then {_again(log)}",
        kept="the job goes on on the box; what has arrived is in the local log",
    )  # fmt: skip


def _again(log: Path) -> str:
    return f"`./inv logs {log.parents[1].name} -f`"  # RUN/logs/STAGE.log


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return aside
