"""Bring an artifact home: verified by SHA-256 and safetensors header, resumed where it broke off, never taken half for whole."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from remote.contract import atomic, digest, disk, safetensors
from remote.contract.jobs import Artifact, Cause
from remote.contract.spill import Manifest
from remote.control.errors import BoxUnreachable, CloudError, JobFailed
from remote.control.printable import sized
from remote.control.project import CODE
from remote.control.transport.base import Transport
from remote.control.transport.bulk import LARGE_BYTES, BulkTransport
from remote.control.transport.by_store import StoreFailed, run_lane_by_store
from remote.control.transport.lanes import OnBytes, SideLanes, Work, corrupt, run_lane
from remote.control.transport.partial import Partial
from remote.control.transport.payload import on_box
from remote.control.transport.persist import PATIENCE_SECONDS, persistently

if TYPE_CHECKING:
    from remote.control.cloud.bucket import Bucket

Notice = Callable[[str], None]


def pull(
    transport: Transport, box_root: str, artifact: Artifact, destination: Path, on_bytes: OnBytes | None = None,
    notice: Notice = lambda line: None, patience_seconds: float = PATIENCE_SECONDS, look: Callable[[], None] = lambda: None,
) -> Path:  # fmt: skip
    """Pull `artifact` to the path `destination`, its final name (a file put into an existing folder keeps its own name).

    What is already there and whole is not sent again; what broke off goes on, within the call for as long as `persistently` has it:
    `notice` is told of a lost connection, and `look` is called before each new try, to raise where it is in vain. `on_bytes` gets the
    bytes that are here so far. Raises ArtifactCorrupt when it does not verify, BoxUnreachable when the box does not come back (the part
    is kept), JobFailed when this laptop's disk is full.
    """
    road = _OverSsh(transport, box_root, artifact, notice, look)
    return _pulled(road, destination, on_bytes or (lambda done: None), notice, patience_seconds)


def pull_spilled(
    found: "Bucket", manifest: Manifest, artifact: Artifact, destination: Path, on_bytes: OnBytes, notice: Notice,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Path:  # fmt: skip
    """Pull what a box that is gone has spilled of `artifact`, as `pull` does, going on where a pull from the box itself broke off.

    Raises ArtifactCorrupt where the bucket does not have it, or something else, CloudError where the cloud refuses or is not reached.
    """
    from remote.control.transport.by_bucket import ByBucket

    try:
        return _pulled(ByBucket(found, manifest, artifact), destination, on_bytes, notice, patience_seconds)
    except BoxUnreachable as error:  # it is the bucket that is not reached
        raise CloudError(error.what, where=error.where, why=error.why, kept=error.kept, remedy=error.remedy) from None


def _pulled(road: "_Road", destination: Path, on_bytes: OnBytes, notice: Notice, patience_seconds: float) -> Path:
    artifact = road.artifact
    try:
        artifact.check()
    except ValueError as error:
        raise corrupt(road.where, artifact, str(error)) from None
    if destination.is_dir() and not artifact.is_folder:
        destination = destination / PurePosixPath(artifact.path).name
    if is_whole(destination, artifact):
        return destination
    try:
        _bring_whole(road, destination, lambda partial: _fill(road, partial, on_bytes, notice, patience_seconds))
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise _no_space(destination, artifact.size) from None
    return destination


def is_whole(path: Path, artifact: Artifact) -> bool:
    """Whether `path` is that artifact, bit for bit."""
    if not path.exists() or path.is_dir() != artifact.is_folder or digest.size_of(path) != artifact.size:
        return False
    return digest.of_path(path) == artifact.sha256


def _part(artifact: Artifact, destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.{artifact.sha256[:12]}.partial")


class _Road(Protocol):
    """Where an artifact comes from. `attempt` goes on until all is here; BoxUnreachable from it means that it may be called again."""

    where: str
    artifact: Artifact

    def attempt(self, partial: Partial, on_bytes: OnBytes) -> None: ...


def _bring_whole(road: _Road, destination: Path, fill: Callable[[Partial], None]) -> None:
    artifact = road.artifact
    problem, was_resumed = "", True
    while was_resumed:  # what an earlier attempt left may be damaged: then once more, from the start
        partial = Partial(_part(artifact, destination), artifact)
        was_resumed = partial.resumed_bytes > 0
        try:
            fill(partial)
            problem = _problem(partial)
            if not problem:
                partial.settle(destination)
                atomic.sync_folder(destination.parent)
                return
            partial.remove()
        finally:
            partial.close()
    raise corrupt(road.where, artifact, problem)


def _fill(road: _Road, partial: Partial, on_bytes: OnBytes, notice: Notice, patience_seconds: float) -> None:
    def attempt() -> None:
        if not partial.is_complete:
            road.attempt(partial, on_bytes)

    _need_space(partial)
    if partial.done:
        on_bytes(partial.done)
    try:
        persistently(attempt, progress=lambda: partial.done, notice=notice, patience_seconds=patience_seconds)
    except BoxUnreachable as error:
        error.kept = f"{sized(partial.done)} of {sized(road.artifact.size)} are kept; the same command goes on there"
        raise


class _OverSsh:
    """The road from the box, with the lanes beside it."""

    def __init__(self, transport: Transport, box_root: str, artifact: Artifact, notice: Notice, look: Callable[[], None]) -> None:
        self.transport, self.artifact, self.where = transport, artifact, transport.where
        self._command = f"exec python3 -I -S -c {shlex.quote((CODE / 'remote/payload/transfer/send.py').read_text())} {on_box(box_root)}"
        self._notice, self._look = notice, look
        self._attempts, self._store_failed = 0, False

    def attempt(self, partial: Partial, on_bytes: OnBytes) -> None:
        """Bring what is missing."""
        if self._attempts:
            self._look()
        self._attempts += 1
        work = Work(partial, on_bytes)
        try:
            if not (self._is_slow and self._by_store(work, partial)):
                self._straight(work, partial)
        except BoxUnreachable:
            if work.error is None:
                raise
        if work.error is not None:
            raise work.error

    def _straight(self, work: Work, partial: Partial) -> None:
        def beside() -> None:
            try:
                self._by_store(work, partial)
            except BoxUnreachable:  # the main lane sees that too
                return
            except Exception as error:
                work.end(error)

        with SideLanes(self.transport, self._command, self.artifact, work, partial, None if self._is_slow else beside) as side:
            run_lane(self.transport, self._command, self.artifact, work, partial, side.main_opened)

    @property
    def _is_slow(self) -> bool:
        return isinstance(self.transport, BulkTransport) and self.transport.is_slow and self.artifact.size >= LARGE_BYTES

    def _by_store(self, work: Work, partial: Partial) -> bool:
        """Bring what is missing by the transport's store; False where it has none, or it fails, once for all."""
        if self._store_failed or not isinstance(self.transport, BulkTransport):
            return False
        try:
            if (store := self.transport.store) is None:
                return False
            run_lane_by_store(self.transport, self._command, self.artifact, work, partial, store)
            return True
        except (StoreFailed, CloudError) as error:
            self._store_failed = True
            self._notice(f"{self.artifact.path} does not come by the bucket ({error}): it comes over SSH alone")
            return False


def _problem(partial: Partial) -> str:
    found, artifact = partial.digest(), partial.artifact
    if found != artifact.sha256:
        return f"SHA-256 is {found}, expected {artifact.sha256}"
    for file in digest.files_in(partial.path) if artifact.is_folder else [partial.path]:
        if PurePosixPath(file.name if artifact.is_folder else artifact.path).suffix == ".safetensors":
            try:
                safetensors.check(file)
            except ValueError as error:
                return f"{file.name}: {error}"
    return ""


def _need_space(partial: Partial) -> None:
    if shutil.disk_usage(partial.path.parent).free < partial.artifact.size - partial.done:
        raise _no_space(partial.path, partial.artifact.size - partial.done)


def _no_space(path: Path, size: int) -> JobFailed:
    return JobFailed(
        "this laptop's disk is full", cause=Cause.DISK_FULL, where=str(path.parent), why=f"{sized(size)} are needed",
        remedy="free space, then run the same command again", kept="what has arrived",
    )  # fmt: skip
