"""An artifact out of a bucket: put there because its box is slow to reach, or before it was gone.

An object arrives whole or not at all: what a broken transfer had brought of it comes again.
"""

import contextlib
import itertools
import secrets
from collections.abc import Iterator

from remote.contract.artifacts.upload import Manifest, Piece
from remote.contract.files import typed, untrusted_json
from remote.contract.job.jobs import Artifact
from remote.control.cloud.bucket import BrokenOff, Bucket
from remote.control.errors import CloudError
from remote.control.output.sanitize import last_lines
from remote.control.transport.base import Stream, Transport
from remote.control.transport.payload import lines_of
from remote.control.transport.pull.bulk import Store
from remote.control.transport.pull.download import (
    Requests,
    blocks_of,
    broken_off,
    corrupt,
    next_chunk,
    read_files,
)
from remote.control.transport.pull.extents import Range
from remote.control.transport.pull.partial import Partial

OBJECT_BYTES = 8 << 20
AHEAD = 8
"""Objects that the box has been asked for, and puts, at once."""

SILENCE_SECONDS = 600.0
"""The box tries to put an object three times, two minutes each."""

STALE_SECONDS = 86400.0
"""What a killed laptop left there is removed after so long, by the next pull that comes by."""

_PUT_FAILED = 75
_LONGEST_LINE = 1000


class StoreFailed(Exception):
    """The store cannot be used from the box or from here; says why."""


class Spilled:
    """What a box that is gone has left of an artifact, for `remote.control.transport.pull.pull`."""

    def __init__(self, found: Bucket, manifest: Manifest, artifact: Artifact) -> None:
        self.where, self.artifact = found.place(manifest.job_id), artifact
        self._found, self._job_id = found, manifest.job_id
        below = f"{artifact.path}/" if artifact.is_folder else artifact.path
        paths = sorted(path for path in manifest.files if path.startswith(below))
        files = {path.removeprefix(below): manifest.files[path] for path in paths}
        self._files = files if artifact.is_folder else {"": files[""]} if "" in files else {}

    def attempt(self, partial: Partial) -> None:
        """Bring what is missing. Raises BoxUnreachable where the bucket is not reached."""
        files = [(name, kept.size) for name, kept in self._files.items()]
        if sum(size for _, size in files) != self.artifact.size:
            raise corrupt(self.where, self.artifact, "the bucket does not hold all of it")
        try:
            partial.set_files(files)
            for start, piece in self._pieces(partial.missing()):
                partial.write(start, self._found.fetch(piece))
        except ValueError as error:
            raise corrupt(self.where, self.artifact, str(error)) from None
        except BrokenOff as error:
            raise broken_off(self.where, str(error)) from None

    def _pieces(self, missing: list[Range]) -> Iterator[tuple[int, Piece]]:
        start = 0
        for kept in self._files.values():
            for piece in self._found.pieces(self._job_id, kept):
                until = start + piece.size
                if piece.size and any(gap < until and start < end for gap, end in missing):
                    yield start, piece
                start = until


def pull_staged(transport: Transport, command: str, partial: Partial, store: Store) -> None:
    """Bring what is missing by a store: the box puts it there, block by block; nothing stays.

    `command` starts the sender on the box. Raises StoreFailed; BoxUnreachable where the connection
    to the box is lost.
    """
    folder = f"{secrets.token_hex(8)}/"
    try:
        store.remove("", older_than=STALE_SECONDS)
        _Staging(transport.where, partial, store, folder).run(transport, command)
    except (BrokenOff, CloudError) as error:
        raise StoreFailed(getattr(error, "why", "") or str(error)) from None
    finally:
        with contextlib.suppress(CloudError):  # what is left is removed by the next one
            store.remove(folder)


class _Staging:
    """The objects in `folder` of a store, each a block, named by where it starts."""

    def __init__(self, where: str, partial: Partial, store: Store, folder: str) -> None:
        self._where, self._partial, self._store, self._folder = where, partial, store, folder
        self._requests = Requests(partial.artifact)
        self._blocks = blocks_of(partial.missing(), OBJECT_BYTES)
        self._asked: dict[int, int] = {}

    def run(self, transport: Transport, command: str) -> None:
        for _ in range(AHEAD):
            self._ask()
        with transport.open(command, self._requests.stdin, silence=SILENCE_SECONDS) as stream:
            try:
                self._receive(stream)
            finally:
                self._requests.end()

    def _ask(self) -> None:
        if self._blocks:
            start, end = self._blocks.popleft()
            self._asked[start] = end
            url = self._store.link(self._name(start), "put_object")
            self._requests.send(start=start, end=end, url=url)

    def _name(self, start: int) -> str:
        # All are of one length: what begins with a name is that object alone.
        return f"{self._folder}{start:020}"

    def _receive(self, stream: Stream) -> None:
        chunks = iter(stream)
        rest = read_files(chunks, self._where, stream, self._partial)
        for line in lines_of(itertools.chain([rest], chunks), self._where, _LONGEST_LINE):
            self._get(line)
            if not self._asked:
                return
        if stream.exit_code == _PUT_FAILED:
            raise StoreFailed(last_lines(stream.stderr))
        next_chunk(chunks, self._where, stream, self._partial)

    def _get(self, line: bytes) -> None:
        try:
            start: int = typed.value(int, untrusted_json.loads_object(line)["put"], "put")
            end = self._asked.pop(start)
        except (KeyError, TypeError, ValueError):
            why = f"the box tells of a block that it was not asked for: {line[:80]!r}"
            raise corrupt(self._where, self._partial.artifact, why) from None
        self._partial.write(start, self._store.get(self._name(start), end - start))
        self._store.remove(self._name(start))
        self._ask()
