"""An artifact out of the bucket to which a box that is gone has spilled it: ranges side by side, each asked for where it broke off."""

import threading
from collections.abc import Iterator

from remote.contract.jobs import Artifact
from remote.contract.spill import Manifest
from remote.control.cloud.bucket import BrokenOff, Bucket
from remote.control.errors import BoxUnreachable
from remote.control.transport.lanes import Lane, OnBytes, Work, corrupt
from remote.control.transport.partial import Partial

PIECE_BYTES = 8 << 20
GETS_AT_ONCE = 4
_ENDING_SECONDS = 1.0


class ByBucket:
    """The road from the bucket, for `remote.control.transport.pull`."""

    def __init__(self, found: Bucket, manifest: Manifest, artifact: Artifact) -> None:
        self.where, self.artifact = found.place(manifest.job_id), artifact
        self._found, self._job_id = found, manifest.job_id
        below = f"{artifact.path}/" if artifact.is_folder else artifact.path
        files = {name.removeprefix(below): kept for name, kept in manifest.files.items() if name.startswith(below)}
        files = files if artifact.is_folder else {name: kept for name, kept in files.items() if not name}
        self._kept = [files[name] for name in sorted(files)]
        self._files = [(name, files[name].size) for name in sorted(files)]

    def attempt(self, partial: Partial, on_bytes: OnBytes) -> None:
        """Bring what is missing. Raises BoxUnreachable where the connection is lost, ArtifactCorrupt, CloudError, OSError."""
        if sum(size for _, size in self._files) != self.artifact.size:
            raise corrupt(self.where, self.artifact, "the bucket does not hold all of it")
        try:
            partial.admit(self._files)
        except ValueError as error:
            raise corrupt(self.where, self.artifact, str(error)) from None
        work, losses = Work(partial, on_bytes), list[BrokenOff]()
        self._side_by_side(work, min(GETS_AT_ONCE, -(-(self.artifact.size - partial.done) // PIECE_BYTES)), losses)
        if work.error is not None:
            raise work.error
        if not partial.is_complete:
            remedy = "run the same command again"
            raise BoxUnreachable(f"{self.artifact.path} from the bucket broke off", where=self.where, why=str(losses[-1]), remedy=remedy)

    def _side_by_side(self, work: Work, count: int, losses: list[BrokenOff]) -> None:
        lanes = [threading.Thread(target=self._lane, args=(work, losses), name="lane", daemon=True) for _ in range(count)]
        for lane in lanes:
            lane.start()
        try:
            for lane in lanes:
                lane.join()
        finally:
            work.end()
            for lane in lanes:
                lane.join(_ENDING_SECONDS)

    def _lane(self, work: Work, losses: list[BrokenOff]) -> None:
        lane = Lane()
        try:
            while piece := work.take(lane, 1, PIECE_BYTES):
                for chunk in self._chunks(piece.at, piece.end):
                    if work.is_over:
                        return
                    work.arrived(lane, piece, chunk)
        except BrokenOff as error:  # the others go on, and take over what it still owes
            losses.append(error)
        except Exception as error:
            work.end(error)
        finally:
            work.leave(lane)

    def _chunks(self, at: int, end: int) -> Iterator[bytes]:
        start = 0
        for kept in self._kept:
            first, last = max(at - start, 0), min(end - start, kept.size)
            if first < last:
                yield from self._found.chunks(self._job_id, kept, first, last)
            start += kept.size
