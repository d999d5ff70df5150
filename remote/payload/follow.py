"""Streams a job's log and metrics to the laptop, from where it left off until the job has ended. Standard library only.

Arguments: JOB_ID, then for log and for metrics an offset and the mark of the laptop's bytes before it; `--once` ends without
waiting for the job. The frames are described in `remote.contract.frames`.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from remote.contract.clocks import Reading
from remote.contract.frames import HEARTBEAT_SECONDS, PIECE_BYTES, encode, mark
from remote.contract.jobs import JobState
from remote.contract.paths import BoxPaths, JobPaths
from remote.payload import supervise

POLL_SECONDS = 0.1
WATCHDOGS = (Path("/var/lib/windlass"), Path.home() / ".windlass-box")
"""Where the box's watchdog writes how its clocks stand; see `remote.payload.watchdog`."""

_STALE_TICKS = 4


class Source:
    """One growing file and how much of it has been sent. It is looked up by name each time: it may come late, or be replaced."""

    def __init__(self, name: str, path: Path, offset: int, known: str, out: BinaryIO) -> None:
        self.name, self.path, self.offset, self._out = name, path, offset, out
        self._file: BinaryIO | None = None
        if offset and mark(path, offset) != known:
            self._restart()

    def send_new(self) -> bool:
        """Send what is there beyond the offset; returns whether that was anything."""
        if not self._is_open():
            return False
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self.offset:
            self._restart()
        start = self.offset
        while piece := os.pread(self._file.fileno(), PIECE_BYTES, self.offset):
            self._out.write(encode({"file": self.name, "offset": self.offset}, piece))
            self.offset += len(piece)
        self._out.flush()
        return self.offset > start

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _is_open(self) -> bool:
        if self._file is not None and not self._is_replaced(self._file):
            return True
        with contextlib.suppress(FileNotFoundError):
            fresh = self.path.open("rb")
            if self._file is not None:
                self.close()
                self._restart()
            self._file = fresh
        return self._file is not None

    def _is_replaced(self, file: BinaryIO) -> bool:
        try:
            return self.path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _restart(self) -> None:
        self.offset = 0
        self._out.write(encode({"restart": self.name}))


def follow(paths: JobPaths, sources: list[Source], out: BinaryIO, once: bool) -> None:
    """Send everything until the job's state is final and every byte before that is sent; then the state."""
    last, alerted_at, alerted = time.monotonic(), float("-inf"), ""
    while True:
        if time.monotonic() - alerted_at >= HEARTBEAT_SECONDS:
            alerted_at, alerted = time.monotonic(), _tell(alerted, out)
        state = _state(paths)
        ended = once or state.status.is_final
        sent = [source.send_new() for source in sources]
        if ended:
            for source in sources:
                source.close()
            out.write(encode({"state": json.loads(state.to_json())}))
            out.flush()
            return
        if any(sent):
            last = time.monotonic()
        elif time.monotonic() - last >= HEARTBEAT_SECONDS:
            out.write(encode({"beat": True}))
            out.flush()
            last = time.monotonic()
        time.sleep(POLL_SECONDS)


def _tell(before: str, out: BinaryIO) -> str:
    """Send what the watchdog is alarmed about, once; returns what that is."""
    reading = newest_reading()
    kind, text = alert(reading) if reading else ("", "")
    if kind and kind != before:
        out.write(encode({"alert": text}))
        out.flush()
    return kind


def newest_reading() -> Reading | None:
    """How the box's clocks stand; None where no watchdog tells, or none has for long."""
    for folder in WATCHDOGS:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            reading = Reading.from_json((folder / "reading.json").read_text())
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


def _state(paths: JobPaths) -> JobState:
    return supervise.status(BoxPaths(paths.folder.parent.parent), paths.folder.name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="follow")
    parser.add_argument("job_id")
    for name in ("log", "metrics"):
        parser.add_argument(f"{name}_offset", type=int)
        parser.add_argument(f"{name}_mark")
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    out = sys.stdout.buffer
    try:
        supervise.status(BoxPaths.of_release(), options.job_id)
        paths = BoxPaths.of_release().job(options.job_id)
        log = Source("log", paths.log, options.log_offset, options.log_mark, out)
        metrics = Source("metrics", paths.metrics, options.metrics_offset, options.metrics_mark, out)
        follow(paths, [log, metrics], out, options.once)
    except supervise.Refused as refusal:
        out.write(encode({"error": refusal.words}))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the laptop has left; so do we


if __name__ == "__main__":
    main()
