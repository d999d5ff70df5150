"""Follow a job's log and metrics: local files that are exact beginnings of the box's, whatever happens to the connection.

Their sizes say where to go on, so a connection, a command or a laptop may die at any byte: nothing is lost or repeated.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from remote.contract import disk, job_log
from remote.contract.events import Metric
from remote.contract.frames import HEARTBEAT_SECONDS, FrameReader
from remote.contract.jobs import Cause, JobState
from remote.control.errors import BoxUnreachable, JobFailed
from remote.control.jobs.mirror import Mirror, OnText, each_line
from remote.control.jobs.state import state_of
from remote.control.printable import sized
from remote.control.transport.base import Stream, Transport, deploying, last_lines
from remote.control.transport.payload import NOT_DEPLOYED, complaint, is_older, older, payload_command
from remote.control.transport.persist import PATIENCE_SECONDS, persistently

KNOWN = frozenset(("file", "hole", "restart", "beat", "alert", "state"))
SILENCE_SECONDS = HEARTBEAT_SECONDS * 5

ONCE_SECONDS = 3600.0
"""How long a box may take to tell what it has, where it is not followed."""
FRAME_SECONDS = 120.0
"""How long a piece of a log may take, whole: a poor line brings some kilobytes a second, a broken box a byte now and then."""
ONCE_PATIENCE_SECONDS = 60.0
"""How long it is tried then to get back to it."""
MOST_BYTES = (job_log.KEPT_PARTS + 2) * job_log.PART_BYTES
"""More than a box keeps of a job: what is fetched, and not followed, ends within these."""
_FRAME_BYTES = 100

Notice = Callable[[str], None]


def follow(
    open_transport: Callable[[], Transport], box_root: str, job_id: str, log: Path, metrics: Path,
    on_log: OnText | None, on_metric: Callable[[Metric], None], wait: bool = True,
    notice: Notice = lambda text: None, patience_seconds: float = PATIENCE_SECONDS, tail_bytes: int = 0,
) -> JobState:  # fmt: skip
    """Follow a job to its end (or, without `wait`, fetch what there is) and return its state. `tail_bytes`: begin with about the last so
    many of a log of which nothing is here yet.

    `on_log` gets the whole lines that are new to the local file (None: nobody reads along), `on_metric` each measurement. A lost
    connection is made anew, for as long as `patience_seconds` pass without success: then BoxUnreachable. The job goes on whatever
    happens here.
    """
    mirrors = [Mirror("log", log, on_log, notice), Mirror("metrics", metrics, each_line(_measured(on_metric)), notice)]
    bound, patience_seconds = (None, patience_seconds) if wait else (_Bound(), min(patience_seconds, ONCE_PATIENCE_SECONDS))
    flags, heard = [*([] if wait else ["--once"]), *(["--tail", str(tail_bytes)] if tail_bytes else [])], [0]
    try:
        return persistently(
            partial(_attempt, open_transport, box_root, job_id, mirrors, flags, notice, heard, bound), progress=lambda: heard[0],
            notice=notice, patience_seconds=patience_seconds,
            what=f"lost sight of job {job_id}", remedy=f"{_again(log)} when the box answers again",
            kept="the job goes on on the box; every byte that arrived is in the local log",
        )  # fmt: skip
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise _no_space(log) from None
    finally:
        for mirror in mirrors:
            mirror.close()


def _attempt(
    open_transport: Callable[[], Transport], box_root: str, job_id: str, mirrors: list[Mirror], flags: list[str], notice: Notice,
    heard: list[int], bound: "_Bound | None",
) -> JobState:  # fmt: skip
    words = [word for mirror in mirrors for word in mirror.arguments()]
    command = payload_command(box_root, "logs.follow", job_id, *words, *flags)
    with open_transport() as transport, transport.open(command, silence=SILENCE_SECONDS) as stream:
        for header, content in frames_of(stream, transport.where):
            if bound is not None:
                bound.count(len(content) + _FRAME_BYTES, transport.where)
            if "alert" in header:
                notice(str(header["alert"]))
            elif state := _handle(header, content, {mirror.name: mirror for mirror in mirrors}, transport.where):
                return state
            heard[0] += not KNOWN.isdisjoint(header)  # only what could be used: what is garbled time and again is no progress
    raise _broken_off(transport.where, stream.exit_code, stream.stderr)


class _Bound:
    """What a box may send that is asked for what there is: a broken one may send without end."""

    def __init__(self) -> None:
        self._bytes, self._began = 0, time.monotonic()

    def count(self, size: int, where: str) -> None:
        """So many bytes more. Raises JobFailed where that, or the time, is too much."""
        self._bytes += size
        if self._bytes <= MOST_BYTES and time.monotonic() - self._began <= ONCE_SECONDS:
            return
        bound = f"more than {sized(MOST_BYTES)}" if self._bytes > MOST_BYTES else f"for more than {ONCE_SECONDS / 60:.0f} minutes"
        raise JobFailed(
            "the box sends the log without end", cause=Cause.CODE, where=where, why=f"it sent {bound}; no box keeps so much of a job",
            remedy="`./inv logs -f` follows it; `./inv logs --tail 1000` shows its end", kept="what has arrived is in the local log",
        )  # fmt: skip


def frames_of(stream: Stream, where: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The frames of a stream. Raises BoxUnreachable where they are garbled: asked again, the box may send them whole."""
    reader, since = FrameReader(), time.monotonic()
    for chunk in stream:
        try:
            for frame in reader.feed(chunk):
                yield frame
                since = time.monotonic()
            if time.monotonic() - since > FRAME_SECONDS:
                raise ValueError(f"it took more than {FRAME_SECONDS:g} s over one piece")
        except ValueError as error:
            remedy = f"run the same command again; should it stay so: {deploying(where)}"
            raise BoxUnreachable(f"what {where} sent is garbled", where=where, why=str(error), remedy=remedy) from None


def _handle(header: dict[str, Any], content: bytes, mirrors: dict[str, Mirror], where: str) -> JobState | None:
    if "file" in header or "hole" in header:
        _take(header, content, mirrors, where)
    elif "restart" in header:
        _named(header["restart"], mirrors, where).restart()
    elif "error" in header:
        raise complaint(where, header["error"])
    elif "state" in header:
        for mirror in mirrors.values():
            mirror.finish()
        return state_of(header["state"], where)
    return None


def _take(header: dict[str, Any], content: bytes, mirrors: dict[str, Mirror], where: str) -> None:
    try:
        if "hole" in header:
            _named(header["hole"], mirrors, where).skip(int(header["offset"]), int(header["until"]), bool(header.get("wanted")))
        else:
            _named(header["file"], mirrors, where).take(int(header["offset"]), content)
    except (ValueError, TypeError, KeyError) as error:
        raise _unasked(where, error) from None


def _named(name: object, mirrors: dict[str, Mirror], where: str) -> Mirror:
    if not isinstance(name, str) or name not in mirrors:
        raise _unasked(where, f"a file called {name!r}")
    return mirrors[name]


def _unasked(where: str, why: object) -> BoxUnreachable:
    remedy = f"run the same command again; should it stay so: {deploying(where)}"
    return BoxUnreachable(f"what {where} sent is not what was asked for", where=where, why=str(why)[:300], remedy=remedy)


def _measured(on_metric: Callable[[Metric], None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        with contextlib.suppress(ValueError, TypeError):
            on_metric(Metric.from_line(line))

    return on_line


def _broken_off(where: str, exit_code: int, stderr: bytes) -> Exception:
    why = f"exit code {exit_code}: {last_lines(stderr)}"
    if is_older(stderr):
        return older(where)
    if exit_code == NOT_DEPLOYED or b"Error" in stderr:
        remedy = "`./inv deploy`, then the same command"
        return JobFailed("the job cannot be followed", cause=Cause.CODE, where=where, why=why, remedy=remedy)
    return BoxUnreachable(f"the log from {where} broke off", where=where, why=why, remedy="run the same command again")


def _no_space(log: Path) -> JobFailed:
    return JobFailed(
        "this laptop's disk is full", cause=Cause.DISK_FULL, where=str(log.parent), remedy=f"free space, then {_again(log)}",
        kept="the job goes on on the box; what has arrived is in the local log",
    )  # fmt: skip


def _again(log: Path) -> str:
    return f"`./inv logs {log.parents[1].name} -f`"  # RUN/logs/STAGE.log
