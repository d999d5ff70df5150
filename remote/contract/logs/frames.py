"""Frames: a line of JSON, then as many raw bytes as its `size` says. Binary safe, cut anywhere.

`remote.contract.logs.query` tells which frames there are.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from remote.contract.files import untrusted_json

HEARTBEAT_SECONDS = 4.0
MARK_BYTES = 4096
MAX_HEADER_BYTES = 1 << 20
MAX_CONTENT_BYTES = 64 << 20
"""More than anybody sends at once: what claims to be larger is garbled, and would be waited for in
memory."""


def encode(header: dict[str, Any], content: bytes = b"") -> bytes:
    """One frame. `size` is filled in where there is content."""
    if content:
        header = {**header, "size": len(content)}
    return json.dumps(header).encode() + b"\n" + content


class FrameReader:
    """Takes chunks as they arrive, gives whole frames."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._looked_at = 0
        self._header: dict[str, Any] | None = None

    def feed(self, chunk: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The frames that `chunk` completes, as (header, content). Raises ValueError for what is no
        frame."""
        self._rest += chunk
        while True:
            if self._header is None and not self._take_header():
                return
            header = self._header or {}
            size = _size_in(header)
            if len(self._rest) < size:
                return
            with memoryview(self._rest) as rest:
                content = bytes(rest[:size])
            del self._rest[:size]
            self._header = None
            yield header, content

    def _take_header(self) -> bool:
        end = self._rest.find(b"\n", self._looked_at)
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._rest) > MAX_HEADER_BYTES):
            raise ValueError(f"a frame whose header does not end within {MAX_HEADER_BYTES:,} bytes")
        self._looked_at = (
            len(self._rest) if end < 0 else 0
        )  # what comes byte by byte is looked at once
        if end < 0:
            return False
        self._header = untrusted_json.loads_object(
            bytes(self._rest[:end]), max_bytes=MAX_HEADER_BYTES
        )
        del self._rest[: end + 1]
        return True


def _size_in(header: dict[str, Any]) -> int:
    size = header.get("size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_CONTENT_BYTES:
        raise ValueError(f"a frame of {size!r} bytes")
    return size


def mark(offset: int, before: bytes) -> str:
    """Names a file by the bytes before an offset, as many as are given: another file, or a
    rewritten one, has another mark there."""
    return f"{len(before)}:{hashlib.sha256(b'%d:' % offset + before).hexdigest()}"


def marked_bytes(known: str) -> int:
    """How many bytes before its offset a mark stands for; -1 for what is no mark."""
    count = known.partition(":")[0]
    return min(int(count), MARK_BYTES) if count.isdigit() else -1
