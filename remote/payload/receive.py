"""Receives a release on the box: unpack, verify, activate, tidy, make the environment. Standard library only.

Sent ahead of the archive and run from standard input, because on a fresh box nothing of ours exists yet: it imports
nothing of ours either. Arguments: DIGEST KEEP REQUIREMENTS ROOT SHARED. No archive after the script: the release is there already.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

SCRIPT_PIECE = 1 << 20


class Refused(Exception):
    """Something a person must hear: cause, what, why, remedy."""

    def __init__(self, cause: str, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.words = {"cause": cause, "what": what, "why": why, "remedy": remedy, "kept": "the release that was current still is"}


def say(**frame: Any) -> None:
    """One frame to the laptop."""
    print(json.dumps(frame), flush=True)


def main() -> None:
    """Take the release in, then go on as the environment maker of that release."""
    wanted, keep, requirements, root, shared = sys.argv[1:6]
    try:
        release = receive(Path(root).absolute(), wanted, int(keep), shared)
    except Refused as refusal:
        say(error=refusal.words)
        sys.exit(1)
    except OSError as error:
        say(error=_os_error(error, root))
        sys.exit(1)
    os.chdir(release)
    words = [sys.executable, "-m", "remote.payload.environment", "make", requirements]
    os.execve(sys.executable, words, {**os.environ, "PYTHONPATH": str(release)})  # noqa: S606 - no shell is wanted


def receive(root: Path, wanted: str, keep: int, shared: str) -> Path:
    """Unpack standard input as the release `wanted` unless it is there, and make it current. Returns its folder."""
    releases = root / "releases"
    releases.mkdir(parents=True, exist_ok=True)
    (root / "jobs").mkdir(exist_ok=True)
    with (root / ".deploy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _place_shared(root, shared)
        release = releases / wanted
        if not release.is_dir():
            _take_in(sys.stdin.buffer, release, wanted)
        _activate(root, release)
        _tidy(root, release, keep)
    return release


def unpack(source: IO[bytes], into: Path) -> str:
    """Unpack a tar.gz of regular files into the folder `into`; returns its content digest. Refuses names that lead out of it."""
    lines = []
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise Refused("artifact", "the archive holds something that is not a plain file", member.name)
                executable = bool(member.mode & 0o100)
                sha = _write(content, into / _safe(member.name), executable)
                lines.append((member.name, f"{sha} {'x' if executable else '-'} {member.name}\n"))
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Refused("artifact", "the archive arrived damaged or cut off", str(error), "run the command again") from None
    return hashlib.sha256("".join(line for _, line in sorted(lines)).encode()).hexdigest()


def _take_in(source: IO[bytes], release: Path, wanted: str) -> None:
    partial = release.with_name(f".{wanted}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        found = unpack(source, partial)
        if found != wanted:
            why = f"expected {wanted}, got {found}"
            raise Refused("artifact", "the archive is not the release it claims to be", why, "run the command again")
        for folder in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
            _sync(folder)
        partial.rename(release)
        _sync(release.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise Refused("artifact", "the archive holds a name that leads out of its folder", name)
    return name


def _write(content: IO[bytes], path: Path, executable: bool) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    sha = hashlib.sha256()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644), "wb") as file:
        while piece := content.read(SCRIPT_PIECE):
            sha.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return sha.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place_shared(root: Path, shared: str) -> None:
    place = root / "shared"
    if not shared:
        if place.is_symlink() and not place.exists():  # its disk went away with the last stop
            place.readlink().mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True)
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


def _activate(root: Path, release: Path) -> None:
    os.utime(release)  # the times of the folders say which releases were used last
    _point(root / "current", f"releases/{release.name}")


def _point(link: Path, target: str) -> None:
    if link.is_symlink() and str(link.readlink()) == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def _tidy(root: Path, current: Path, keep: int) -> None:
    """Forget old releases: never the current one, the last few, or one that a job may still run from."""
    releases = [path for path in (root / "releases").iterdir() if path.name[0] != "."]
    releases.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    needed = {current.name, *(path.name for path in releases[:keep]), *_running(root / "jobs")}
    for release in releases:
        if release.name not in needed:
            shutil.rmtree(release, ignore_errors=True)


def _running(jobs: Path) -> set[str]:
    found = set()
    for folder in jobs.iterdir():
        try:
            if json.loads((folder / "state.json").read_text())["status"] in ("PENDING", "RUNNING"):
                found.add(json.loads((folder / "spec.json").read_text())["release"])
        except (OSError, ValueError, KeyError):
            continue
    return found


def _os_error(error: OSError, root: str) -> dict[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "on the box: `df -h`, free space, then run the command again"
        return Refused("disk_full", "the box's disk is full", str(error), remedy).words
    remedy = "choose another `root:` or `shared:` in inventory.yaml"
    return Refused("config", f"the box's folder {error.filename or root} cannot be used", str(error), remedy).words


if __name__ == "__main__":
    main()
