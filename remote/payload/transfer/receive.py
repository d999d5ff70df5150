"""Keeps the releases of a box: takes one in, lists them, goes back to one. Standard library only.

Sent ahead of its question and run from standard input, because on a fresh box nothing of ours exists yet: it imports nothing of ours
before a release is in place. Then comes the question: a line with its length, and JSON deflated by zlib.

```
{"verb": "receive", "root", "shared", "requirements", "token", "keep", "entries": [[name, kind, value, size], ...], "sends": ...}
{"verb": "list", "root"}      {"verb": "activate", "root", "shared", "requirements", "token", "to": DIGEST}
```
An entry is a plain file (`-`), an executable one (`x`) or a link (`l`); its value is the SHA-256 of the content, or where the link leads.
A release's digest is that of its entries. `sends` says which contents follow: `all`; or `asked`: those in the answer
`{"lacking": [[number, bytes that are here], ...]}`; or such a list. A content's number is its place among the different ones, in order.
They follow as one stream in blocks: four bytes, of which the highest bit says that the block is deflated and the others its length;
a block of length 0 ends it.

A release grows in a hidden folder, is verified and synced, and gets its name by a rename. What a cut connection leaves there serves the
next attempt. Contents that a kept release has already are linked, not sent.
"""

# Paths of files are strings here: pathlib would take longer over hundreds of small ones than reading them.
# ruff: noqa: PTH102, PTH110, PTH115, PTH116, PTH118, PTH120, PTH211

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import signal
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

PIECE_BYTES = 1 << 20
SILENCE_SECONDS = 60
SYNCERS = 8
MANIFEST = "manifest.json"
READY = ".ready"
STARTING_SECONDS = 600.0
COMMON_ENVIRONMENTS = "WINDLASS_COMMON_ENVIRONMENTS"
"""Variable of an embedded box: the folder of environments that it shares with the others of its laptop."""
MANIFEST_BYTES, RECORD_BYTES = 64 << 20, 4 << 20
MOST_LINKS = 40
"""As many links in a row as Linux follows."""

Content = tuple[str, int]
"""The SHA-256 of a content and its size."""


class Refused(Exception):
    """Something a person must hear: cause, what, why, remedy."""

    def __init__(self, cause: str, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.words = {"cause": cause, "what": what, "why": why, "remedy": remedy, "kept": "the release that was current still is"}


class Cut(Exception):
    """The laptop is gone: what has arrived stays for its next attempt."""


def say(**frame: Any) -> None:
    """One frame to the laptop."""
    print(json.dumps(frame), flush=True)


def main() -> None:
    """Read the question, answer it."""
    signal.signal(signal.SIGALRM, _fall_silent)
    source = sys.stdin.buffer
    try:
        question = json.loads(zlib.decompress(_exactly(source, int(_patiently(source.readline) or 0))))
        root = Path.home() / question["root"]
        say(done={"receive": _receive, "list": _list, "activate": _go_back}[question["verb"]](root, question, source))
    except Refused as refusal:
        say(error=refusal.words)
        sys.exit(1)
    except Cut as cut:
        say(error=Refused("artifact", "what the laptop sends broke off", str(cut), "run the command again").words)
        sys.exit(1)
    except OSError as error:
        say(error=_os_error(error))
        sys.exit(1)


# ---- the verbs -------------------------------------------------------------------------------------------------------


def _receive(root: Path, question: dict[str, Any], source: IO[bytes]) -> dict[str, Any]:
    entries = _checked(question["entries"])
    release = root / "releases" / _digest_of(entries)
    release.parent.mkdir(parents=True, exist_ok=True)
    (root / "jobs").mkdir(exist_ok=True)
    with _alone(root):
        held = _hold(release) if _is_whole(release, entries) else None
    if held is None:
        held = _take_in(root, release, entries, question["sends"], source)
    elif question["sends"] == "asked":
        say(lacking=[])
    with held:
        os.utime(release)  # the times of the folders say which releases were deployed last
        done = _make_current(root, release, question)
    with _alone(root):
        _tidy(root, question["keep"])
    return done


def _list(root: Path, question: dict[str, Any], source: IO[bytes]) -> dict[str, Any]:
    if not root.is_dir():
        return {"releases": []}
    with _alone(root):  # or one of them might be tidied away between two looks
        current, jobs = _current(root), _jobs_by_release(root / "jobs")
        return {"releases": [_described(path, current, jobs.get(path.name, [])) for path in _kept(root)]}


def _go_back(root: Path, question: dict[str, Any], source: IO[bytes]) -> dict[str, Any]:
    release = root / "releases" / question["to"]
    with _alone(root):
        if not release.is_dir():
            raise Refused("config", f"release {question['to'][:12]} is not on the box any more", remedy="`./inv rollback --list`")
        held = _hold(release)
    with held:
        return _make_current(root, release, question)


def _described(path: Path, current: str, jobs: list[str]) -> dict[str, Any]:
    entries = _entries_of(path)
    size = sum(size for _, _, _, size in entries)
    facts = {"digest": path.name, "is_current": path.name == current, "deployed_at": path.stat().st_mtime}
    return {**facts, "bytes": size, "files": len(entries), "jobs": jobs}


# ---- taking in -------------------------------------------------------------------------------------------------------


def _take_in(root: Path, release: Path, entries: list[list[Any]], sends: Any, source: IO[bytes]) -> contextlib.ExitStack:
    """Have the release in its place. Returns what holds it there."""
    incoming = release.with_name(f".{release.name[:16]}.{os.getpid()}.{time.time_ns():x}")
    with _alone(root):
        incoming.mkdir()
        held = _hold(incoming)
    with held:
        try:
            Assembly(incoming, entries).fill(sends, source)
            with _alone(root):
                return _put_in_place(incoming, release, entries)
        except (Refused, OSError):
            _remove(incoming)
            raise


def _put_in_place(incoming: Path, release: Path, entries: list[list[Any]]) -> contextlib.ExitStack:
    if _is_whole(release, entries):  # somebody else was quicker with the same
        _remove(incoming)
    else:
        if release.exists():  # files of it are missing
            _remove(release)
        incoming.rename(release)
    _sync(release.parent)
    return _hold(release)


class Assembly:
    """A release that grows in the folder `into`."""

    def __init__(self, into: Path, entries: list[list[Any]]) -> None:
        self._into, self._entries = into, entries
        self._names: dict[Content, list[tuple[str, bool]]] = {}
        for name, kind, value, size in entries:
            if kind != "l":
                self._names.setdefault((value, size), []).append((name, kind == "x"))
        self._contents = list(self._names)
        self._made, self._here = {str(into)}, set[int]()
        self._syncing = Syncing()

    def fill(self, sends: Any, source: IO[bytes]) -> None:
        """Take every content from where it is, and make the rest."""
        with open(self._path(MANIFEST), "w") as file:
            file.write(_canonical(self._entries))
        self._syncing.add(file.name)
        begun = {} if sends == "all" else self._gather(may_go_on=sends == "asked")
        lacking = [[number, begun.get(number, 0)] for number in range(len(self._contents)) if number not in self._here]
        if sends == "asked":
            say(lacking=lacking)
        coming = lacking if sends in ("all", "asked") else sends
        if missing := {number for number, _ in lacking} - {number for number, _ in coming}:
            raise Refused("artifact", "the box lost files meanwhile", f"{len(missing)} contents are missing", "run the command again")
        self._read_all(coming, Blocks(source))
        self._link()
        self._syncing.finish(self._made)

    def _gather(self, may_go_on: bool) -> dict[int, int]:
        """Link what is here already; returns by number how much of a content an attempt before has left, where `may_go_on`."""
        places = _places(self._into.parent, {value for value, _ in self._contents})
        begun = {}
        for number, content in enumerate(self._contents):
            if any(self._adopt(content, path) for path in places.get(content[0], ())):
                self._here.add(number)
            elif may_go_on and (size := self._begin(content, places.get(content[0], []))):
                begun[number] = size
        return begun

    def _adopt(self, content: Content, path: str) -> bool:
        first, *others = self._names[content]
        try:
            if _size_of(path) != content[1] or _sha_of(path) != content[0]:
                return False
        except OSError:
            return False
        try:
            self._place(path, *first)
        except FileNotFoundError:  # it was somebody else's, who has just put it in place or tidied it away
            return False
        for name, executable in others:
            self._place(self._path(first[0]), name, executable)
        return True

    def _place(self, path: str, name: str, executable: bool) -> None:
        """`name` with the content of `path`: a link where the modes are the same, else a copy."""
        to = self._path(name)
        if bool(os.stat(path).st_mode & 0o100) == executable:
            try:
                os.link(path, to)
                return
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
                    raise
        with open(path, "rb") as there, self._new(to, executable) as file:
            while piece := there.read(PIECE_BYTES):
                file.write(piece)
        self._syncing.add(to)

    def _begin(self, content: Content, paths: list[str]) -> int:
        """Copy the beginning of a large content that an attempt before has left; returns its length."""
        executable = self._names[content][0][1]
        for size, path in sorted(((_size_of(path), path) for path in paths), reverse=True):
            if PIECE_BYTES <= size < content[1]:
                gone = contextlib.suppress(FileNotFoundError)  # as in `_adopt`
                with gone, open(path, "rb") as there, self._new(self._path(self._first_name(content)), executable) as file:
                    while (piece := there.read(min(PIECE_BYTES, size - file.tell()))) and file.tell() < size:
                        file.write(piece)
                    return file.tell()
        return 0

    def _read_all(self, coming: list[list[int]], blocks: "Blocks") -> None:
        for number, at in coming:
            content = self._contents[number]
            if number in self._here:
                blocks.skip(content[1] - at)
                continue
            first = self._path(self._first_name(content))
            self._read(content, at, first, blocks)
            self._syncing.add(first)
            for name, executable in self._names[content][1:]:
                self._place(first, name, executable)
        blocks.end()

    def _read(self, content: Content, at: int, path: str, blocks: "Blocks") -> None:
        value, size = content
        sha = hashlib.sha256()
        executable = self._names[content][0][1]
        with open(path, "r+b") if at else self._new(path, executable) as file:
            for piece in iter(lambda: file.read(PIECE_BYTES), b"") if at else ():
                sha.update(piece)
            if file.tell() != at:
                why = f"{self._first_name(content)}: {file.tell()} bytes, {at} expected"
                raise Refused("artifact", "the laptop goes on at another byte than the box", why, "run the command again")
            for piece in blocks.pieces(size - at):
                sha.update(piece)
                file.write(piece)
        if sha.hexdigest() != value:
            why = f"{self._first_name(content)}: expected {value}, got {sha.hexdigest()}"
            raise Refused("artifact", "a file arrived damaged", why, "run the command again")

    def _link(self) -> None:
        for name, kind, value, _ in self._entries:
            if kind == "l":
                os.symlink(value, self._path(name))

    def _first_name(self, content: Content) -> str:
        return self._names[content][0][0]

    def _path(self, name: str) -> str:
        path = os.path.join(self._into, name)
        folder = os.path.dirname(path)
        missing = []
        while folder not in self._made:
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            os.mkdir(folder)
            self._made.add(folder)
        return path

    def _new(self, path: str, executable: bool) -> IO[bytes]:
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644), "wb")


class Blocks:
    """The stream of contents, block by block. Raises Cut at its sudden end, Refused for what is no block."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._rest = source, b""

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        while size > 0:
            if not self._rest:
                self._rest = self._block()
                if not self._rest:
                    raise Refused("artifact", "the stream ends too early", f"{size} bytes are missing", "run the command again")
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        for _ in self.pieces(size):
            pass

    def end(self) -> None:
        """See that nothing more comes."""
        if self._rest or self._block():
            raise Refused("artifact", "the stream is longer than what it was to bring", "", "run the command again")

    def _block(self) -> bytes:
        head = int.from_bytes(_exactly(self._source, 4), "big")
        size = head & 0x7FFFFFFF
        if size > 2 * PIECE_BYTES:
            raise Refused("artifact", "the stream is damaged", f"a block of {size} bytes", "run the command again")
        block = _exactly(self._source, size)
        if not head >> 31:
            return block
        try:
            return zlib.decompress(block)
        except zlib.error as error:
            raise Refused("artifact", "the stream is damaged", str(error), "run the command again") from None


class Syncing:
    """Has files on the disk for good, several at once: file systems put what is asked for at the same moment into one commit."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[str | None] = SimpleQueue()
        self._errors: list[OSError] = []
        self._threads: list[Thread] = []

    def add(self, path: str) -> None:
        """This one too, when there is time."""
        self._todo.put(path)
        if len(self._threads) < SYNCERS:
            self._threads.append(Thread(target=self._work, daemon=True))
            self._threads[-1].start()

    def finish(self, folders: set[str]) -> None:
        """Wait for all, and for these folders. Raises what went wrong."""
        for folder in folders:
            self.add(folder)
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        while (path := self._todo.get()) is not None:
            try:
                _sync(path)
            except OSError as error:
                self._errors.append(error)


def _places(releases: Path, values: set[str]) -> dict[str, list[str]]:
    """Where contents of that SHA-256 may lie, in kept releases and in what earlier attempts left: to be looked at."""
    found: dict[str, list[str]] = {}
    for folder in releases.iterdir():
        for name, kind, value, _ in _entries_of(folder):
            if kind != "l" and value in values:
                found.setdefault(value, []).append(os.path.join(folder, name))
    return found


def _entries_of(release: Path) -> list[list[Any]]:
    try:
        return _checked(_read_json(str(release / MANIFEST), MANIFEST_BYTES))
    except (OSError, ValueError, Refused):
        return []


def _checked(entries: Any) -> list[list[Any]]:
    """Entries whose names and links stay in their folder, and do not stand in each other's way."""
    members, folders = dict[str, tuple[str, str]](), {""}
    for name, kind, value, size in entries:
        if not isinstance(name, str) or not isinstance(value, str) or not isinstance(size, int):
            raise Refused("artifact", "the release holds an entry that is none", str(name)[:200])
        parts = name.split("/")
        if not name or "\0" in name or parts[0] == MANIFEST or any(part in ("", ".", "..") for part in parts):
            raise Refused("artifact", "the release holds a name that leads out of its folder", name)
        if kind not in ("-", "x", "l") or size < 0:
            raise Refused("artifact", "the release holds something that is neither file nor link", name)
        if name in members:
            raise Refused("artifact", "the release holds one name twice", name)
        members[name] = kind, value
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if hidden := sorted(members.keys() & folders):
        raise Refused("artifact", "the release holds one name twice, once as a folder", ", ".join(hidden[:3]))
    links = {name: value for name, (kind, value) in members.items() if kind == "l"}
    for name, value in links.items():
        if not _is_within(name, links, members.keys() | folders):
            raise Refused("artifact", "the release holds a link that leads out of its folder, or nowhere", f"{name} -> {value}")
    return list(entries)


def _is_within(name: str, links: dict[str, str], there: set[str]) -> bool:
    """Whether a link leads to what is `there`, on a way that never leaves the folder: walked as the kernel will walk it."""
    way, steps, followed = list[str](), name.split("/")[::-1], 0
    while steps:
        step = steps.pop()
        if step == ".." and not way:
            return False
        way = way[:-1] if step == ".." else way if step in ("", ".") else [*way, step]
        place = "/".join(way)
        if place in links:
            followed += 1
            if followed > MOST_LINKS or links[place][:1] in ("", "/"):
                return False
            steps += links[place].split("/")[::-1]
            way.pop()
        elif place not in there:
            return False
    return True


def _canonical(entries: list[list[Any]]) -> str:
    return json.dumps(entries, separators=(",", ":"))


def _digest_of(entries: list[list[Any]]) -> str:
    return hashlib.sha256(_canonical(entries).encode()).hexdigest()


def _is_whole(release: Path, entries: list[list[Any]]) -> bool:
    try:
        return release.is_dir() and all(_is_there(os.path.join(release, name), kind, value, size) for name, kind, value, size in entries)
    except OSError:
        return False


def _is_there(path: str, kind: str, value: str, size: int) -> bool:
    return os.readlink(path) == value if kind == "l" else os.lstat(path).st_size == size


def _size_of(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return -1


def _sha_of(path: str) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            sha.update(piece)
    return sha.hexdigest()


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- making it current -----------------------------------------------------------------------------------------------


def _make_current(root: Path, release: Path, question: dict[str, Any]) -> dict[str, Any]:
    """Point `current` at a release once its environment is whole, and note for the next who asks that all is ready."""
    with _alone(root):
        _place_shared(root, question["shared"])
    environment = _environment_of(root, release, question["requirements"])
    done = {"environment": environment, "digest": release.name}
    note = (question["token"], _machine(), environment, json.dumps({"done": {**done, "was_current": True}}))
    with _alone(root):
        (root / READY).unlink(missing_ok=True)
        _point(root / "current", f"releases/{release.name}")
        fresh = root / f"{READY}.{os.getpid()}"
        fresh.write_text("".join(f"{line}\n" for line in note))
        fresh.replace(root / READY)
        _sync(root)
    return done


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While no other deploy changes the box."""
    with (root / ".deploy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _place_shared(root: Path, shared: str) -> None:
    place = root / "shared"
    if not shared:
        if place.is_symlink() and not place.exists():  # its disk went away with the last stop
            place.readlink().mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True)
        _share_environments(place)
        return
    target = Path(shared).expanduser().absolute()
    target.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        try:
            place.rmdir()
        except OSError:
            remedy = f"on the box: `mv {place}/* {target}/ && rmdir {place}`, or drop `shared:` from the inventory"
            raise Refused("config", f"{place} already holds things, so it cannot become a link to {target}", remedy=remedy) from None
    _point(place, str(target))
    _share_environments(target)


def _share_environments(shared: Path) -> None:
    """Embedded boxes use the laptop's own environments: what one box or the tests have made, no other need make again."""
    common, place = os.environ.get(COMMON_ENVIRONMENTS), shared / "environments"
    if common and not place.exists():  # a link that leads nowhere is not there either
        Path(common).mkdir(parents=True, exist_ok=True)
        _point(place, common)


def _point(link: Path, target: str) -> None:
    if link.is_symlink() and str(link.readlink()) == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)  # of a push that was killed, and had this number
    fresh.symlink_to(target)
    fresh.replace(link)


def _environment_of(root: Path, release: Path, requirements: str) -> str:
    sys.path.insert(0, str(release))
    from remote.payload import environment

    try:
        found = environment.make(
            environment.requirements_file(requirements), root / "shared/environments", lambda line: say(line=line),
            lambda title, done, total: say(progress={"title": title, "done": done, "total": total}),
        )  # fmt: skip
    except environment.Impossible as failure:
        raise Refused(*(failure.words[key] for key in ("cause", "what", "why", "remedy"))) from None
    return str(found)


def _machine() -> str:
    """What an environment was found on: another boot may have another GPU, or another Python."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else ''} {'cuda' if os.path.exists('/proc/driver/nvidia/version') else 'cpu'}"


# ---- tidying ---------------------------------------------------------------------------------------------------------


def _kept(root: Path) -> list[Path]:
    """The releases, the one deployed last first."""
    folder = root / "releases"
    releases = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    return sorted(releases, key=lambda path: path.stat().st_mtime, reverse=True)


def _current(root: Path) -> str:
    link = root / "current"
    return link.readlink().name if link.is_symlink() else ""


def _tidy(root: Path, keep: int) -> None:
    """Forget old releases: never the current one, the last few, one that is held, or one that a job may still run from."""
    releases = _kept(root)
    needed = {_current(root), *(path.name for path in releases[:keep]), *_jobs_by_release(root / "jobs")}
    for release in releases:
        if release.name not in needed and not _is_held(release):
            _remove(release)
    for left in (root / "releases").glob(".*"):
        if not _is_held(left):
            _remove(left)


def _remove(folder: Path) -> None:
    import shutil

    hidden = folder if folder.name[0] == "." else folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with contextlib.suppress(OSError):  # what cannot be removed is tried again at the next deploy
        folder.rename(hidden)  # a removal that is cut short leaves no torn release
    shutil.rmtree(hidden, ignore_errors=True)


def _hold(folder: Path) -> contextlib.ExitStack:
    """Keep a folder from being tidied away until this is closed, or this process is no more. To be called while `_alone`."""
    held = contextlib.ExitStack()
    descriptor = os.open(folder, os.O_RDONLY)
    held.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # shared: others may bring the same release
    return held


def _is_held(folder: Path) -> bool:
    """Whether somebody still fills it, or is to make it current."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _jobs_by_release(jobs: Path) -> dict[str, list[str]]:
    """The jobs that run or wait, by the release they use. One that cannot be read counts as running."""
    found: dict[str, list[str]] = {}
    for folder in jobs.iterdir() if jobs.is_dir() else ():
        try:
            spec = _read_json(str(folder / "spec.json"), RECORD_BYTES)
            if _may_run(folder):
                found.setdefault(spec["release"], []).append(folder.name)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _may_run(folder: Path) -> bool:
    try:
        return bool(_read_json(str(folder / "state.json"), RECORD_BYTES)["status"] in ("PENDING", "RUNNING"))
    except FileNotFoundError:  # it is being started, unless that was long ago
        return time.time() - folder.stat().st_mtime < STARTING_SECONDS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True


def _read_json(path: str, max_bytes: int) -> Any:
    """The JSON of a file, as `remote.contract.untrusted_json` reads it, which is not on a fresh box: a job may have put anything there.
    Raises OSError or ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe is not waited for
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
            raise ValueError("not a regular file of that size")
        content = file.read(max_bytes)
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


# ---- reading from the laptop -----------------------------------------------------------------------------------------


def _exactly(source: IO[bytes], size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = _patiently(partial(source.read1, size - len(content)))  # type: ignore[attr-defined]
        if not piece:
            raise Cut(f"{len(content)} of {size} bytes came")
        content += piece
    return content


def _patiently(read: Callable[[], bytes]) -> bytes:
    signal.alarm(SILENCE_SECONDS)
    try:
        return read()
    finally:
        signal.alarm(0)


def _fall_silent(number: int, frame: Any) -> None:
    raise Cut(f"nothing came for {SILENCE_SECONDS} s")


def _os_error(error: OSError) -> dict[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "on the box: `df -h`, free space, then run the command again"
        return Refused("disk_full", "the box's disk is full", str(error), remedy).words
    remedy = "choose another `root:` or `shared:` in inventory.yaml"
    return Refused("config", f"the box's folder {error.filename} cannot be used", str(error), remedy).words


if __name__ == "__main__":
    main()
