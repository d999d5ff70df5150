"""A lane by an object store: the box puts pieces of an artifact there by presigned URLs, the laptop gets them, several at once.

A Session Manager tunnel carries under a megabyte a second, so there everything large comes this way; elsewhere it runs beside the other
lanes when those are slow, and takes what it can. The pieces are taken from the end, where no other lane is. Nothing stays in the bucket.
"""

import contextlib
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from remote.contract import untrusted_json
from remote.contract.jobs import Artifact
from remote.control.errors import CloudError
from remote.control.transport.base import Stream, Transport, last_lines
from remote.control.transport.bulk import Store
from remote.control.transport.lanes import LONGEST_HEADER_BYTES, Piece, Questions, Work, admit, broken_off
from remote.control.transport.partial import Partial
from remote.control.transport.payload import lines_of

PIECE_BYTES = 8 << 20
HELD_PIECES = 8
GETS_AT_ONCE = 4
STALE_SECONDS = 86400.0
"""What a killed laptop left in the bucket is removed after so long, when the next one comes by."""

_STORE_FAILED = 75


class StoreFailed(Exception):
    """The store cannot be used from the box or from here; says why."""


def run_lane_by_store(transport: Transport, command: str, artifact: Artifact, work: Work, partial: Partial, store: Store) -> None:
    """Bring pieces by the store until all is over. Raises StoreFailed; BoxUnreachable when the connection breaks; OSError."""
    folder = secrets.token_hex(8)
    lane = Questions(artifact.path, lambda lane: _question(store, folder, work.take(lane, HELD_PIECES, PIECE_BYTES, backwards=True)))
    try:
        store.remove("", older_than=STALE_SECONDS)
        with transport.open(command, lane.as_stdin()) as stream, _Gets(store, folder, lane, work) as gets:
            _follow(transport.where, stream, artifact, work, partial, gets)
            gets.wait()
    except CloudError as error:
        raise StoreFailed(error.why or error.what) from None
    except OSError as error:
        work.end(error)
        raise
    finally:
        with contextlib.suppress(CloudError):  # what is left is removed when the next one comes by
            store.remove(f"{folder}/")


def _question(store: Store, folder: str, piece: Piece | None) -> dict[str, Any] | None:
    if piece is None:
        return None
    return {"from": piece.at, "to": piece.end, "url": store.link(_name(folder, piece.at), "put_object")}


def _name(folder: str, start: int) -> str:
    """The object of the piece that starts there. All are of one length: what begins with a name is that object alone."""
    return f"{folder}/{start:020}"


def _follow(where: str, stream: Stream, artifact: Artifact, work: Work, partial: Partial, gets: "_Gets") -> None:
    lines = lines_of(stream, where, LONGEST_HEADER_BYTES)
    header = next(lines, None)
    if header is not None:
        admit(where, header, artifact, partial)
        for line in lines:  # to its end: then nothing is put there any more
            gets.fetch(int(untrusted_json.loads_object(line)["put"]))
    if stream.exit_code == _STORE_FAILED:
        raise StoreFailed(last_lines(stream.stderr))
    if not (work.is_over or gets.failed):
        raise broken_off(where, artifact, stream)


class _Gets:
    """Gets pieces as they are put, several at once. Leaving the block ends them and gives back what the lane still holds."""

    def __init__(self, store: Store, folder: str, lane: Questions, work: Work) -> None:
        self._store, self._folder, self._lane, self._work = store, folder, lane, work
        self._pool = ThreadPoolExecutor(GETS_AT_ONCE, thread_name_prefix="lane")
        self._failure: StoreFailed | None = None

    def __enter__(self) -> "_Gets":
        return self

    def __exit__(self, *_: object) -> None:
        self._work.ask_no_more(self._lane)
        self._pool.shutdown(cancel_futures=True)
        self._work.leave(self._lane)

    @property
    def failed(self) -> bool:
        """Whether one could not be got."""
        return self._failure is not None

    def fetch(self, start: int) -> None:
        """Get the piece that starts there."""
        for piece in list(self._lane.held):
            if piece.at == start:
                self._pool.submit(self._fetch, piece, _name(self._folder, start))

    def wait(self) -> None:
        """Wait for all. Raises StoreFailed where one could not be got."""
        self._pool.shutdown()
        if self._failure is not None:
            raise self._failure

    def _fetch(self, piece: Piece, name: str) -> None:
        try:
            for chunk in self._wanted(self._store.chunks(name)):
                self._take(piece, chunk)
            if piece.at < piece.end and not (self._lane.is_over or self._work.is_over):
                raise StoreFailed("an object is shorter than what was put there")
            self._store.remove(name)
        except Exception as error:  # whatever a client of the cloud comes up with: the other roads are open
            self._failure = StoreFailed(getattr(error, "why", "") or str(error) or type(error).__name__)
            self._work.ask_no_more(self._lane)

    def _take(self, piece: Piece, chunk: bytes) -> None:
        try:
            self._work.arrived(self._lane, piece, chunk)
        except OSError as error:  # this laptop's disk: no road helps
            self._work.end(error)

    def _wanted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._lane.is_over or self._work.is_over:
                return
            yield chunk
