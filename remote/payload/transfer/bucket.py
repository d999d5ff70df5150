"""The box's ways to its bucket: a presigned POST with the standard library, or the instance profile
with boto3."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from remote.contract.artifacts.upload import UploadGrant, dataset_folder

TRIES = 3
TIMEOUT_SECONDS = 60.0
_BOUNDARY = "windlass-7d1f0c53a2b94e6f"
_POST_MARGIN_SECONDS = 5.0
_CHUNK = 1 << 20
MOST_POSTED = 5 << 30
"""Bytes of a file that one POST takes."""


class Unreachable(Exception):
    """The bucket did not take, or give, an object; the message says why."""


class Road(Protocol):
    """A way to write one object."""

    def put(self, key: str, content: bytes) -> None:
        """Write an object; raises Unreachable."""

    def put_file(self, key: str, path: Path) -> None:
        """Write a file of any size as one object; raises Unreachable, OSError."""


class Bucket:
    """A bucket by every road that a grant opens, the instance profile first: its rights do not run
    out."""

    def __init__(self, grant: UploadGrant) -> None:
        posts = bool(grant.url) and time.time() < grant.expires - _POST_MARGIN_SECONDS
        self._roads: list[Road] = [
            *([Profile(grant)] if grant.profile else []),
            *([Post(grant)] if posts else []),
        ]
        self._why = "the right to write there has run out"

    def put(self, key: str, content: bytes) -> None:
        """Write an object; raises Unreachable when no road leads there."""
        self._by_any(lambda road: road.put(key, content))

    def put_file(self, key: str, path: Path) -> None:
        """Write a file of a dataset as one object; raises Unreachable, OSError."""
        self._by_any(lambda road: road.put_file(key, path))

    def _by_any(self, put: Callable[[Road], None]) -> None:
        for road in list(self._roads):
            try:
                return put(road)
            except Unreachable as error:
                self._why = str(error)
                self._roads = [other for other in self._roads if other is not road] or [road]
        raise Unreachable(self._why)


class Post:
    """By presigned POST."""

    def __init__(self, grant: UploadGrant) -> None:
        self._grant = grant

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        head, tail = _form({**self._grant.fields, "key": key})
        body = b"".join((head, content, tail))
        _answer(lambda: self._request(body, len(body)))

    def put_file(self, key: str, path: Path) -> None:
        """Write a file of a dataset; what it holds is read as it goes."""
        size = path.stat().st_size
        if size > MOST_POSTED:
            raise Unreachable(
                f"{path.name} has {size:,} bytes, and without an instance profile"
                f" {MOST_POSTED:,} are the most"
            )
        head, tail = _form({**self._fields_of(key), "key": key})
        length = len(head) + size + len(tail)
        _answer(lambda: self._request(_streamed(head, path, size, tail), length))

    def _fields_of(self, key: str) -> dict[str, str]:
        for name, fields in self._grant.datasets.items():
            if key.startswith(dataset_folder(name)):
                return fields
        raise Unreachable(f"this run was given no right to write {key}")

    def _request(self, body: bytes | Iterator[bytes], length: int) -> urllib.request.Request:
        headers = {
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(length),
        }
        return urllib.request.Request(self._grant.url, data=body, headers=headers, method="POST")  # noqa: S310


class Profile:
    """With the credentials of the box's instance profile. boto3 renews them by itself."""

    def __init__(self, grant: UploadGrant) -> None:
        self._bucket, self._region = grant.bucket, grant.region
        self._made: Any = None
        self._making = threading.Lock()

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._do(lambda s3: s3.put_object(Bucket=self._bucket, Key=key, Body=content))

    def put_file(self, key: str, path: Path) -> None:
        """Write a file, a large one in parts."""
        self._do(lambda s3: s3.upload_file(str(path), self._bucket, key))

    def _do(self, put: Callable[[Any], object]) -> None:
        try:
            put(self._client())
        except ImportError:
            raise Unreachable("this Python has no boto3 for the instance profile") from None
        except Exception as error:  # botocore's are known only once it is imported
            raise Unreachable(f"with the instance profile: {error}") from None

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                import boto3
                from botocore.config import Config

                config = Config(
                    retries={"mode": "standard", "total_max_attempts": TRIES},
                    connect_timeout=5,
                    read_timeout=TIMEOUT_SECONDS,
                )
                self._made = boto3.session.Session(region_name=self._region).client(
                    "s3", config=config
                )
            return self._made


def get(url: str, most: int) -> bytes:
    """An object of at most so many bytes by its presigned address; raises Unreachable."""
    content = _answer(lambda: urllib.request.Request(url), most + 1)  # noqa: S310 - the laptop signed it
    if len(content) > most:
        raise Unreachable(f"an object of more than {most:,} bytes, which nobody put there")
    return content


def _form(fields: dict[str, str]) -> tuple[bytes, bytes]:
    """What stands before and behind the content."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="piece"\r\n'
    head = "".join([*parts, file, "Content-Type: application/octet-stream\r\n\r\n"])
    return head.encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()


def _streamed(head: bytes, path: Path, size: int, tail: bytes) -> Iterator[bytes]:
    """Exactly `size` bytes of the file, which the form's length was reckoned with."""
    yield head
    with path.open("rb") as file:
        while size:
            chunk = file.read(min(_CHUNK, size))
            if not chunk:
                raise OSError(f"{path.name} is shorter than it was")
            size -= len(chunk)
            yield chunk
    yield tail


def _answer(request: Callable[[], urllib.request.Request], most: int = -1) -> bytes:
    """What is answered to a request, which is made anew for each try."""
    why = ""
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request(), timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                content: bytes = answer.read(most)
                return content
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code}: {error.read(600).decode(errors='replace')}"
            if error.code < 500:
                break
        except OSError as error:
            why = str(error)
        time.sleep(0.5 * 2**attempt)
    raise Unreachable(why)
