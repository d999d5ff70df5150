"""Takes releases in on a box, lists them, and goes back to one. Standard library only.

The laptop sends this file with its request: on a fresh box there is nothing of ours yet, and
nothing of ours is imported before a release is in place. The request is its length in 8 digits, and
JSON deflated by zlib:

```
{"verb": "receive", "root", "shared", "requirements", "token", "keep", "entries": [[name, kind,
value, size], ...]} {"verb": "list", "root"}      {"verb": "activate", "root", "shared",
"requirements", "token", "to": DIGEST}
```
An entry is a plain file (`-`), an executable one (`x`) or a link (`l`); its value is the SHA-256 of
the content, or the target of the link. A release's digest is that of its entries. Contents are
numbered in order of appearance, each SHA-256 and kind once. The answer to `receive` is
`{"lacking": [[number, bytes that are here], ...]}`; then a tar compressed by gzip follows: a member
bears the number of a content, and holds it from some byte to its end.

`<root>/blobs/` keeps each content once, by its SHA-256; the files of releases are hard links to
them. A content that a broken connection cut short stays there as a hidden file, and the next
attempt goes on with it. A release is put together in a hidden folder, synced, and gets its name by
a rename.
"""

# Paths of files are strings here: pathlib would take longer over hundreds of small ones than
# reading them.
# ruff: noqa: PTH102, PTH108, PTH110, PTH115, PTH117, PTH118, PTH120, PTH211

import contextlib
import errno
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

PIECE_BYTES, STREAM_BYTES = 1 << 20, 1 << 16
SILENCE_SECONDS = 60
SYNC_THREADS = 8
"""Files are synced several at once: file systems put what is asked for at the same moment into one
commit."""
MANIFEST = "manifest.json"
READY = ".ready"
STARTING_SECONDS = 600.0
COMMON_ENVIRONMENTS = "WINDLASS_COMMON_ENVIRONMENTS"
"""Variable of an embedded box: the folder of environments that it shares with the others of its
laptop."""
LACKS_ALL = "WINDLASS_LACKS_ALL"
"""Variable that says that the shell has told the laptop that everything lacks."""
MANIFEST_BYTES, RECORD_BYTES = 64 << 20, 4 << 20
SHA256 = re.compile("[0-9a-f]{64}")
NO_HARD_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP)

Entries = list[list[Any]]


class Refused(Exception):
    """What ends the command, for people: cause, what, why, remedy."""

    def __init__(self, cause: str, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        kept = "the release that was current still is"
        self.words = {"cause": cause, "what": what, "why": why, "remedy": remedy, "kept": kept}


class Cut(Exception):
    """The input ended too early: what has arrived stays for the next attempt."""


def say(**frame: Any) -> None:
    """Print one frame for the laptop."""
    print(json.dumps(frame), flush=True)


def main() -> None:
    """Read the request, answer it."""
    source = Input(sys.stdin.buffer)
    try:
        request = json.loads(zlib.decompress(source.exactly(int(source.exactly(8)))))
        root = Path.home() / request["root"]
        verbs = {"receive": _receive, "list": _list, "activate": _go_back}
        say(done=verbs[request["verb"]](root, request, source))
    except (Refused, Cut, OSError) as error:
        say(error=_words(error))
        sys.exit(1)


class Input:
    """Standard input. Raises Cut where nothing comes for SILENCE_SECONDS."""

    def __init__(self, file: Any) -> None:
        self._file = file
        signal.signal(signal.SIGALRM, self._fall_silent)

    def read(self, size: int) -> bytes:
        """At most so many bytes, as soon as there are some; none at the end."""
        signal.alarm(SILENCE_SECONDS)
        try:
            return bytes(self._file.read1(size))
        finally:
            signal.alarm(0)

    def exactly(self, size: int) -> bytes:
        """So many bytes. Raises Cut where fewer come."""
        content = b""
        while len(content) < size:
            piece = self.read(size - len(content))
            if not piece:
                raise Cut(f"{len(content)} of {size} bytes came")
            content += piece
        return content

    def _fall_silent(self, number: int, frame: Any) -> None:
        raise Cut(f"nothing came for {SILENCE_SECONDS} s")


# ---- the verbs ----


def _receive(root: Path, request: dict[str, Any], source: Input) -> dict[str, Any]:
    entries = _checked(request["entries"])
    for name in ("releases", "jobs", "blobs"):
        (root / name).mkdir(parents=True, exist_ok=True)
    release = root / "releases" / hashlib.sha256(_canonical(entries)).hexdigest()
    try:
        with _in_use(root):
            if _is_whole(release, entries):
                _answer([])
            else:
                _take_in(root, release, entries, source)
            os.utime(release)  # the times of the folders say which releases were deployed last
            done = _make_current(root, release, request)
    except (Refused, OSError):
        with contextlib.suppress(OSError):
            _tidy(root, request["keep"])  # a full disk gets back what came in vain
        raise
    _tidy(root, request["keep"])
    return done


def _answer(lacking: list[list[int]]) -> None:
    if LACKS_ALL not in os.environ:
        say(lacking=lacking)


def _list(root: Path, request: dict[str, Any], source: Input) -> dict[str, Any]:
    if not (root / "releases").is_dir():
        return {"releases": []}
    with _in_use(root):
        current, jobs = _current(root), _jobs_by_release(root / "jobs")
        return {
            "releases": [_described(path, current, jobs.get(path.name, [])) for path in _kept(root)]
        }


def _described(path: Path, current: str, jobs: list[str]) -> dict[str, Any]:
    entries = _entries_of(path)
    size = sum(size for _, _, _, size in entries)
    facts = {
        "digest": path.name,
        "is_current": path.name == current,
        "deployed_at": path.stat().st_mtime,
    }
    return {**facts, "bytes": size, "files": len(entries), "jobs": jobs}


def _go_back(root: Path, request: dict[str, Any], source: Input) -> dict[str, Any]:
    release = root / "releases" / request["to"]
    with _in_use(root):
        if not release.is_dir():
            what = f"release {request['to'][:12]} is not on the box any more"
            raise Refused("config", what, remedy="`./inv rollback --list`")
        return _make_current(root, release, request)


@contextlib.contextmanager
def _in_use(root: Path, alone: bool = False) -> Iterator[None]:
    """While releases are used, which keeps them from being tidied away; `alone`: nobody else uses
    them.

    Raises BlockingIOError where somebody does. The lock goes with its process.
    """
    descriptor = os.open(root / "releases", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _changing(root: Path) -> Iterator[None]:
    """While no other deploy changes which release lies where, and which is current."""
    with (root / ".deploy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- taking in ----


def _take_in(root: Path, release: Path, entries: Entries, source: Input) -> None:
    """Have the release in its place, whole and synced."""
    hidden = release.with_name(f".{release.name[:16]}.{os.getpid()}")
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        blobs = Blobs(root / "blobs", entries)
        _answer([[number, blobs.held(number)] for number in blobs.lacking])
        synced = [pool.submit(_sync, path) for path in blobs.received(source)]
        files = _put_together(hidden, entries, blobs)
        synced += [pool.submit(_sync, path) for path in (*files, blobs.folder)]
        for each in synced:
            each.result()  # raises what went wrong
    with _changing(root):
        if _is_whole(release, entries):  # somebody else was quicker with the same
            _remove(hidden)
        else:
            _remove(release)  # files of it are missing
            hidden.rename(release)
        _sync(release.parent)


def _put_together(folder: Path, entries: Entries, blobs: "Blobs") -> list[str]:
    """Make the folder of a release out of contents that are here. Returns what is to be synced."""
    _remove(folder)  # of a push that was killed, and had this number
    place = os.path.realpath(folder)
    paths = {os.path.join(place, name): (kind, value) for name, kind, value, _ in entries}
    folders = sorted({place, *(parent for path in paths for parent in _parents(path, len(place)))})
    for each in folders:
        os.mkdir(each)
    for path, (kind, value) in paths.items():
        os.symlink(value, path) if kind == "l" else _link(blobs.path(kind, value), path)
    links = [path for path, (kind, _) in paths.items() if kind == "l"]
    for path in links:
        if not _leads_within(path, place):
            what = "the release holds a link that leads out of its folder, or nowhere"
            raise Refused(
                "artifact", what, f"{os.path.relpath(path, place)} -> {os.readlink(path)}"
            )
    manifest = os.path.join(place, MANIFEST)
    Path(manifest).write_bytes(_canonical(entries))
    return [*(paths.keys() - set(links)), manifest, *folders]


def _leads_within(link: str, folder: str) -> bool:
    try:
        end = os.path.realpath(link, strict=True)
    except OSError:  # nothing is there, or links go in a circle
        return False
    return not os.path.isabs(os.readlink(link)) and f"{end}/".startswith(f"{folder}/")


def _parents(path: str, shortest: int) -> Iterator[str]:
    while len(path := os.path.dirname(path)) > shortest:
        yield path


def _link(blob: str, path: str) -> None:
    try:
        os.link(blob, path)
    except FileNotFoundError:
        if not os.path.exists(blob):
            raise
        _link(blob, path)  # another push has put its own in place of it just now
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        shutil.copy(blob, path)


class Blobs:
    """The contents of one release in `folder`: those that are here, and those that are `lacking`,
    by number."""

    def __init__(self, folder: Path, entries: Entries) -> None:
        self.folder = str(folder)
        sizes = {self.name(kind, value): size for _, kind, value, size in entries if kind != "l"}
        self._contents = list(sizes.items())
        self._begun: dict[str, IO[bytes]] = {}
        self.lacking = [
            number for number, content in enumerate(self._contents) if not self._is_here(*content)
        ]
        self._take_over({self._contents[number][0] for number in self.lacking})

    @staticmethod
    def name(kind: str, value: str) -> str:
        """The name of a content in the folder."""
        return f"{value}.x" if kind == "x" else value  # links to one file share its mode

    def path(self, kind: str, value: str) -> str:
        """Where a content lies."""
        return os.path.join(self.folder, self.name(kind, value))

    def held(self, number: int) -> int:
        """How many bytes of a content that lacks are here."""
        name, size = self._contents[number]
        file = self._begun.get(name)
        return min(size, os.fstat(file.fileno()).st_size) if file else 0

    def received(self, source: Input) -> Iterator[str]:
        """Read what lacks; gives the path of each content once it is whole. Raises Cut, Refused for
        a file that is damaged."""
        missing = set(self.lacking)
        if not missing:
            return
        try:
            stream: Any = gzip.GzipFile(fileobj=source, mode="rb")  # type: ignore[call-overload]
            with tarfile.open(fileobj=stream, mode="r|", bufsize=STREAM_BYTES) as tar:
                for member in tar:
                    number = int(member.name) if member.name.isdecimal() and member.isreg() else -1
                    if number in missing and member.size <= self._contents[number][1]:
                        yield self._receive(number, member.size, tar.extractfile(member))
                        missing.remove(number)
        except (EOFError, tarfile.TarError, gzip.BadGzipFile, zlib.error) as error:
            raise Cut(f"{type(error).__name__}: {error}") from None
        if missing:
            raise Cut(f"{len(missing)} contents are missing")

    def _receive(self, number: int, rest: int, member: Any) -> str:
        """Write the last `rest` bytes of a content behind those that are here."""
        name, size = self._contents[number]
        sha, at, whole = hashlib.sha256(), size - rest, os.path.join(self.folder, name)
        with self._begun.pop(name, None) or self._new(name) as file:
            file.seek(0)
            while piece := file.read(min(PIECE_BYTES, at - file.tell())):
                sha.update(piece)
            file.truncate()
            while piece := member.read(STREAM_BYTES):
                sha.update(piece)
                file.write(piece)
            file.flush()
            if sha.hexdigest() != name[:64]:
                os.unlink(self._own(name))
                why = f"content {name}: the SHA-256 is {sha.hexdigest()}"
                raise Refused("artifact", "a file arrived damaged", why, "run the command again")
            os.replace(self._own(name), whole)
        return whole

    def _is_here(self, name: str, size: int) -> bool:
        path = os.path.join(self.folder, name)
        try:
            return os.lstat(path).st_size == size and _sha_of(path) == name[:64]
        except OSError:
            return False

    def _take_over(self, lacking: set[str]) -> None:
        """Go on with the most that attempts before have left of each. What another push still
        writes is copied."""
        for path in sorted(Path(self.folder).glob(".*"), key=_size_of, reverse=True):
            name = path.name[1:].rpartition(".")[0]
            if name not in lacking or name in self._begun:
                continue
            gone = contextlib.suppress(FileNotFoundError)  # whole by now, or another's
            with gone, contextlib.ExitStack() as opened:
                there = opened.enter_context(path.open("r+b"))
                if _lock(there):
                    path.rename(self._own(name))
                    self._begun[name] = there
                    opened.pop_all()
                else:
                    self._begun[name] = self._new(name)
                    shutil.copyfileobj(there, self._begun[name], PIECE_BYTES)
                    self._begun[name].flush()

    def _own(self, name: str) -> str:
        return os.path.join(self.folder, f".{name}.{os.getpid()}")

    def _new(self, name: str) -> IO[bytes]:
        """An empty file for a content, which is locked before others can find it."""
        mode, fresh = (
            0o755 if name.endswith(".x") else 0o644,
            os.path.join(self.folder, f"new.{os.getpid()}"),
        )
        file = os.fdopen(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode), "r+b")
        _lock(file)
        os.replace(fresh, self._own(name))
        return file


def _lock(file: IO[bytes]) -> bool:
    """Keep a file for this process; False where another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---- what a release is ----


def _entries_of(release: Path) -> Entries:
    try:
        return _checked(_read_json(release / MANIFEST, MANIFEST_BYTES))
    except (OSError, ValueError, Refused):
        return []


def _checked(entries: Any) -> Entries:
    """Entries whose names stay in their folder, and do not stand in each other's way. Raises
    Refused."""
    names, folders = set[str](), {""}
    for name, kind, value, size in entries:
        parts = name.split("/")
        is_path = (
            "\0" not in name + value and parts[0] != MANIFEST and not {"", ".", ".."} & set(parts)
        )
        is_value = bool(value) if kind == "l" else kind in ("-", "x") and SHA256.fullmatch(value)
        if not is_path or not is_value or size < 0:
            raise Refused(
                "artifact", "the release holds what no release can hold", f"{name[:200]!r}"
            )
        if name in names:
            raise Refused("artifact", "the release holds one name twice", name)
        names.add(name)
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if hidden := sorted(names & folders):
        raise Refused(
            "artifact", "the release holds one name twice, once as a folder", ", ".join(hidden[:3])
        )
    return list(entries)


def _canonical(entries: Entries) -> bytes:
    return json.dumps(entries, separators=(",", ":")).encode()


def _is_whole(release: Path, entries: Entries) -> bool:
    def is_there(name: str, kind: str, value: str, size: int) -> bool:
        path = os.path.join(release, name)
        return os.readlink(path) == value if kind == "l" else os.lstat(path).st_size == size

    try:
        return release.is_dir() and all(is_there(*entry) for entry in entries)
    except OSError:
        return False


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
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


# ---- making it current ----


def _make_current(root: Path, release: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Point `current` at a release once its environment is whole, and note for the next who asks
    that all is ready."""
    with _changing(root):
        _place_shared(root, request["shared"])
    environment = _environment_of(root, release, request["requirements"])
    done = {"environment": environment, "digest": release.name}
    note = (
        request["token"],
        _machine(),
        environment,
        json.dumps({"done": {**done, "was_current": True}}),
    )
    with _changing(root):
        (root / READY).unlink(missing_ok=True)
        _point(root / "current", f"releases/{release.name}")
        fresh = root / f"{READY}.{os.getpid()}"
        fresh.write_text("".join(f"{line}\n" for line in note))
        fresh.replace(root / READY)
        _sync(root)
    return done


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
            remedy = (
                f"on the box: `mv {place}/* {target}/ && rmdir {place}`, or drop `shared:` from the"
                " inventory"
            )
            raise Refused(
                "config",
                f"{place} already holds things, so it cannot become a link to {target}",
                remedy=remedy,
            ) from None
    _point(place, str(target))
    _share_environments(target)


def _share_environments(shared: Path) -> None:
    """Embedded boxes use the laptop's own environments: what one box or the tests have made, no
    other need make again."""
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
            environment.requirements_file(requirements),
            root / "shared/environments",
            lambda line: say(line=line),
            lambda title, done, total: say(progress={"title": title, "done": done, "total": total}),
        )
    except environment.Impossible as failure:
        raise Refused(*(failure.words[key] for key in ("cause", "what", "why", "remedy"))) from None
    return str(found)


def _machine() -> str:
    """What an environment was found on: another boot may have another GPU, or another Python."""
    boot, gpu = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/driver/nvidia/version")
    return (
        f"{boot.read_text().strip() if boot.exists() else ''} {'cuda' if gpu.exists() else 'cpu'}"
    )


# ---- tidying ----


def _kept(root: Path) -> list[Path]:
    """The releases, the one deployed last first."""
    releases = [path for path in (root / "releases").iterdir() if path.name[0] != "."]
    return sorted(releases, key=lambda path: path.stat().st_mtime, reverse=True)


def _current(root: Path) -> str:
    link = root / "current"
    return link.readlink().name if link.is_symlink() else ""


def _tidy(root: Path, keep: int) -> None:
    """Remove old releases, and contents that no release has. Never the current one, the last few,
    or one that a job may still run from; nothing while another push is under way: the last one
    tidies up."""
    with contextlib.suppress(BlockingIOError), _in_use(root, alone=True):
        releases = _kept(root)
        needed = {
            _current(root),
            *(path.name for path in releases[:keep]),
            *_jobs_by_release(root / "jobs"),
        }
        kept = [path for path in releases if path.name in needed]
        for path in set((root / "releases").iterdir()) - set(kept):
            _remove(path)
        names = {
            Blobs.name(kind, value) for path in kept for _, kind, value, _ in _entries_of(path)
        }
        for path in (root / "blobs").iterdir():
            if path.name not in names:
                path.unlink()


def _remove(folder: Path) -> None:
    hidden = (
        folder if folder.name[0] == "." else folder.with_name(f".{folder.name}.{os.getpid()}.old")
    )
    with contextlib.suppress(OSError):  # what cannot be removed is tried again at the next deploy
        folder.rename(hidden)  # a removal that is cut short leaves no torn release
    shutil.rmtree(hidden, ignore_errors=True)


def _jobs_by_release(jobs: Path) -> dict[str, list[str]]:
    """The jobs that run or wait, by the release they use. One that cannot be read counts as
    running."""
    found: dict[str, list[str]] = {}
    for folder in jobs.iterdir() if jobs.is_dir() else ():
        try:
            spec = _read_json(folder / "spec.json", RECORD_BYTES)
            if _may_run(folder):
                found.setdefault(spec["release"], []).append(folder.name)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _may_run(folder: Path) -> bool:
    try:
        return bool(
            _read_json(folder / "state.json", RECORD_BYTES)["status"] in ("PENDING", "RUNNING")
        )
    except FileNotFoundError:  # it is being started, unless that was long ago
        return time.time() - folder.stat().st_mtime < STARTING_SECONDS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True


def _read_json(path: Path, max_bytes: int) -> Any:
    """The JSON of a file, as `remote.contract.files.untrusted_json` reads it, which is not on a
    fresh
    box: a job may have put anything there. Raises OSError or ValueError."""
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


def _words(error: Exception) -> dict[str, str]:
    """What an error says to people."""
    if isinstance(error, Refused):
        return error.words
    if isinstance(error, Cut):
        return Refused(
            "artifact", "what the laptop sends broke off", str(error), "run the command again"
        ).words
    if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "on the box: `df -h`, free space, then run the command again"
        return Refused("disk_full", "the box's disk is full", str(error), remedy).words
    what = f"the box's folder {getattr(error, 'filename', None)} cannot be used"
    return Refused(
        "config", what, str(error), "choose another `root:` or `shared:` in inventory.yaml"
    ).words


if __name__ == "__main__":
    main()
