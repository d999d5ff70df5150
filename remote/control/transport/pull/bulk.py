"""A slow connection to a box, and a bucket for what is large: Session Manager carries under 1 MB/s.

Commands, their answers and what is small go over the connection. What a command reads and is large
is put into the bucket and fetched by the box; large artifacts come by the bucket too (`by_bucket`).
Nothing stays in the bucket.
"""

import io
import json
import secrets
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from remote.control.errors import BoxUnreachable
from remote.control.output.sanitize import last_lines
from remote.control.project import CODE
from remote.control.transport.base import Result, Stdin, Stream, Transport, run_to_end

if TYPE_CHECKING:
    from remote.control.cloud.box import Box

LARGE_BYTES = 1 << 20
_SIGNED_SECONDS = 6 * 3600
_STORE_FAILED = 75


@dataclass(frozen=True)
class Store:
    """A place in a bucket for what is under way. `explained` makes refusals errors for people."""

    s3: Any
    bucket: str
    prefix: str
    explained: Callable[[], AbstractContextManager[None]]

    def put(self, name: str, content: Any) -> None:
        """Upload an open file, from where it stands to its end."""
        with self.explained():
            self.s3.upload_fileobj(_Unclosed(content), self.bucket, self.prefix + name)

    def get(self, name: str, size: int) -> bytes:
        """The content of an object; see `remote.control.cloud.bucket.fetch`."""
        from remote.control.cloud import bucket

        with self.explained():
            return bucket.fetch(self.s3, self.bucket, self.prefix + name, size)

    def link(self, name: str, operation: str) -> str:
        """A URL with which its holder may get_object, or put_object, one object for some hours."""
        what = {"Bucket": self.bucket, "Key": self.prefix + name}
        return str(self.s3.generate_presigned_url(operation, what, _SIGNED_SECONDS))

    def remove(self, folder: str, older_than: float = 0.0) -> None:
        """Remove all objects whose names begin so, or those older than so many seconds."""
        from remote.control.cloud import bucket

        until = datetime.now(UTC) - timedelta(seconds=older_than)
        with self.explained():
            found = bucket.objects(self.s3, self.bucket, self.prefix + folder)
            old = (each for each in found if not older_than or each["LastModified"] < until)
            bucket.delete(self.s3, self.bucket, [each["Key"] for each in old])


class BulkTransport:
    """A slow transport, and a store that carries bulk for it.

    The store is only asked for when there is bulk; None where the inventory has none. `round_trips`
    and `bytes_sent` are those of the connection: what went by the bucket is not among them.
    """

    def __init__(self, inner: Transport, store: Callable[[], Store | None]) -> None:
        self.where, self.another, self.close = inner.where, inner.another, inner.close
        self._inner, self._make_store = inner, store

    @cached_property
    def store(self) -> Store | None:
        """The store, where there is one."""
        return self._make_store()

    @property
    def round_trips(self) -> int:
        """Commands over the connection."""
        return self._inner.round_trips

    @property
    def bytes_sent(self) -> int:
        """Bytes over the connection."""
        return self._inner.bytes_sent

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout), self.where)

    def open(
        self,
        command: str,
        stdin: Stdin = b"",
        timeout: float | None = None,
        silence: float | None = None,
    ) -> Stream:
        """Start a command; what it reads and is large goes by the store."""
        size = _size(stdin)
        if size < LARGE_BYTES or (store := self.store) is None:
            return self._inner.open(command, stdin, timeout, silence)
        folder = f"{secrets.token_hex(8)}/"
        name = f"{folder}in"
        try:
            store.put(name, io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin)
            asked = json.dumps({"url": store.link(name, "get_object"), "size": size}).encode()
            stream = self._inner.open(_ferry(command), asked, timeout, silence)
        except BaseException:
            store.remove(folder)
            raise
        return _Ferried(stream, self.where, lambda: store.remove(folder))

    def __enter__(self) -> "BulkTransport":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Ferried:
    """A command that reads an object: as any other, but the object is removed when it ends."""

    def __init__(self, inner: Stream, where: str, remove: Callable[[], None]) -> None:
        self._inner, self._where, self._remove = inner, where, remove

    @property
    def exit_code(self) -> int:
        return self._inner.exit_code

    @property
    def stderr(self) -> bytes:
        return self._inner.stderr

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner
        if self.exit_code == _STORE_FAILED:
            remedy = "a box in a private network needs an S3 gateway endpoint or NAT"
            raise BoxUnreachable(
                "the box does not get at the bucket",
                where=self._where,
                why=last_lines(self.stderr),
                remedy=f"{remedy}; then run the same command again",
            )

    def __enter__(self) -> "_Ferried":
        return self

    def __exit__(self, *exception: object) -> None:
        self._inner.__exit__(*exception)
        try:
            self._remove()
        except Exception:
            if exception == (None, None, None):  # an error that is under way says more
                raise


class _Unclosed(io.RawIOBase):
    """A file for the uploader, which closes what it is given: its owner may want to rewind it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return bytes(self._file.read(size))


def of_box(box: "Box", inner: Transport) -> Transport:
    """`inner`, with the inventory's bucket beside it where it is slow."""
    return BulkTransport(inner, partial(_store_of, box)) if box.id and box.reach == "ssm" else inner


def _store_of(box: "Box") -> Store | None:
    from remote.control.cloud import bucket
    from remote.control.cloud.account import refusals
    from remote.control.project import identity

    found = bucket.of_entry(box.entry.bucket, box.entry) if box.entry is not None else None
    if found is None:
        return None
    context = refusals.Context(box.name, found.at.region, regions=found.at.regions)
    prefix = f"windlass/{identity.project_mark()}/bulk/"
    return Store(found.at.client("s3"), found.name, prefix, partial(refusals.explained, context))


def _ferry(command: str) -> str:
    source = (CODE / "remote/payload/transfer/ferry.py").read_text()
    return f"exec python3 -c {shlex.quote(source)} {shlex.quote(command)}"


def _size(stdin: Stdin) -> int:
    """Bytes that are left to read; 0 for a stream that cannot tell."""
    if isinstance(stdin, bytes):
        return len(stdin)
    try:
        at = stdin.tell()
        size = stdin.seek(0, io.SEEK_END) - at
        stdin.seek(at)
    except (AttributeError, OSError, ValueError):
        return 0
    return size
