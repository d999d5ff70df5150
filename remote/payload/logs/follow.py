"""Streams a job's log and metrics to the laptop, from where it left off until the job has ended. Standard library only.

Arguments: JOB_ID, then for log and for metrics an offset and the mark of the laptop's bytes before it; `--once` ends without
waiting for the job, `--tail BYTES` leaves out all but about the last so many of a log of which the laptop has nothing. The frames are
described in `remote.contract.frames`.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from remote.contract import job_log, regular_files, untrusted_json
from remote.contract.clocks import Reading
from remote.contract.frames import HEARTBEAT_SECONDS, MARK_BYTES, PIECE_BYTES, encode, mark, marked_bytes
from remote.contract.jobs import JobState
from remote.contract.paths import BoxPaths, JobPaths
from remote.payload.jobs import supervise
from remote.payload.telemetry.happenings import WATCHDOGS, Warnings

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.1
ROUND_BYTES = 4 * 1024 * 1024
"""How much of one file is sent before the other has its turn."""

_STALE_TICKS = 4


class Source:
    """One growing file, rotated perhaps (see `remote.contract.job_log`), and how much of it has been sent. It may come late, or be
    replaced. `known` is the mark of what the laptop has before `offset`."""

    def __init__(self, name: str, path: Path, offset: int, known: str, out: BinaryIO) -> None:
        self.name, self.path, self.offset, self._out = name, path, offset, out
        self._known, self._before = known, b""
        self._file, self._start, self._inode = -1, 0, 0
        self._looked_at = float("-inf")

    def send_new(self) -> int:
        """Send what is there beyond the offset, about ROUND_BYTES at most; returns how many bytes that was."""
        sent = 0
        while sent < ROUND_BYTES and (piece := self._next()):
            self._out.write(encode({"file": self.name, "offset": self.offset}, piece))
            self.offset += len(piece)
            self._before = piece[-MARK_BYTES:]
            sent += len(piece)
        self._out.flush()
        return sent

    def end(self) -> int:
        """The offset behind the last byte that is there now."""
        return job_log.parts(self.path.parent, self.path.name)[-1].end

    def begin_near_end(self, size: int) -> None:
        """Leave out what is there but the last lines, `size` bytes at most."""
        begin = max(0, self.end() - size)
        begin, content = job_log.read(self.path.parent, begin, size)
        if not self.offset and begin:
            self._skip(begin + content.find(b"\n") + 1, is_wanted=True)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _next(self) -> bytes:
        if self._file >= 0 and (piece := self._read()):
            return piece
        return self._read() if self._is_passed() and self._open() else b""

    def _read(self) -> bytes:
        return os.pread(self._file, PIECE_BYTES, self.offset - self._start)

    def _is_passed(self) -> bool:
        """Whether there may be more than the open file has: it was rotated or replaced, or is shorter than it was."""
        if self._file < 0:
            return True
        if os.fstat(self._file).st_size < self.offset - self._start:
            return True
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return False

    def _open(self) -> bool:
        """Open the part that holds the byte to go on from; returns whether it is there."""
        if not self.path.exists() and time.monotonic() - self._looked_at < HEARTBEAT_SECONDS:
            return False  # not written yet, and to look for its parts each time would cost
        self._looked_at = time.monotonic()
        kept = job_log.parts(self.path.parent, self.path.name)
        if not kept[-1].inode and len(kept) == 1:
            return False  # nothing was written yet, or it is about to be replaced
        if self.offset and not self._goes_on(kept):
            self._restart()
        part = next((part for part in kept if self.offset < part.end), kept[-1])
        try:
            with job_log.opened(part) as descriptor:
                self.close()
                self._file, self._start, self._inode = os.dup(descriptor), part.start, part.inode
        except FileNotFoundError:
            return False
        if self.offset < part.start:
            self._skip(part.start)
        return True

    def _goes_on(self, kept: list[job_log.Part]) -> bool:
        """Whether these are the files whose beginning the laptop has; so it seems where the bytes to compare were dropped."""
        count = len(self._before) or marked_bytes(self._known)
        if count < 0 or self.offset > kept[-1].end:
            return False
        if self.offset - count < kept[0].start:
            return True
        before = job_log.between(self.path.parent, self.offset - count, self.offset, self.path.name)
        return before is None or (before == self._before if self._before else mark(self.offset, before) == self._known)

    def _skip(self, until: int, is_wanted: bool = False) -> None:
        self._out.write(encode({"hole": self.name, "offset": self.offset, "until": until, "wanted": is_wanted}))
        self.offset, self._before, self._known = until, b"", mark(until, b"")

    def _restart(self) -> None:
        self.offset, self._before, self._known = 0, b"", ""
        self._out.write(encode({"restart": self.name}))


def follow(paths: JobPaths, sources: list[Source], out: BinaryIO, once: bool) -> None:
    """Send everything until the job's state is final and every byte before that is sent; then the state. `once`: do not wait for that."""
    heard, alerts, watcher = time.monotonic(), Alerts(out, Warnings(paths, sources[0].offset)), StateWatch(paths)
    ends: list[int] = []
    while True:
        state = watcher.look()
        alerts.look(state)
        alerts.tell_place(state)
        if not ends and (once or state.status.is_final):
            ends = [source.end() for source in sources]  # whoever goes on writing now is not waited for
        sent = [source.send_new() for source in sources]
        if ends and all(source.offset >= min(end, source.end()) for source, end in zip(sources, ends, strict=True)):
            break
        if any(sent):
            heard = time.monotonic()
        elif time.monotonic() - heard >= HEARTBEAT_SECONDS:
            out.write(encode({"beat": True}))
            out.flush()
            heard = time.monotonic()
        if max(sent) < ROUND_BYTES:  # a little at a time would cost a processor
            time.sleep(POLL_SECONDS)
    for source in sources:
        source.close()
    out.write(encode({"state": state.to_dict()}))
    out.flush()


class StateWatch:
    """How the job stands, looked at now and then."""

    def __init__(self, paths: JobPaths) -> None:
        self._box, self._job_id = BoxPaths(paths.folder.parent.parent), paths.folder.name
        self._looked_at, self._state = float("-inf"), JobState(self._job_id, "")

    def look(self) -> JobState:
        """The state, of LOOK_SECONDS ago at most."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._state, self._looked_at = supervise.status(self._box, self._job_id), time.monotonic()
        return self._state


class Alerts:
    """What the watchdog is alarmed about, what kernel and GPU warn of, and where in line the job stands; each told once."""

    def __init__(self, out: BinaryIO, warnings: Warnings) -> None:
        self._out, self._warnings = out, warnings
        self._looked_at, self._kind, self._place = float("-inf"), "", ""

    def look(self, state: JobState) -> None:
        """Send what is new for who follows a job that stands so, now and then."""
        if time.monotonic() - self._looked_at < HEARTBEAT_SECONDS:
            return
        self._looked_at = time.monotonic()
        reading = newest_reading()
        kind, text = alert(reading) if reading else ("", "")
        if kind and kind != self._kind:
            self._tell(text)
        self._kind = kind
        for warning in self._warnings.new(state):
            self._tell(warning)

    def tell_place(self, state: JobState) -> None:
        """Send where in line the job stands, when that has changed."""
        place = f"place {state.place} in line for the box's GPU: {state.why}" if state.place else ""
        if place != self._place and not state.status.is_final:
            self._tell(place or "its turn has come")
        self._place = place

    def _tell(self, text: str) -> None:
        self._out.write(encode({"alert": text}))
        self._out.flush()


def newest_reading() -> Reading | None:
    """How the box's clocks stand; None where no watchdog tells, or none has for long."""
    for folder in WATCHDOGS:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            reading = Reading.from_json(regular_files.content_of(folder / "reading.json", untrusted_json.RECORD_BYTES))
            if time.time() - reading.at < _STALE_TICKS * reading.limits.tick:
                return reading
    return None


def alert(reading: Reading) -> tuple[str, str]:
    """What a follower must hear, and a name by which it is known again; both empty while all is well."""
    if reading.state == "stopping":
        why = reading.notice or f"its {reading.stops_by} clock has run out"
        return f"stopping {reading.stops_by}", f"the box is going away: {why}; its jobs are told, and what they keep is brought to safety"
    if reading.state != "stuck":
        return "", ""
    then = f"the box stops in {reading.stops_in / 60:.0f} min" if reading.stops_by == "stuck" else "the box stays up for its other jobs"
    what = f"job {reading.stuck_job} has shown no sign of life for {reading.stuck_for / 60:.0f} min"
    return f"stuck {reading.stuck_job}", f"STUCK: {what}; {then}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="follow")
    parser.add_argument("job_id")
    for name in ("log", "metrics"):
        parser.add_argument(f"{name}_offset", type=int)
        parser.add_argument(f"{name}_mark")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--tail", type=int, default=0)
    options = parser.parse_args()
    out = sys.stdout.buffer
    try:
        supervise.status(BoxPaths.of_release(), options.job_id)
        paths = BoxPaths.of_release().job(options.job_id)
        log = Source("log", paths.log, options.log_offset, options.log_mark, out)
        if options.tail and not options.log_offset:
            log.begin_near_end(options.tail)
        metrics = Source("metrics", paths.metrics, options.metrics_offset, options.metrics_mark, out)
        follow(paths, [log, metrics], out, options.once)
    except supervise.Refused as refusal:
        out.write(encode({"error": refusal.words}))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the laptop has left; so do we


if __name__ == "__main__":
    main()
