"""Bring an artifact home: verified, resumed where it broke off, never taken half for whole."""

import contextlib
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from remote.contract.artifacts import safetensors
from remote.contract.artifacts.upload import Manifest
from remote.contract.files import digest, disk
from remote.contract.job.jobs import Artifact, Cause
from remote.control.errors import BoxUnreachable, CloudError, JobFailed
from remote.control.output.sanitize import sized
from remote.control.project import CODE
from remote.control.retry import PATIENCE_SECONDS, retry_while_unreachable
from remote.control.transport.base import Transport
from remote.control.transport.payload import on_box
from remote.control.transport.pull.bulk import LARGE_BYTES, BulkTransport
from remote.control.transport.pull.by_bucket import Spilled, StoreFailed, pull_staged
from remote.control.transport.pull.download import Download, corrupt
from remote.control.transport.pull.partial import Partial

if TYPE_CHECKING:
    from remote.control.cloud.bucket import Bucket

Notice = Callable[[str], None]
OnBytes = Callable[[int], None]


def pull(
    transport: Transport,
    box_root: str,
    artifact: Artifact,
    destination: Path,
    on_bytes: OnBytes = lambda done: None,
    notice: Notice = lambda line: None,
    patience_seconds: float = PATIENCE_SECONDS,
    look: Callable[[], None] = lambda: None,
) -> Path:
    """Pull `artifact` to the path `destination` (a file put into a folder keeps its name).

    What is there and whole is not sent again; what broke off goes on, within the call for as long
    as `retry_while_unreachable` has it: `notice` is told of a lost connection, and `look` is called
    before each new try, to raise where it is in vain. `on_bytes` gets the bytes that are here so
    far. Raises ArtifactCorrupt when it does not verify, BoxUnreachable when the box does not come
    back (the part is kept), JobFailed when this laptop's disk is full.
    """
    source = _Box(transport, box_root, artifact, notice, look)
    return _pull(source, destination, on_bytes, notice, patience_seconds)


def pull_spilled(
    found: "Bucket",
    manifest: Manifest,
    artifact: Artifact,
    destination: Path,
    on_bytes: OnBytes,
    notice: Notice,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Path:
    """Pull what a box that is gone has spilled of `artifact`; a pull from the box is gone on with.

    Raises ArtifactCorrupt where the bucket does not have it, CloudError where it is not reached.
    """
    try:
        source = Spilled(found, manifest, artifact)
        return _pull(source, destination, on_bytes, notice, patience_seconds)
    except BoxUnreachable as error:  # it is the bucket that is not reached
        words = {"where": error.where, "why": error.why, "kept": error.kept}
        raise CloudError(error.what, remedy=error.remedy, **words) from None


def is_whole(path: Path, artifact: Artifact) -> bool:
    """Whether `path` is that artifact, bit for bit."""
    is_like_it = path.exists() and path.is_dir() == artifact.is_folder
    if not is_like_it or digest.size_of(path) != artifact.size:
        return False
    return digest.of_path(path) == artifact.sha256


class _Box:
    """An artifact on a box: over SSH, or by the transport's store where that is slow."""

    def __init__(
        self,
        transport: Transport,
        box_root: str,
        artifact: Artifact,
        notice: Notice,
        look: Callable[[], None],
    ) -> None:
        self._transport, self.artifact, self.where = transport, artifact, transport.where
        sender = (CODE / "remote/payload/transfer/send.py").read_text()
        self._command = f"exec python3 -I -S -c {shlex.quote(sender)} {on_box(box_root)}"
        self._notice, self._look = notice, look
        self._is_first, self._store_failed = True, False

    def attempt(self, partial: Partial) -> None:
        """Bring all that is missing. Raises BoxUnreachable: then it may be called again."""
        if not self._is_first:
            self._look()
        self._is_first = False
        if not self._by_store(partial):
            Download(self._transport, self._command, partial).run()

    def _by_store(self, partial: Partial) -> bool:
        """Whether the transport's store has brought it: once it has failed, no more."""
        is_large = self.artifact.size - partial.done >= LARGE_BYTES
        if self._store_failed or not is_large or not isinstance(self._transport, BulkTransport):
            return False
        try:
            if (store := self._transport.store) is None:
                return False
            pull_staged(self._transport, self._command, partial, store)
            return True
        except (StoreFailed, CloudError) as error:
            self._store_failed = True
            words = f"does not come by the bucket ({error}): it comes over SSH alone"
            self._notice(f"{self.artifact.path} {words}")
            return False


def _pull(
    source: "_Box | Spilled",
    destination: Path,
    on_bytes: OnBytes,
    notice: Notice,
    patience_seconds: float,
) -> Path:
    artifact = source.artifact
    try:
        artifact.check()
    except ValueError as error:
        raise corrupt(source.where, artifact, str(error)) from None
    if destination.is_dir() and not artifact.is_folder:
        destination = destination / PurePosixPath(artifact.path).name
    if is_whole(destination, artifact):
        return destination
    path = destination.with_name(f".{destination.name}.{artifact.sha256[:12]}.partial")
    was_resumed = True
    try:
        while was_resumed:  # what an earlier one left may be damaged: then once more, from nothing
            with contextlib.closing(Partial(path, artifact, on_bytes)) as partial:
                was_resumed = partial.done > 0
                _fill(partial, source, notice, patience_seconds)
                if not (problem := _problem(partial)):
                    partial.rename(destination)
                    return destination
                partial.remove()
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise _no_space(destination, artifact.size) from None
    raise corrupt(source.where, artifact, problem)


def _fill(
    partial: Partial, source: "_Box | Spilled", notice: Notice, patience_seconds: float
) -> None:
    left, size = partial.artifact.size - partial.done, partial.artifact.size
    if shutil.disk_usage(partial.path.parent).free < left:
        raise _no_space(partial.path, left)
    if partial.is_complete:
        return
    attempt, progress = lambda: source.attempt(partial), lambda: partial.done
    try:
        retry_while_unreachable(
            attempt, progress=progress, notice=notice, patience_seconds=patience_seconds
        )
    except BoxUnreachable as error:
        kept = f"{sized(partial.done)} of {sized(size)} are kept"
        error.kept = f"{kept}; the same command goes on there"
        raise


def _problem(partial: Partial) -> str:
    found, artifact = partial.digest(), partial.artifact
    if found != artifact.sha256:
        return f"SHA-256 is {found}, expected {artifact.sha256}"
    named = {artifact.path: partial.path}
    if artifact.is_folder:
        named = {path.as_posix(): path for path in digest.files_in(partial.path)}
    for name, file in named.items():
        if name.endswith(".safetensors"):
            try:
                safetensors.check(file)
            except ValueError as error:
                return f"{file.name}: {error}"
    return ""


def _no_space(path: Path, size: int) -> JobFailed:
    return JobFailed(
        "this laptop's disk is full",
        cause=Cause.DISK_FULL,
        where=str(path.parent),
        why=f"{sized(size)} are needed",
        kept="what has arrived",
        remedy="free space, then run the same command again",
    )
