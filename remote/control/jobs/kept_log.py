"""The log of a job whose box is gone, out of the bucket."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from remote.contract import digest, job_log
from remote.contract.spill import Manifest
from remote.control.cloud import bucket
from remote.control.cloud.bucket import Bucket
from remote.control.config.inventory import Inventory
from remote.control.console import say
from remote.control.jobs.mirror import Mirror

_COMPARED_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_OFFSET = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Part:
    """The bytes `start` to `end` of the log, in the manifest under `path`."""

    start: int
    end: int
    path: str


def bring(inventory: Inventory, box: str, job_id: str, log: Path) -> str:
    """Bring what the box spilled of the job's log to `log`; returns where it lay, or nothing where there is no more than `log` holds.

    What lies in neither is a hole: see `remote.control.jobs.mirror`. Raises CloudError where the bucket cannot be asked.
    """
    found = bucket.of_entry(inventory.storage.bucket, inventory.box(box))
    manifest = found.manifest(job_id) if found else None
    kept = parts(manifest) if manifest else []
    if found is None or manifest is None or not kept or (log.exists() and log.stat().st_size >= kept[-1].end):
        return ""
    return found.place(job_id) if _complete(found, manifest, kept, log) else ""


def parts(manifest: Manifest) -> list[Part]:
    """The parts of the log that the bucket has, oldest first."""
    newest = f"jobs/{manifest.job_id}/{job_log.NAME}"
    older = sorted(path for path in manifest.files if path.startswith(f"{newest}.") and _OFFSET.fullmatch(path[len(newest) + 1 :]))
    older = older[-job_log.KEPT_PARTS :]
    starts = [int(path.rpartition(".")[2]) for path in older]
    if newest in manifest.files:
        starts.append(starts[-1] + manifest.files[older[-1]].size if older else 0)
        older.append(newest)
    return [Part(start, start + manifest.files[path].size, path) for start, path in zip(starts, older, strict=True)]


def _complete(found: Bucket, manifest: Manifest, kept: list[Part], log: Path) -> bool:
    """Put what the bucket has beyond the local log behind it; returns whether every part verified."""
    piece = log.with_name(f".{log.name}.part")
    copy = Mirror("log", log, None, say)
    try:
        for part in kept:
            if part.end < copy.offset:  # one that ends there shows whether it is the same log
                continue
            found.download(manifest, part.path, piece)
            if digest.of_file(piece) != manifest.files[part.path].sha256:
                return False
            if not _goes_on(copy, part, piece):
                copy.restart()
                return _complete(found, manifest, kept, log)
            _take(copy, part, piece)
        return True
    finally:
        copy.close()
        piece.unlink(missing_ok=True)


def _goes_on(copy: Mirror, part: Part, piece: Path) -> bool:
    """Whether the local log is a beginning of the one that the part is of."""
    start = max(part.start, copy.solid_from(), copy.offset - _COMPARED_BYTES)
    if start >= copy.offset:
        return True
    with copy.path.open("rb") as ours, piece.open("rb") as theirs:
        size = copy.offset - start
        return os.pread(ours.fileno(), size, start) == os.pread(theirs.fileno(), size, start - part.start)


def _take(copy: Mirror, part: Part, piece: Path) -> None:
    copy.skip(copy.offset, part.start)
    with piece.open("rb") as file:
        while content := os.pread(file.fileno(), _PIECE_BYTES, copy.offset - part.start):
            copy.take(copy.offset, content)
