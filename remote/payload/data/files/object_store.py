"""Objects below `s3://bucket/prefix/`: listed, and read as files. Needs boto3.

An object is read in ranges that all name its ETag, so that one which is replaced while it is read
is noticed, and never mixed with another. What breaks off, or is throttled, is asked again. Keys and
region come as boto3 finds them (instance profile, environment), or from the recipe's entry.
"""

import functools
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

SCHEME = "s3://"
_FIRST_BLOCK, _LAST_BLOCK = 256 << 10, 16 << 20
_KEPT_BLOCKS = 2
_TRIES = 6
_GONE = {"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "404"}
_CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}
_NOT_ALLOWED = {"AccessDenied", "AllAccessDisabled", "403", "InvalidAccessKeyId"}


class ObjectLost(Exception):
    """An object that can no longer be read as it was listed; says why."""


@dataclass(frozen=True)
class StoredObject:
    """An object as it was listed. `size` is in bytes."""

    bucket: str
    key: str
    size: int
    etag: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def plain(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Access:
    """How the store is reached; empty where boto3 finds it by itself."""

    region: str = ""
    endpoint: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Access":
        """As an entry of a recipe says: `region`, `endpoint`."""
        return cls(entry.get("region") or "", entry.get("endpoint") or "")

    def client(self) -> Any:
        """A client of S3, the same for the same environment."""
        told = tuple(sorted(each for each in os.environ.items() if each[0].startswith("AWS_")))
        return _client(self.region, self.endpoint, told)


@functools.lru_cache(maxsize=4)
def _client(region: str, endpoint: str, _environment: object) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10, read_timeout=60
    )
    return boto3.session.Session().client(
        "s3", region_name=region or None, endpoint_url=endpoint or None, config=config
    )


def is_address(path: str) -> bool:
    """Whether a path of a recipe means objects."""
    return path.startswith(SCHEME)


def parted(address: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix/`. Raises StageFailed where there is no bucket."""
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not bucket or not is_address(address):
        raise StageFailed(
            Cause.CONFIG, f"{address} names no bucket", remedy="write s3://BUCKET/PREFIX/"
        )
    return bucket, prefix


def listed(address: str, access: Access) -> Iterator[tuple[str, StoredObject]]:
    """The objects below an address, or the one it names, in the order of their keys; each with its
    name relative to the address. Raises StageFailed where it cannot be listed."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, prefix = parted(address)
    folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    try:
        pages = access.client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for told in page.get("Contents") or ():
                key = told["Key"]
                if key.endswith("/") or not (key == prefix or key.startswith(folder)):
                    continue
                name = key.removeprefix(folder) if key != prefix else key.rpartition("/")[2]
                yield name, StoredObject(bucket, key, told["Size"], told["ETag"])
    except (BotoCoreError, ClientError) as error:
        raise _unlisted(bucket, error) from None


def opened(found: StoredObject, access: Access) -> io.BufferedReader:
    """The object as a file that can be read anywhere, no more than some ranges of it in memory.
    Reading raises ObjectLost."""
    return io.BufferedReader(_Ranges(found, access.client()), 1 << 16)


class _Ranges(io.RawIOBase):
    """Blocks of an object; the larger, the longer it is read straight on."""

    def __init__(
        self, found: StoredObject, client: Any, pause: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__()
        self._found, self._client, self._pause = found, client, pause
        self._position, self._length = 0, _FIRST_BLOCK
        self._blocks: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on elsewhere."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._found.size}[whence]
        if base + offset < 0:
            raise ValueError("before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Some bytes of the block that holds the position."""
        if self._position >= self._found.size or not len(buffer):
            return 0
        start, block = self._block()
        piece = block[self._position - start :][: len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _block(self) -> tuple[int, bytes]:
        for start, block in self._blocks:
            if start <= self._position < start + len(block):
                return start, block
        ends = [start + len(block) for start, block in self._blocks]
        is_next = self._position in ends
        self._length = min(2 * self._length, _LAST_BLOCK) if is_next else _FIRST_BLOCK
        until = min(self._position + self._length, self._found.size)
        made = (self._position, self._asked(self._position, until))
        self._blocks = [*self._blocks, made][-_KEPT_BLOCKS:]
        return made

    def _asked(self, start: int, end: int) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        last: Exception | None = None
        for number in range(_TRIES):
            if number:
                self._pause(0.5 * 2**number)
            try:
                answer = self._client.get_object(
                    Bucket=self._found.bucket,
                    Key=self._found.key,
                    Range=f"bytes={start}-{end - 1}",
                    IfMatch=self._found.etag,
                )
                content: bytes = answer["Body"].read()
            except ClientError as error:
                last = error
                _raise_lost(self._found, error)
            except (BotoCoreError, OSError) as error:  # the connection, in the middle of it
                last = error
            else:
                if len(content) == end - start:
                    return content
                last = EOFError(f"{len(content)} bytes came of {end - start}")
        raise ObjectLost(f"{self._found} could not be read: {last}")


def _raise_lost(found: StoredObject, error: Any) -> None:
    """Raise ObjectLost where asking again does not help."""
    code = str(error.response["Error"]["Code"])
    if code in _GONE:
        raise ObjectLost(f"{found} vanished after it was listed") from None
    if code in _CHANGED:
        raise ObjectLost(f"{found} changed after it was listed") from None
    if code in _NOT_ALLOWED:
        raise ObjectLost(f"{found} may not be read: {code}") from None
    if code == "InvalidObjectState":
        raise ObjectLost(f"{found} lies in an archive class of S3: restore it first") from None


def _unlisted(bucket: str, error: Exception) -> StageFailed:
    """Why a bucket cannot be listed, and what to do."""
    response: Mapping[str, Any] = getattr(error, "response", {})
    code = str((response.get("Error") or {}).get("Code", ""))
    what, remedy = f"cannot list s3://{bucket}", "try again: `./inv resume`"
    if code in _GONE:
        what, remedy = f"there is no bucket {bucket}", "correct `path` in the recipe"
    elif code in _NOT_ALLOWED:
        remedy = f"allow s3:ListBucket and s3:GetObject on {bucket} to this box's role"
    elif type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        remedy = "give the box an instance profile that may read the bucket, or AWS keys"
    elif code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
        remedy = "name the bucket's region: `region:` beside `path`"
    return StageFailed(Cause.DATA, what, str(error), remedy)
