"""`run` makes rounds; `tell` asks the one that runs for a fresh reading; `extend CLOCK AMOUNT`
moves a clock of this start, and tells.

`tell` and `extend` print the reading as JSON. They end with code 3 when no watchdog runs.
"""

import argparse
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from remote.payload import process
from remote.payload.watchdog.place import CLOCKS, Place
from remote.payload.watchdog.rounds import SIGNALS, WAKE, Watchdog

NOT_RUNNING = 3
_TELL_SECONDS = 60.0
_START_SECONDS = 30.0
_POLL_SECONDS = 0.02


def main() -> None:
    """The command line of `watchdog.pyz`, which lies in the watchdog's folder."""
    parser = argparse.ArgumentParser(prog="watchdog")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run")
    verbs.add_parser("tell")
    extender = verbs.add_parser("extend")
    extender.add_argument("clock", choices=CLOCKS)
    extender.add_argument("amount", type=float)
    options = parser.parse_args()
    place = Place(Path(sys.argv[0]).resolve().parent)
    if options.verb == "run":
        run(place)
        return
    if options.verb == "extend":
        counted = place.counters()
        place.extend(options.clock, options.amount, counted.session if counted else "")
    sys.exit(tell(place, _START_SECONDS if options.verb == "tell" else 0.0))


def run(place: Place) -> None:
    """Watch, unless another does already."""
    with (place.folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        signal.pthread_sigmask(
            signal.SIG_BLOCK, SIGNALS
        )  # from now on others find it, and may wake it
        if (
            (last := place.reading()) and last.state == "stopping"
        ):  # of an earlier life of the box: nobody may take it for this one's
            (place.folder / "reading.json").unlink()
        lock.truncate(0)
        lock.write(f"{os.getpid()} {process.start_ticks(os.getpid())}")
        lock.flush()
        Watchdog(place).run()


def tell(place: Place, patience_seconds: float = 0.0) -> int:
    """Print a reading that was made after this was called. A watchdog that is only just starting
    gets that patience."""
    for _ in range(2):  # the first may come of a round that was under way already
        if complaint := _waken(place, patience_seconds):
            print(complaint, file=sys.stderr)
            return NOT_RUNNING
    reading = place.reading()
    print(reading.to_json() if reading else "", flush=True)
    return 0


def _waken(place: Place, patience_seconds: float) -> str:
    """Have it make a round; returns nothing, or why that failed."""
    began, before = time.monotonic(), _mark(place)
    while not (pid := _pid(place)):
        if time.monotonic() - began >= patience_seconds:
            return "the watchdog does not run"
        time.sleep(_POLL_SECONDS)
    os.kill(pid, WAKE)
    while _mark(place) == before:
        if (reading := place.reading()) and reading.state == "stopping":
            return ""  # it makes no more rounds
        if not _pid(place) or time.monotonic() - began >= _TELL_SECONDS:
            return "the watchdog does not answer"
        time.sleep(_POLL_SECONDS)
    return ""


def _pid(place: Place) -> int:
    try:
        pid, ticks = map(int, (place.folder / "lock").read_text().split())
    except (OSError, ValueError):
        return 0
    return pid if ticks and process.start_ticks(pid) == ticks else 0


def _mark(place: Place) -> tuple[int, int]:
    try:
        found = (place.folder / "reading.json").stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


if __name__ == "__main__":
    main()
