"""A way to a box whose bulk goes round it, by presigned S3: a Session Manager tunnel carries under one megabyte a second.

Commands, their answers and what is small go over the connection as ever. What a command reads and is large is put into the bucket and
fetched by the box; what it says and is large comes back in pieces. Nothing stays in the bucket.
"""

import base64
import contextlib
import io
import json
import secrets
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from remote.control.errors import BoxUnreachable
from remote.control.project import CODE
from remote.control.transport.base import Result, Stdin, Stream, Transport, last_lines, run_to_end
from remote.control.transport.payload import lines_of

if TYPE_CHECKING:
    from remote.control.cloud.box import Box

LARGE_BYTES = 1 << 20
PIECE_BYTES = 16 << 20
_SIGNED_SECONDS = 6 * 3600
_STORE_FAILED = 75
_CHUNK = 1 << 20


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

    def chunks(self, name: str) -> Iterator[bytes]:
        """An object's content."""
        with self.explained():
            body = self.s3.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"]
            with contextlib.closing(body):
                yield from body.iter_chunks(_CHUNK)

    def remove(self, folder: str) -> None:
        """Remove all objects below `folder`."""
        with self.explained():
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + folder):
                if keys := [{"Key": each["Key"]} for each in page.get("Contents", ())]:
                    self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})


class BulkTransport:
    """A transport whose bulk goes by a store, which is only asked for when there is some."""

    def __init__(self, inner: Transport, store: Callable[[], Store]) -> None:
        self.where = inner.where
        self._inner, self._make_store = inner, store
        self._made: Store | None = None
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
        return run_to_end(self.open(command, stdin, timeout))

    def open(
        self, command: str, stdin: Stdin = b"", timeout: float | None = None, silence: float | None = None, expect: int = 0
    ) -> Stream:  # fmt: skip
        """Start a command, its bulk by the bucket."""
        if _size(stdin) >= LARGE_BYTES:
            return self._fed(command, stdin, timeout, silence)
        if expect >= LARGE_BYTES:
            return self._carried(command, stdin, timeout, silence, expect)
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
    def _store(self) -> Store:
        with self._lock:
            if self._made is None:
                self._made = self._make_store()
            return self._made

    def _fed(self, command: str, stdin: Stdin, timeout: float | None, silence: float | None) -> Stream:
        store, name = self._store, f"{secrets.token_hex(8)}/in"
        size = _size(stdin)
        try:
            store.put(name, io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin)
            asked = json.dumps({"url": store.link(name, "get_object"), "size": size}).encode()
            return _Ferried(self._inner.open(_ferry("in", command), asked, timeout, silence), store, name.partition("/")[0], self.where)
        except BaseException:
            store.remove(name)
            raise

    def _carried(self, command: str, stdin: Stdin, timeout: float | None, silence: float | None, expect: int) -> Stream:
        store, folder = self._store, secrets.token_hex(8)
        question = stdin if isinstance(stdin, bytes) else stdin.read()
        count = expect * 101 // 100 // PIECE_BYTES + 2
        urls = [store.link(f"{folder}/{number:06}", "put_object") for number in range(count)]
        asked = json.dumps({"urls": urls, "piece": PIECE_BYTES, "stdin": base64.b64encode(question).decode()}).encode()
        return _Carried(self._inner.open(_ferry("out", command), asked, timeout, silence), store, folder, self.where)


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


class _Carried(_Ferried):
    """A command whose output comes by the store, piece by piece."""

    _told: int = -1

    @property
    def exit_code(self) -> int:
        """The exit code of the command, after the output is exhausted."""
        return self._told

    def __iter__(self) -> Iterator[bytes]:
        for number, line in enumerate(lines_of(self._inner)):
            told = json.loads(line)
            if "exit" in told:
                self._told = int(told["exit"])
                continue
            name = f"{self._folder}/{number:06}"
            yield from self._store.chunks(name)
            self._store.remove(name)
        if self._told == -1:
            self._told = self._inner.exit_code
        self._check()


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
    """`inner`, with its bulk by the inventory's bucket where there is one."""
    from remote.control.cloud import bucket, identity, refusals
    from remote.control.config.inventory import load_inventory

    inventory = load_inventory()
    name, entry = inventory.storage.bucket, inventory.boxes.get(box.name)
    if name is None or entry is None:
        return inner

    def store() -> Store:
        found = bucket.of_entry(name, entry)
        assert found is not None  # a box of a cloud, and a bucket
        explained = partial(refusals.explained, refusals.Context(box.name, found.at.region, regions=found.at.regions))
        return Store(found.at.client("s3"), name, f"windlass/{identity.project_mark()}/bulk/", explained)

    return BulkTransport(inner, store)


def _ferry(way: str, command: str) -> str:
    source = (CODE / "remote/payload/ferry.py").read_text()
    return f"exec python3 -c {shlex.quote(source)} {way} {shlex.quote(command)}"


def _size(stdin: Stdin) -> int:
    if isinstance(stdin, bytes):
        return len(stdin)
    try:
        at = stdin.tell()
        size = stdin.seek(0, io.SEEK_END) - at
        stdin.seek(at)
    except (OSError, ValueError):
        return 0
    return size
