"""A slow connection to a box whose bulk goes by presigned S3: a Session Manager tunnel carries under one megabyte a second.

Commands, their answers and what is small go over the connection. What a command reads and is large is put into the bucket and
fetched by the box; large artifacts come by the bucket too (`by_bucket`). Nothing stays in the bucket.
"""

import io
import json
import secrets
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from remote.control.errors import BoxUnreachable
from remote.control.project import CODE
from remote.control.transport.base import Result, Stdin, Stream, Transport, last_lines, run_to_end

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.cloud.bucket import Write

LARGE_BYTES = 1 << 20
_SIGNED_SECONDS = 6 * 3600
_STORE_FAILED = 75


@dataclass(frozen=True)
class Store:
    """A place in a bucket for what is under way. `explained` turns the cloud's refusals into errors for people."""

    s3: Any
    bucket: str
    prefix: str
    explained: Callable[[], AbstractContextManager[None]]

    def put(self, name: str, content: io.BufferedIOBase | Any) -> None:
        """Upload a file, from where it stands to its end."""
        with self.explained():
            self.s3.upload_fileobj(_Unclosed(content), self.bucket, self.prefix + name)

    def link(self, name: str, operation: str) -> str:
        """A URL that lets its holder do one thing (get_object, put_object) with one object for some hours."""
        return str(self.s3.generate_presigned_url(operation, {"Bucket": self.bucket, "Key": self.prefix + name}, _SIGNED_SECONDS))

    def get(self, name: str, size: int, write: "Write") -> None:
        """Bring an object; see `remote.control.cloud.bucket.fetch`."""
        from remote.control.cloud import bucket

        with self.explained():
            bucket.fetch(self.s3, self.bucket, self.prefix + name, size, write)

    def remove(self, folder: str, older_than: float = 0.0) -> None:
        """Remove all objects below `folder`, or those older than so many seconds."""
        from remote.control.cloud import bucket

        until = datetime.now(UTC) - timedelta(seconds=older_than)
        with self.explained():
            found = bucket.objects(self.s3, self.bucket, self.prefix + folder)
            bucket.delete(self.s3, self.bucket, [each["Key"] for each in found if not older_than or each["LastModified"] < until])


class BulkTransport:
    """A transport that is slow, and a store that carries bulk for it: what commands read, and what `pull` brings.

    The store is only asked for when there is bulk; None where the inventory has none.
    """

    def __init__(self, inner: Transport, store: Callable[[], Store | None]) -> None:
        self.where = inner.where
        self._inner, self._make_store = inner, store
        self._made: Store | None = None
        self._was_asked = False
        self._lock = threading.Lock()

    @property
    def round_trips(self) -> int:
        """Commands over the connection."""
        return self._inner.round_trips

    @property
    def bytes_sent(self) -> int:
        """Bytes over the connection; what went by the bucket is not among them."""
        return self._inner.bytes_sent

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Run a command to its end."""
        return run_to_end(self.open(command, stdin, timeout), self.where)

    def open(self, command: str, stdin: Stdin = b"", timeout: float | None = None, silence: float | None = None) -> Stream:
        """Start a command; what it reads and is large goes by the store."""
        if _size(stdin) >= LARGE_BYTES and (store := self.store) is not None:
            return self._fed(store, command, stdin, timeout, silence)
        return self._inner.open(command, stdin, timeout, silence)

    def another(self) -> Transport:
        """A second connection, without the store."""
        return self._inner.another()

    def close(self) -> None:
        """End the connection."""
        self._inner.close()

    def __enter__(self) -> "BulkTransport":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def store(self) -> Store | None:
        """The store, where there is one."""
        with self._lock:
            if not self._was_asked:
                self._made, self._was_asked = self._make_store(), True
            return self._made

    def _fed(self, store: Store, command: str, stdin: Stdin, timeout: float | None, silence: float | None) -> Stream:
        name = f"{secrets.token_hex(8)}/in"
        size = _size(stdin)
        try:
            store.put(name, io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin)
            asked = json.dumps({"url": store.link(name, "get_object"), "size": size}).encode()
            return _Ferried(self._inner.open(_ferry(command), asked, timeout, silence), store, name.partition("/")[0], self.where)
        except BaseException:
            store.remove(name)
            raise


class _Ferried:
    """A command that reads an object: as any other, but the object goes when it ends."""

    def __init__(self, inner: Stream, store: Store, folder: str, where: str) -> None:
        self._inner, self._store, self._folder, self._where = inner, store, folder, where

    @property
    def exit_code(self) -> int:
        """The exit code, after the output is exhausted."""
        return self._inner.exit_code

    @property
    def stderr(self) -> bytes:
        """The end of standard error."""
        return self._inner.stderr

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner
        self._check()

    def __enter__(self) -> "_Ferried":
        return self

    def __exit__(self, *exception: object) -> None:
        self._inner.__exit__(*exception)
        try:
            self._store.remove(f"{self._folder}/")
        except Exception:
            if exception == (None, None, None):  # an error that is under way says more
                raise

    def _check(self) -> None:
        if self._inner.exit_code == _STORE_FAILED:
            raise BoxUnreachable(
                "the box does not get at the bucket", where=self._where, why=last_lines(self._inner.stderr),
                remedy="a box in a private network needs an S3 gateway endpoint or NAT; then run the same command again",
            )  # fmt: skip


class _Unclosed(io.RawIOBase):
    """A file for the uploader, which closes what it is given: the caller may want to rewind its own."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        return bytes(self._file.read(size))


def of_box(box: "Box", inner: Transport) -> Transport:
    """`inner`, with the inventory's bucket beside it where it is slow."""
    return BulkTransport(inner, partial(_store_of, box)) if box.id and box.reach == "ssm" else inner


def _store_of(box: "Box") -> Store | None:
    from remote.control.cloud import bucket, identity, refusals
    from remote.control.config.inventory import load_inventory

    inventory = load_inventory()
    name, entry = inventory.storage.bucket, inventory.boxes.get(box.name)
    found = bucket.of_entry(name, entry) if entry is not None else None
    if found is None:
        return None
    explained = partial(refusals.explained, refusals.Context(box.name, found.at.region, regions=found.at.regions))
    return Store(found.at.client("s3"), found.name, f"windlass/{identity.project_mark()}/bulk/", explained)


def _ferry(command: str) -> str:
    source = (CODE / "remote/payload/transfer/ferry.py").read_text()
    return f"exec python3 -c {shlex.quote(source)} {shlex.quote(command)}"


def _size(stdin: Stdin) -> int:
    if isinstance(stdin, bytes):
        return len(stdin)
    if not hasattr(stdin, "tell"):
        return 0
    try:
        at = stdin.tell()
        size = stdin.seek(0, io.SEEK_END) - at
        stdin.seek(at)
    except (OSError, ValueError):
        return 0
    return size
