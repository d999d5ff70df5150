"""An artifact out of a bucket, by boto3's own transfer: put there because its box is slow to reach, or before the box was gone.

An object of which anything is missing is fetched whole: what a broken transfer had brought of it comes again.
"""

import contextlib
import itertools
import secrets
from collections import deque

from remote.contract import typed, untrusted_json
from remote.contract.jobs import Artifact
from remote.contract.spill import Manifest
from remote.control.cloud.bucket import BrokenOff, Bucket
from remote.control.errors import CloudError
from remote.control.transport.base import Stream, Transport, last_lines
from remote.control.transport.bulk import Store
from remote.control.transport.download import Requests, blocks_of, broken_off, corrupt, ended, read_files
from remote.control.transport.partial import LONGEST_LIST_BYTES, Partial
from remote.control.transport.payload import lines_of

OBJECT_BYTES = 16 << 20
AHEAD = 8
"""Objects that the box has been asked for at once; it puts several at a time."""

SILENCE_SECONDS = 600.0
"""The box tries to put an object three times, two minutes each."""

STALE_SECONDS = 86400.0
"""What a killed laptop left in the bucket is removed after so long, by the next pull that uses it."""

_PUT_FAILED = 75


class StoreFailed(Exception):
    """The store cannot be used from the box or from here; says why."""


class Spilled:
    """What a box that is gone has left of an artifact, for `remote.control.transport.pull`."""

    def __init__(self, found: Bucket, manifest: Manifest, artifact: Artifact) -> None:
        self.where, self.artifact = found.place(manifest.job_id), artifact
        self._found, self._job_id = found, manifest.job_id
        below = f"{artifact.path}/" if artifact.is_folder else artifact.path
        names = {name.removeprefix(below): name for name in manifest.files if name.startswith(below)}
        self._files = [(name, manifest.files[names[name]]) for name in sorted(names) if artifact.is_folder or not name]

    def attempt(self, partial: Partial) -> None:
        """Bring what is missing. Raises BoxUnreachable where the connection is lost, ArtifactCorrupt, CloudError, OSError."""
        files = [(name, kept.size) for name, kept in self._files]
        if sum(size for _, size in files) != self.artifact.size:
            raise corrupt(self.where, self.artifact, "the bucket does not hold all of it")
        start = 0
        try:
            partial.set_files(files)
            for _, kept in self._files:
                for piece in self._found.pieces(self._job_id, kept):
                    first = start + piece.offset
                    if not partial.has(first, first + piece.size):
                        self._found.fetch(piece, partial.writer(start))
                start += kept.size
        except ValueError as error:
            raise corrupt(self.where, self.artifact, str(error)) from None
        except BrokenOff as error:
            raise broken_off(self.where, str(error)) from None


def pull_staged(transport: Transport, command: str, partial: Partial, store: Store) -> None:
    """Bring what is missing by a store: the box puts it there, object by object, and the laptop gets it. Nothing stays there.

    `command` starts the sender on the box. Raises StoreFailed; BoxUnreachable when the connection breaks; OSError.
    """
    folder = secrets.token_hex(8)
    try:
        store.remove("", older_than=STALE_SECONDS)
        _Staged(transport, command, partial, store, folder).run()
    except (BrokenOff, CloudError) as error:
        raise StoreFailed(getattr(error, "why", "") or str(error)) from None
    finally:
        with contextlib.suppress(CloudError):  # what is left is removed by the next one
            store.remove(f"{folder}/")


class _Staged:
    def __init__(self, transport: Transport, command: str, partial: Partial, store: Store, folder: str) -> None:
        self._transport, self._command, self._partial, self._store, self._folder = transport, command, partial, store, folder
        self._requests = Requests(partial.artifact)
        self._blocks = deque(blocks_of(partial.missing(), OBJECT_BYTES))
        self._asked: dict[int, int] = {}

    def run(self) -> None:
        for _ in range(AHEAD):
            self._ask()
        with self._transport.open(self._command, self._requests.as_stdin(), silence=SILENCE_SECONDS) as stream:
            try:
                self._receive(stream)
            finally:
                self._requests.end()

    def _ask(self) -> None:
        if self._blocks:
            start, end = self._blocks.popleft()
            self._asked[start] = end
            self._requests.send(start=start, end=end, url=self._store.link(self._name(start), "put_object"))

    def _name(self, start: int) -> str:
        """The object of the block that starts there. All are of one length: what begins with a name is that object alone."""
        return f"{self._folder}/{start:020}"

    def _receive(self, stream: Stream) -> None:
        where, chunks = self._transport.where, iter(stream)
        rest = read_files(chunks, where, stream, self._partial)
        for line in lines_of(itertools.chain([rest], chunks), where, LONGEST_LIST_BYTES):
            self._get(line)
            if not self._asked:
                return
        if stream.exit_code == _PUT_FAILED:
            raise StoreFailed(last_lines(stream.stderr))
        raise ended(where, self._partial.artifact, stream)

    def _get(self, line: bytes) -> None:
        try:
            start: int = typed.value(int, untrusted_json.loads_object(line)["put"], "put")
            size = self._asked.pop(start) - start
        except (KeyError, TypeError, ValueError):
            why = f"the box tells of a block that it was not asked for: {line[:80]!r}"
            raise corrupt(self._transport.where, self._partial.artifact, why) from None
        self._store.get(self._name(start), size, self._partial.writer(start))
        self._store.remove(self._name(start))
        self._ask()
