"""Writes a job's log: takes what the stage says out of a pipe, masks secrets, keeps files of a
bounded size. Standard library only.

`python3 -m remote.payload.logs.writer FOLDER PIPE`, with `{"secrets": [...]}` on standard input, is
the scribe itself: a process of its own that outlives the supervisor, so that the last lines of a
stage are kept whoever is killed. It ends when nobody can say anything more, or, told by SIGUSR1,
when it has written what was said so far. The files are described in `remote.contract.logs.job_log`.

The stage never waits for a disk: what cannot be written is dropped and counted, and the log says so
once there is room.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from remote.contract.files import untrusted_json
from remote.contract.logs import job_log
from remote.contract.logs.masking import Masker
from remote.payload import process

PIPE_BYTES = 1024 * 1024
TIMES_EVERY_SECONDS = 0.25
RETRY_SECONDS = 0.5
"""How often a disk that refuses is tried again."""

SYNC_SECONDS = 1.0
QUIET_BYTES = 1024 * 1024
"""A log that grows by less than this in SYNC_SECONDS is brought to the disk, so that its last lines
survive a crash of the box."""

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EARLY_SECONDS, PAUSE_SECONDS, MOST_EARLY_DEATHS = 2.0, 0.2, 5
END_SECONDS = 1.0
DRAIN_SECONDS = 10.0
TIMES_BYTES = 4 * 1024 * 1024


# ---- the supervisor's hand ----


class Scribe:
    """A scribe for the log of the job in `folder`, at work from now on. Secrets reach it through a
    pipe.

    ```
    scribe = Scribe(paths.folder, secrets)
    with scribe.stdout_fd() as stdout_fd:
        stage = Popen(..., stdout=stdout_fd, stderr=stdout_fd)
    scribe.look()      whenever a child has ended (SIGCHLD), until the stage has
    scribe.end()
    ```
    """

    def __init__(self, folder: Path, secrets: Sequence[str] = ()) -> None:
        self._folder, self._secrets = folder, list(secrets)
        self._pipe, self._stdout_fd = os.pipe()
        with contextlib.suppress(
            OSError
        ):  # each user has a share of the memory for pipes: without it 64 KiB
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._process, self._started_at, self._early_deaths = self._start(), time.monotonic(), 0

    @contextlib.contextmanager
    def stdout_fd(self) -> Iterator[int]:
        """The file descriptor that a stage started in this block gets as standard output and error.
        Once: it is closed here afterwards."""
        try:
            yield self._stdout_fd
        finally:
            self._shut()

    def look(self) -> None:
        """Have another scribe in place of one that was killed. What is said meanwhile waits in the
        pipe: this end of it stays open."""
        if self._process.poll() is None or _is_over(self._pipe):
            return
        is_early = time.monotonic() - self._started_at < EARLY_SECONDS
        self._early_deaths = self._early_deaths + 1 if is_early else 0
        time.sleep(PAUSE_SECONDS if is_early else 0)
        self._started_at = time.monotonic()
        with contextlib.suppress(OSError):  # no memory for a process: at the next look
            self._process = (
                self._start(again=True)
                if self._early_deaths < MOST_EARLY_DEATHS
                else self._discard()
            )

    def end(self, seconds: float = END_SECONDS) -> None:
        """Wait until all that was said is written. A process that outlived the stage and could go
        on talking is not waited for."""
        self._shut()
        self.look()
        os.close(self._pipe)
        if self._has_ended(seconds):
            return
        self._process.send_signal(signal.SIGUSR1)
        if not self._has_ended(DRAIN_SECONDS):
            # its disk hangs: even this may take for ever, and is not waited for
            self._process.kill()

    def _shut(self) -> None:
        if self._stdout_fd >= 0:
            os.close(self._stdout_fd)
            self._stdout_fd = -1

    def _has_ended(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def _start(self, again: bool = False) -> "subprocess.Popen[bytes]":
        words = [
            sys.executable,
            "-m",
            "remote.payload.logs.writer",
            str(self._folder),
            str(self._pipe),
            *(["--again"] if again else []),
        ]
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, SIGNALS
        )  # until it can take them: it must not die of one that comes early
        try:
            scribe = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[self._pipe],
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert scribe.stdin is not None
        with contextlib.suppress(BrokenPipeError), scribe.stdin as question:
            question.write(json.dumps({"secrets": self._secrets}).encode())
        return scribe

    def _discard(self) -> "subprocess.Popen[bytes]":
        """No scribe can work here, such as where its code was removed: the stage loses its log, and
        goes on."""
        print(
            "the log is discarded: the scribe ended at once, time and again",
            file=sys.stderr,
            flush=True,
        )
        return subprocess.Popen(
            ["cat"], stdin=self._pipe, stdout=subprocess.DEVNULL, start_new_session=True
        )


def _is_over(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))


# ---- the scribe ----


class Log:
    """The files of a log, written at their end. Nothing here fails for want of room: what cannot be
    written is dropped and told."""

    def __init__(
        self,
        folder: Path,
        part_bytes: int = job_log.PART_BYTES,
        kept_parts: int = job_log.KEPT_PARTS,
    ) -> None:
        self._folder, self._part_bytes, self._kept_parts = folder, part_bytes, kept_parts
        self._path = folder / job_log.NAME
        self._file = -1
        self._start = self._size = 0
        self._ends_a_line = True
        self._dropped, self._refused_at, self._why = 0, float("-inf"), ""
        self._noted_at = float("-inf")
        self._unsynced, self._synced_at = 0, time.monotonic()

    def write(self, content: bytes) -> None:
        """Append."""
        if not content or self._is_refused():
            self._dropped += len(content)
            return
        try:
            self._open()
            self._tell_dropped()
            self._note_time()
            while content:
                content = content[self._append(content) :]
                self._rotate()
        except OSError as error:
            self._refused_at, self._why = time.monotonic(), error.strerror or type(error).__name__
            self._dropped += len(content)

    def note(self, text: str) -> None:
        """Append a line of our own, after a line that has no end."""
        with contextlib.suppress(OSError):
            self._open()
        self.write(b"\n" * (not self._ends_a_line) + f"[windlass: {text}]\n".encode())

    def sync(self, is_end: bool = False) -> None:
        """Bring a little that is new to the disk itself; in the end all of it."""
        now = time.monotonic()
        if (
            self._file < 0
            or not self._unsynced
            or (now - self._synced_at < SYNC_SECONDS and not is_end)
        ):
            return
        with contextlib.suppress(OSError):
            if self._unsynced < QUIET_BYTES or is_end:
                os.fdatasync(self._file)
        self._unsynced, self._synced_at = 0, now

    def close(self) -> None:
        """The end."""
        if self._dropped:
            self._refused_at = float("-inf")
            with contextlib.suppress(OSError):
                self._open()
                self._tell_dropped()
        self.sync(is_end=True)

    def _is_refused(self) -> bool:
        return self._dropped > 0 and time.monotonic() - self._refused_at < RETRY_SECONDS

    def _open(self) -> None:
        if self._file >= 0:
            return
        newest = job_log.parts(self._folder)[-1]
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._start, self._size = newest.start, os.fstat(self._file).st_size
        self._ends_a_line = self._size == 0 or os.pread(self._file, 1, self._size - 1) == b"\n"

    def _append(self, content: bytes) -> int:
        written = os.write(self._file, content[: max(1, self._part_bytes - self._size)])
        self._size += written
        self._unsynced += written
        self._ends_a_line = content[written - 1 : written] == b"\n"
        return written

    def _tell_dropped(self) -> None:
        if self._dropped:
            line = f"[windlass: {self._dropped:,} bytes of the log were dropped: {self._why}]\n"
            rest = b"\n" * (not self._ends_a_line) + line.encode()
            while rest:
                rest = rest[self._append(rest) :]
            self._dropped = 0

    def _rotate(self) -> None:
        if self._size < self._part_bytes:
            return
        older = self._folder / job_log.part_name(self._start)
        self._path.replace(older)
        os.close(self._file)
        self._file = -1
        for part in job_log.parts(self._folder)[: -1 - self._kept_parts]:
            part.path.unlink(missing_ok=True)
        self._open()

    def _note_time(self) -> None:
        """When what comes now is written; a few times a second at most."""
        if time.monotonic() - self._noted_at < TIMES_EVERY_SECONDS:
            return
        self._noted_at = time.monotonic()
        with contextlib.suppress(OSError):
            path = job_log.note_time(self._folder, self._start + self._size)
            if path.stat().st_size > TIMES_BYTES:
                _thin(path)


def _thin(path: Path) -> None:
    """Keep every other line: the times of an old log are known less exactly."""
    beside = path.with_name(f".{path.name}.thinned")
    beside.write_text("".join(path.read_text().splitlines(keepends=True)[::2]))
    beside.replace(path)


def work(folder: Path, pipe: int, secrets: Sequence[str], is_another: bool) -> None:
    """Write until nobody can say anything more, or SIGUSR1 tells that nobody should. `is_another`:
    the one before was killed."""
    told: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with _alone(folder):
        log, masker = Log(folder), Masker(secrets)
        if is_another:
            log.note(
                "what wrote this log was killed, and another goes on: up to 1 MiB may be missing"
                " here"
            )
        while content := _next(pipe, log, told):
            log.write(masker.feed(content))
        log.write(masker.end())
        log.close()


def _next(pipe: int, log: Log, told: list[int]) -> bytes:
    """What was said since, once there is something; nothing at the end."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while not poll.poll(0 if told else SYNC_SECONDS * 1000):
        if told:
            return b""
        log.sync()
    log.sync()
    return os.read(pipe, PIPE_BYTES)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One scribe writes a log. One of an earlier attempt that still listens to a process left over
    is ended."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a full disk has no room for a lock either
            _take(held.enter_context((folder / ".scribe.lock").open("ab+")).fileno())
        yield


def _take(lock: int) -> None:
    patience = time.monotonic() + END_SECONDS
    while not _locked(lock):
        if time.monotonic() > patience:
            _end_holder(lock)
        time.sleep(0.02)
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()} {process.start_ticks(os.getpid())}\n".encode())


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _end_holder(lock: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        pid, ticks = map(int, os.pread(lock, 100, 0).split())
        if ticks and process.start_ticks(pid) == ticks:
            os.kill(pid, signal.SIGUSR1)


def main() -> None:
    """The command line."""
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    folder, pipe, *rest = sys.argv[1:]
    secrets = untrusted_json.loads_object(sys.stdin.read())["secrets"]
    work(Path(folder), int(pipe), secrets, is_another=bool(rest))


if __name__ == "__main__":
    main()
