"""A box over the system's `ssh`, by one connection that outlives the command: OpenSSH's ControlMaster.

`ssh -M -N -f` logs in once, and stays for some minutes after its last use; each command is a session over its socket, which takes
one process and no login. The rules are those of everywhere: the pinned host key or nothing, no question that nobody can answer.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import select
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from remote.control import project
from remote.control.errors import BoxUnreachable, HostKeyMismatch, LaptopError, LoginRefused
from remote.control.transport.base import Feeder, Result, Stdin, Tail, last_lines, run_to_end
from remote.control.transport.dial import until_greeted
from remote.control.transport.login_shell import Opening

PERSIST_SECONDS = 600
_LANE_PERSIST_SECONDS = 5
_LONGEST_PATH, _NAME_BYTES = 86, 18  # of 104 on macOS; ssh makes the socket under a name that is longer by 17, then renames it
_CHUNK_BYTES = 128 * 1024
_LOGIN_SECONDS = 120.0
_ENDING_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_NOT_STARTED = b"windlass: no session", b"session request failed"
_FAILED = 255


@dataclass(frozen=True)
class Place:
    """Where a master leads: `settings` are ssh_config keywords for it.

    `before_login` admits this laptop's key where that is needed; `heal` is called once when packets vanish on their way, and says
    whether another try makes sense. `lane` tells connections side by side apart.
    """

    name: str
    where: str
    settings: Mapping[str, str]
    dead_after: float
    is_standing: bool = False
    before_login: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    heal: Callable[[], bool] | None = field(default=None, compare=False, repr=False)
    lane: int = 0

    @property
    def socket(self) -> Path:
        """The master's socket: another one for another address, user, key or way."""
        told = repr(sorted(self.settings.items())) + f"{self.dead_after:g} {self.lane}"
        return sockets() / f"{_short(self.name)}-{_short(told)}"


class OpenSshTransport:
    """Commands over a master, which is started with the first one, and again after a loss.

    An exit code of 255 cannot be told from an end by a signal here: both are -1.
    """

    def __init__(self, place: Place, persist_seconds: int = PERSIST_SECONDS) -> None:
        self.place, self.where = place, place.where
        self.round_trips = self.bytes_sent = 0
        self._persist = persist_seconds
        self._others = 0

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout), self.where)

    def open(self, command: str, stdin: Stdin = b"", timeout: float | None = None, silence: float | None = None) -> "SessionStream":
        """Start a command."""
        self.round_trips += 1
        self.bytes_sent += len(command.encode())
        _ensure(self.place, self._persist)
        # Without a master ssh would connect by itself, with a login of its own; this way it says that there is none.
        alone = ["-o", "ControlMaster=no", "-o", f"ProxyCommand=echo {_NOT_STARTED[0].decode()} >&2; exit 1", "-o", "LogLevel=ERROR"]
        words = [_ssh(), "-F", "none", "-S", str(self.place.socket), *alone, "-T", "--", f"windlass-{self.place.name}"]
        place = self.place
        opening = Opening(command, stdin, place.where, place.name, place.settings.get("User", ""), place.dead_after)
        return SessionStream(self, [*words, opening.line], opening, timeout, silence)

    def another(self) -> "OpenSshTransport":
        """A second connection to the same box, with a master of its own that ends soon after its last use."""
        self._others += 1
        return OpenSshTransport(replace(self.place, lane=self.place.lane * 100 + self._others), _LANE_PERSIST_SECONDS)

    def close(self) -> None:
        """Nothing to end: the master stays for the next command, and ends some minutes after the last."""

    def __enter__(self) -> "OpenSshTransport":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def lost(self, why: str) -> BoxUnreachable:
        """The error for a command whose session ended before it did."""
        return BoxUnreachable(
            f"the connection to {self.where} was lost", where=self.where, why=why,
            remedy=f"`./inv status` shows whether {self.place.name} runs; then run the same command again: it goes on where it was",
        )  # fmt: skip


class SessionStream:
    """A command running in a session of the master."""

    def __init__(
        self, transport: OpenSshTransport, words: list[str], opening: Opening, timeout: float | None, silence: float | None
    ) -> None:  # fmt: skip
        self._opening, self._transport, self._timeout, self._silence = opening, transport, timeout, silence
        self._deadline = time.monotonic() + timeout if timeout is not None else None
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        ends = self._process.stdin, self._process.stdout, self._process.stderr
        assert ends[0] and ends[1] and ends[2]
        self._stdin, self._stdout, self._errors = ends[0], ends[1], ends[2]
        os.set_blocking(self._stdin.fileno(), False)
        self._left = threading.Event()
        self._stderr = Tail(self._read_stderr)
        self._stderr.begin()
        self._feeder = Feeder(opening.stdin, _CHUNK_BYTES, write=self._write, finish=self._stdin.close, abort=self._process.kill)

    @property
    def exit_code(self) -> int:
        """The exit code; -1 when a signal killed the command."""
        code = self._process.returncode
        return -1 if code is None or code in (_FAILED, -1) else code

    @property
    def stderr(self) -> bytes:
        """The end of standard error."""
        return self._stderr.content

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._read():
            if output := self._opening.passed(chunk):
                yield output
        self._stderr.join(self._remaining())
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._remaining())
        self._judge()
        self._opening.check(self.exit_code, self.stderr)

    def __enter__(self) -> "SessionStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._feeder.join(_ENDING_SECONDS)
        self._stderr.join()
        for end in (self._stdin, self._stdout, self._errors):
            with contextlib.suppress(OSError):
                end.close()
        self._transport.bytes_sent += self._feeder.sent

    def _read(self) -> bytes:
        if self._remaining() == 0:  # however much it goes on to say
            raise self._transport.lost(f"no end within {self._timeout:g} s")
        first = self._opening.remaining
        limits = [seconds for seconds in (self._silence if first is None else first, self._remaining()) if seconds is not None]
        ready, _, _ = select.select([self._stdout], [], [], min(limits) if limits else None)
        if not ready:
            raise self._opening.silent() if self._opening.remaining == 0 else self._silent()
        return os.read(self._stdout.fileno(), _CHUNK_BYTES)

    def _read_stderr(self) -> bytes:
        # The master holds the other end too, and keeps it until the command on the box has ended, whenever that is.
        while not self._left.is_set():
            if select.select([self._errors], [], [], _LOOK_SECONDS)[0]:
                return os.read(self._errors.fileno(), _CHUNK_BYTES)
        return b""

    def _write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left and not self._left.is_set():
            if select.select([], [self._stdin], [], _LOOK_SECONDS)[1]:
                with contextlib.suppress(BlockingIOError):
                    left = left[os.write(self._stdin.fileno(), left) :]

    def _judge(self) -> None:
        code = self._process.poll()
        if self._feeder.error is not None:
            raise self._feeder.error
        if code is None:
            raise self._silent()
        if code == _FAILED and any(word in self.stderr for word in _NOT_STARTED):
            raise self._transport.lost(last_lines(self.stderr.replace(_NOT_STARTED[0], b"it ended just then")))
        if code < 0 or (code == _FAILED and not _listens(self._transport.place.socket)):
            raise self._transport.lost(last_lines(self.stderr, 1) or "the other side closed the connection, or fell silent")

    def _silent(self) -> BoxUnreachable:
        seconds = self._timeout if self._remaining() == 0 else self._silence
        return self._transport.lost(f"no answer within {seconds:g} s")

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def sockets() -> Path:
    """The folder of the masters' sockets, for this user alone: in the project, or where that path is too long, in the system's places."""
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        why = "connections to your boxes lie there, and others could take them, or put theirs in their place"
        raise LaptopError(f"{folder} is not a folder of yours alone", why=why, remedy=f"`chmod 700 {folder}`, or remove it")
    return folder


def end(name: str) -> int:
    """End every master of a box; returns how many there were."""
    found = [path for path in _folder().glob(f"{_short(name)}-*") if path.suffix != ".lock"]
    for path in found:
        with contextlib.suppress(LaptopError):
            subprocess.run([_ssh(), "-F", "none", "-S", str(path), "-O", "exit", "windlass"], capture_output=True, check=False)
        path.unlink(missing_ok=True)
    return len(found)


def _folder() -> Path:
    name = f"windlass-{os.getuid()}-{_short(str(project.root()))}"
    elsewhere = [Path(base) / name for base in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp") if base]  # noqa: S108 - looked at when used
    folders = [project.state_folder() / "ssh", *elsewhere]
    return next((each for each in folders if len(os.fsencode(each)) + _NAME_BYTES <= _LONGEST_PATH), folders[-1])


def _ensure(place: Place, persist_seconds: int) -> None:
    """A master that listens. Of several commands at once one logs in, and the others wait for it."""
    if _listens(place.socket):
        return
    with open(place.socket.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _listens(place.socket):
            place.socket.unlink(missing_ok=True)
            _log_in(place, persist_seconds)


def _log_in(place: Place, persist_seconds: int) -> None:
    if place.before_login is not None:
        place.before_login()
    code, told = _started([_ssh(), "-F", "none", *_options(place, persist_seconds), f"windlass-{place.name}"], place)
    if code == 0:
        return
    if "timed out" in told and place.heal is not None and place.heal():
        code, told = _started([_ssh(), "-F", "none", *_options(place, persist_seconds), f"windlass-{place.name}"], place)
    if code != 0:
        raise _why_not(place, told)


def _started(words: list[str], place: Place) -> tuple[int, str]:
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            code = process.wait(_LOGIN_SECONDS + place.dead_after)
        except subprocess.TimeoutExpired:
            code = _FAILED
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        errors.seek(0)
        return code, errors.read().decode(errors="replace")


def _options(place: Place, persist_seconds: int) -> list[str]:
    # Four unanswered questions and the time until the fifth: dead_after in all.
    settings = dict(place.settings) | {
        "BatchMode": "yes",
        "ConnectTimeout": f"{max(1, round(place.dead_after))}",
        "ControlMaster": "yes",
        "ControlPath": '"{}"'.format(str(place.socket).replace("%", "%%")),  # a project's folder may have a space in its name
        "ControlPersist": str(persist_seconds),
        "ServerAliveInterval": f"{max(1, round(place.dead_after / 5))}",
        "ServerAliveCountMax": "4",
    }
    return ["-N", "-f", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]


def _why_not(place: Place, told: str) -> Exception:
    name, why = place.name, last_lines(told.encode())
    inventory = f"check `user` and `ssh_key` of {name} in inventory.yaml"
    if "Permission denied" in told or "Too many authentication failures" in told:
        return LoginRefused(f"{place.where} refuses the login", where=place.where, why=why, remedy=inventory)
    if "Host key verification failed" in told or "REMOTE HOST IDENTIFICATION HAS CHANGED" in told:
        cloud = f"compare with the box's console; if it really was made anew: `./inv box.forget {name}`, then `./inv start {name}`"
        standing = f"ask the host's owner; if it really was made anew: correct `host_key:` of {name} in inventory.yaml"
        remedy = standing if place.is_standing else cloud
        what = f"{place.where} shows another host key than the pinned one"
        shown = f"shown: {found[0]}. " if (found := re.search(r"SHA256:[\w+/]+", told)) else ""
        why = f"{shown}Either the box was made anew, or someone stands in between"  # ssh itself advises to forget the pinned key
        return HostKeyMismatch(what, where=place.where, why=why, remedy=remedy, kept="nothing was sent")
    cloud = f"`./inv status` shows whether it runs; `./inv start {name}` starts it, or lets this laptop's address in"
    standing = f"start the host, or correct `host:` and `port:` of {name} in inventory.yaml, then `./inv start {name}` tries it"
    error = BoxUnreachable(
        f"{place.where} does not answer over SSH", where=place.where, why=why or f"no login within {_LOGIN_SECONDS:g} s",
        remedy=standing if place.is_standing else cloud,
    )  # fmt: skip
    if "ProxyCommand" not in place.settings:
        error.until_back = until_greeted(place.settings["HostName"], int(place.settings["Port"]))
    return error


def _listens(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_ENDING_SECONDS)
            link.connect(str(path))
            return True
    except OSError:
        return False


def _ssh() -> str:
    found = shutil.which("ssh")
    if found is None:
        why = "inventory.yaml asks for `ssh: {transport: openssh}`"
        remedy = "`apt-get install openssh-client`, or `ssh: {transport: paramiko}` in inventory.yaml, which needs no such program"
        raise LaptopError("there is no `ssh` on this laptop", why=why, remedy=remedy)
    return found


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
