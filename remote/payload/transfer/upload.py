"""Keeps jobs in the bucket before their box goes away, and brings them onto the next one. Standard
library, and boto3 for a profile.

`job ID` spills one job; `all` spills every job of the box that the bucket does not have yet,
checkpoints first; `fetch ID` reads `{"manifest", "folder", "urls"}` on standard input and puts the
job into place, verified; `grant` reads a Grant there and keeps it.
Each answers with frames: `{"line"}` as it goes, at the end `{"done"}` or `{"error"}`.

Spilled are the job's record, the newest parts of its log, and what it must not lose: the finished
artifacts of one that succeeded, else its newest whole checkpoint.
"""

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts.upload import (
    MANIFEST_BYTES,
    PIECE_BYTES,
    Kept,
    Manifest,
    Piece,
    UploadGrant,
    manifest_key,
)
from remote.contract.files import atomic, digest, regular_files, untrusted_json
from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.contract.logs import job_log
from remote.payload import environment
from remote.payload.jobs import supervise
from remote.payload.jobs.supervise import Refused
from remote.payload.telemetry import job_context
from remote.payload.transfer import bucket, grants

SIDE_BY_SIDE = 4
SPILLED_PARTS = 4
"""So many older parts of a log are spilled, 256 MB: a box that is taken back has two minutes, and
its checkpoint is worth more."""

_RECORD_BYTES = 256 * 1024 * 1024
"""Of what is read whole: measurements grow with the training."""

RECORD = "spilled.json"
"""In a job's folder: the manifest that lies in the bucket."""

_AGAIN = "run the command again"


@dataclass(frozen=True)
class Cargo:
    """What is to be spilled of a job: small records as bytes, large files as they lie; both by
    their paths relative to the root."""

    what: str
    ended_at: float
    records: dict[str, bytes]
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(path.stat().st_size for path in self.files.values())


# ---- out ----


def spill(box: BoxPaths, job_id: str, grant: UploadGrant) -> Manifest:
    """Put what a job must not lose into the bucket; the manifest comes last. Raises Refused,
    bucket.Unreachable or OSError."""
    paths = box.job(job_id)
    with (paths.folder / ".spill.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cargo = cargo_of(box, paths, grant.place(job_id))
        manifest = _upload(
            cargo, job_id, grant.folder(job_id), bucket.Bucket(grant), recorded(paths)
        )
        atomic.write_text(paths.folder / RECORD, manifest.to_json())
    return manifest


def recorded(paths: JobPaths) -> Manifest | None:
    """What lies in the bucket of this job, as far as this box knows."""
    try:
        return Manifest.from_json(regular_files.content_of(paths.folder / RECORD, MANIFEST_BYTES))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cargo_of(box: BoxPaths, paths: JobPaths, place: str) -> Cargo:
    """What of a job is to be spilled. Raises Refused where there is no such job."""
    state = supervise.status(box, paths.folder.name)
    what, files = (
        _finished(box, state) if state.status is Status.SUCCEEDED else _unfinished(box, paths)
    )
    if state.status is not Status.SUCCEEDED:
        state.kept = f"{what} in {place}"
    records = {
        paths.spec: regular_files.content_of(paths.spec, _RECORD_BYTES),
        paths.state: state.to_json().encode() + b"\n",
    }
    for record in (
        paths.outputs,
        paths.metrics,
        paths.folder / job_log.TIMES,
        *job_context.keep(box, state),
    ):
        with contextlib.suppress(OSError, ValueError):  # not there, or nothing that could be of use
            records[record] = regular_files.content_of(record, _RECORD_BYTES)
    older, newest = _log_of(paths)
    records |= newest
    files |= {_relative(box, path): path for path in older}
    return Cargo(
        what,
        state.ended_at,
        {_relative(box, path): content for path, content in records.items()},
        files,
    )


def _log_of(paths: JobPaths) -> tuple[list[Path], dict[Path, bytes]]:
    """The newest of the older parts, which change no more, and the newest of all as it is now."""
    while True:
        *older, newest = job_log.parts(paths.folder)
        if not newest.inode and not older:
            return [], {}
        with contextlib.suppress(FileNotFoundError):  # rotated just now
            with job_log.opened(newest) as descriptor:
                content = os.pread(descriptor, newest.end - newest.start, 0)
            return [part.path for part in older[-SPILLED_PARTS:]], {newest.path: content}


def _finished(box: BoxPaths, state: JobState) -> tuple[str, dict[str, Path]]:
    files: dict[str, Path] = {}
    for artifact in state.artifacts.values():
        if artifact.path.startswith(".."):
            raise Refused(
                Cause.ARTIFACT,
                f"{artifact.path} lies outside of Windlass's folder: it is not spilled",
            )
        path = box.root / artifact.path
        files |= {
            _relative(box, file): file
            for file in (digest.files_in(path) if artifact.is_folder else [path])
        }
    return ", ".join(state.artifacts) or "its values", files


def _unfinished(box: BoxPaths, paths: JobPaths) -> tuple[str, dict[str, Path]]:
    newest = newest_checkpoint(paths)
    if newest is None:
        return "its log", {}
    return f"checkpoint {newest.name}", {
        _relative(box, file): file for file in digest.files_in(newest)
    }


def newest_checkpoint(paths: JobPaths) -> Path | None:
    """The newest whole checkpoint: the highest step whose files are those that its manifest
    names."""
    steps = [path for path in paths.checkpoints.glob("step-*") if path.name[5:].isdigit()]
    return next(
        (
            folder
            for folder in sorted(steps, key=lambda path: -int(path.name[5:]))
            if _is_whole(folder)
        ),
        None,
    )


def _is_whole(folder: Path) -> bool:
    try:
        files: dict[str, str] = untrusted_json.read_object(folder / "manifest.json")["files"]
        return bool(files) and all(
            digest.of_file(folder / name) == expected for name, expected in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _relative(box: BoxPaths, path: Path) -> str:
    return path.relative_to(box.root).as_posix()


def _upload(
    cargo: Cargo, job_id: str, folder: str, to: bucket.Bucket, before: Manifest | None
) -> Manifest:
    there = {kept.sha256 for kept in before.files.values()} if before else set()
    small = {
        path: (Kept(digest.of_bytes(content), len(content)), content)
        for path, content in cargo.records.items()
    }
    large = {
        path: (Kept(digest.of_file(file), file.stat().st_size), file)
        for path, file in cargo.files.items()
    }
    contents = {
        kept.sha256: (kept, content)
        for kept, content in (*large.values(), *small.values())
        if kept.sha256 not in there
    }
    work = [
        (piece, content) for kept, content in contents.values() for piece in kept.pieces(folder)
    ]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as workers:
        # list(): the first error is raised here, before the manifest could name what is not there.
        list(workers.map(lambda each: to.put(each[0].key, _read(each[1], each[0])), work))
    files = {path: kept for path, (kept, _) in (*large.items(), *small.items())}
    manifest = Manifest(job_id, cargo.ended_at, cargo.what, files)
    to.put(manifest_key(folder), manifest.to_json().encode())
    return manifest


def _read(content: bytes | Path, piece: Piece) -> bytes:
    if isinstance(content, bytes):
        return content[piece.offset : piece.offset + piece.size]
    with content.open("rb") as file:
        return os.pread(file.fileno(), piece.size, piece.offset)


def spill_all(box: BoxPaths, say: Callable[[str], None]) -> dict[str, str]:
    """Spill every job that the bucket does not have as it stands; what could not be has its reason
    in place of its manifest's words."""
    told: dict[str, str] = {}
    for job_id, grant in _waiting(box):
        try:
            manifest = spill(box, job_id, grant)
            told[job_id] = f"{manifest.what} in {grant.place(job_id)}"
        except (Refused, bucket.Unreachable, OSError, ValueError) as error:
            told[job_id] = f"not spilled: {error}"
        say(f"{job_id}: {told[job_id]}")
    return told


def _waiting(box: BoxPaths) -> list[tuple[str, UploadGrant]]:
    """The jobs to spill: those cut off first, then the finished ones, the small ones before the
    large."""
    found: list[tuple[bool, int, str, UploadGrant]] = []
    for folder in box.jobs.iterdir() if box.jobs.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, TypeError, Refused):
            paths = JobPaths(folder)
            grant = grants.of_run(box.root, JobSpec.read(paths.spec).run_id)
            state, before = supervise.status(box, folder.name), recorded(paths)
            if grant and not (
                before and state.status.is_final and before.ended_at == state.ended_at
            ):
                size = cargo_of(box, paths, "").size
                found.append((state.status is Status.SUCCEEDED, size, folder.name, grant))
    return [(name, grant) for _, _, name, grant in sorted(found, key=lambda each: each[:3])]


# ---- in ----


def fetch(box: BoxPaths, manifest: Manifest, folder: str, urls: dict[str, str]) -> bool:
    """Put a spilled job into place; returns False where the box has that job already. Raises
    Refused, Unreachable, OSError.

    `urls` are the presigned addresses of its pieces, by their keys; `folder` is the job's in the
    bucket.
    """
    paths = box.job(supervise.checked(manifest.job_id))
    partial = box.root / f".{manifest.job_id}.fetched"
    with (box.root / f".{manifest.job_id}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if paths.state.exists():
            return False
        if shutil.disk_usage(box.root).free < manifest.size:
            raise Refused(
                Cause.DISK_FULL,
                "the box's disk has no room for the job",
                f"{manifest.size:,} bytes are needed",
                "free space",
            )
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _download(partial, manifest, folder, urls)
            _settle(box, paths, partial, manifest)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def _download(into: Path, manifest: Manifest, folder: str, urls: dict[str, str]) -> None:
    work: list[tuple[Path, Piece]] = []
    for path, kept in manifest.files.items():
        file = into / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        work += [(file, piece) for piece in kept.pieces(folder)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as workers:
        list(workers.map(lambda each: _bring(each[0], each[1].offset, urls[each[1].key]), work))
    for path, kept in manifest.files.items():
        if (into / path).stat().st_size != kept.size or digest.of_file(into / path) != kept.sha256:
            raise Refused(
                Cause.ARTIFACT,
                f"{path} does not verify as it came from the bucket",
                f"expected {kept.sha256}",
                _AGAIN,
            )


def _bring(file: Path, offset: int, url: str) -> None:
    content = bucket.get(url, PIECE_BYTES)
    with file.open("r+b") as out:
        os.pwrite(out.fileno(), content, offset)
        os.fsync(out.fileno())


def _settle(box: BoxPaths, paths: JobPaths, partial: Path, manifest: Manifest) -> None:
    """Artifacts outside of the job's folder first, its state with that folder last: a job that is
    there is there whole."""
    state = JobState.read(partial / _relative(box, paths.state))
    for artifact in state.artifacts.values():
        place = box.root / artifact.path
        if ".." in place.parts:
            continue  # outside of Windlass's folder, which the bucket never held
        if (
            (partial / artifact.path).exists()
            and not place.is_relative_to(paths.folder)
            and not place.exists()
        ):
            _move(partial / artifact.path, place)
    fetched = partial / _relative(box, paths.folder)
    atomic.write_text(fetched / RECORD, manifest.to_json())
    shutil.rmtree(paths.folder, ignore_errors=True)
    _move(fetched, paths.folder)


def _move(source: Path, place: Path) -> None:
    beside = place.with_name(f".{place.name}.fetched")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(beside, ignore_errors=True)
    shutil.move(source, beside)  # `shared` may be on another disk
    beside.replace(place)
    atomic.sync_folder(place.parent)


# ---- the command line ----


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="spill")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("all")
    verbs.add_parser("grant")
    for verb in ("job", "fetch"):
        verbs.add_parser(verb).add_argument("job_id")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with _told():
        print(json.dumps({"done": _answer(options, BoxPaths.of_release())}), flush=True)


def _answer(options: argparse.Namespace, box: BoxPaths) -> dict[str, Any]:
    if options.verb == "grant":
        grants.take(
            box.root,
            UploadGrant.from_json(
                untrusted_json.loads_object(sys.stdin.read(), lone_surrogates=True)
            ),
        )
        return {}
    if options.verb == "fetch":
        asked = untrusted_json.loads_object(sys.stdin.read(), lone_surrogates=True)
        manifest = Manifest.from_json(json.dumps(asked["manifest"]))
        return {"fetched": fetch(box, manifest, asked["folder"], asked["urls"])}
    if options.verb == "all":
        _with_boto3([grant for _, grant in _waiting(box)], box)
        return {
            "spilled": spill_all(box, lambda line: print(json.dumps({"line": line}), flush=True))
        }
    grant = grants.of_run(
        box.root, JobSpec.read(box.job(supervise.checked(options.job_id)).spec).run_id
    )
    if grant is None:
        raise Refused(
            Cause.CONFIG,
            "there is no right to write to a bucket on this box",
            remedy="set `storage.bucket` in inventory.yaml",
        )
    _with_boto3([grant], box)
    return asdict(spill(box, options.job_id, grant))


def _with_boto3(needed: list[UploadGrant], box: BoxPaths) -> None:
    """Go on as the environment's Python where an instance profile is to be used and this Python has
    no boto3."""
    if not any(grant.profile for grant in needed) or importlib.util.find_spec("boto3"):
        return
    found = environment.find(environment.requirements_file("requirements.txt"), box.environments)
    if found and found != Path(sys.executable):
        os.execv(found, [str(found), "-m", "remote.payload.transfer.upload", *sys.argv[1:]])  # noqa: S606 - no shell is wanted


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
        return
    except Refused as refusal:
        words = refusal.words
    except bucket.Unreachable as error:
        words = Refused(
            Cause.CODE, "the bucket cannot be used from the box", str(error), _AGAIN
        ).words
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = Refused(
            Cause.ARTIFACT,
            "the job could not be kept or brought",
            f"{type(error).__name__}: {error}",
            _AGAIN,
        ).words
    print(json.dumps({"error": words}), flush=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
