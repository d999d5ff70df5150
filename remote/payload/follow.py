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

from remote.contract.frames import HEARTBEAT_SECONDS, PIECE_BYTES, encode, mark
from remote.contract.jobs import JobState
from remote.contract.paths import BoxPaths, JobPaths
from remote.payload import supervise

POLL_SECONDS = 0.1


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
    last = time.monotonic()
    while True:
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
