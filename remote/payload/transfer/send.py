"""Sends ranges of an artifact: as bytes to the laptop, or by presigned URLs of an object store. Standard library only; sent with its
command, so that it fits whatever release the box has.

    python3 -I -S -c SOURCE ROOT

Standard input has a JSON object a line: first `{"path": ...}`, relative to ROOT; then what is wanted, `{"from", "to"}` or
`{"from", "to", "url"}`. Offsets count over all files in the order of their names, as if they were one.
Standard output has a line `{"files": [[name, size], ...]}` (a single file has the name ""), or `{"error": ...}`; then the bytes of each
range as asked; of one with a URL the line `{"put": from}`, as soon as it is there. The end of standard input ends it at once.

The URLs are secrets: they come on standard input, never as arguments, and are never told.
Imports are few, and late where they are heavy: somebody waits for the first byte.
"""
# pathlib is one of the heavy ones:
# ruff: noqa: PTH110, PTH112, PTH113, PTH116, PTH118

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator

STORE_FAILED = 75
CHANGED = 65
PUTS_AT_ONCE = 4
_CHUNK = 1 << 18
_SECONDS = 120
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP)
"""Not every kernel and file system copies into a pipe by itself; where it does, that costs a tenth less of processor time in all."""


def main() -> None:
    """Send what standard input asks for."""
    path = os.path.join(sys.argv[1], json.loads(sys.stdin.buffer.readline())["path"])
    if not os.path.exists(path):
        words = {"what": f"the artifact is not on the box any more: {path}", "remedy": "`./inv resume` makes it again"}
        _say({"error": {"cause": "artifact", "why": "", "kept": "", **words}})
        return
    artifact = Ranges(path)
    _say({"files": artifact.names_and_sizes()})
    put = None
    for line in iter(sys.stdin.buffer.readline, b""):
        asked = json.loads(line)
        if "url" in asked:
            put = put or _putter(artifact)
            put(asked["from"], asked["to"], asked["url"])
        else:
            _write(artifact, asked["from"], asked["to"])
    os._exit(0)  # what is still being put is wanted no more


class Ranges:
    """The files below a path, or the file that it is, as if they were one."""

    def __init__(self, path: str) -> None:
        names = sorted(_names_in(path)) if os.path.isdir(path) else [""]
        self._files = [(name, place, os.stat(place).st_size) for name in names for place in [os.path.join(path, name) if name else path]]

    def names_and_sizes(self) -> "list[tuple[str, int]]":
        """Each file's name relative to the path, and its bytes."""
        return [(name, size) for name, _, size in self._files]

    def parts(self, start: int, end: int) -> "Iterator[tuple[str, int, int]]":
        """What lies from `start` to `end`: files, and from where to where each."""
        at = 0
        for _, file, size in self._files:
            if at < end and start < at + size:
                yield file, max(start - at, 0), min(end - at, size)
            at += size

    def content(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Raises ValueError when a file is shorter than it was."""
        return b"".join(piece for part in self.parts(start, end) for piece in _bytes_of(*part))


def _names_in(folder: str) -> "Iterator[str]":
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path):
                yield os.path.relpath(path, folder)


def _bytes_of(file: str, start: int, end: int) -> "Iterator[bytes]":
    with open(file, "rb", buffering=0) as opened:
        opened.seek(start)
        while start < end:
            piece = opened.read(min(_CHUNK, end - start))
            if not piece:
                raise _changed(file)
            start += len(piece)
            yield piece


def _changed(file: str) -> ValueError:
    return ValueError(f"{file} has changed while it was sent")


def _write(artifact: Ranges, start: int, end: int) -> None:
    try:
        for part in artifact.parts(start, end):
            _write_part(*part)
    except BrokenPipeError:
        os._exit(0)  # the laptop is gone
    except ValueError as error:
        _end(CHANGED, str(error))
    except OSError as error:
        _end(1, str(error))


def _write_part(file: str, start: int, end: int) -> None:
    with open(file, "rb", buffering=0) as opened:
        while start < end:
            try:
                sent = os.sendfile(1, opened.fileno(), start, end - start)
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                break
            if not sent:
                raise _changed(file)
            start += sent
    for piece in _bytes_of(file, start, end):
        _write_all(piece)


def _write_all(content: bytes) -> None:
    while content:
        content = content[os.write(1, content) :]


def _putter(artifact: Ranges) -> "Callable[[int, int, str], None]":
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(PUTS_AT_ONCE)

    def put(start: int, end: int, url: str) -> None:
        pool.submit(_put, artifact, start, end, url)

    return put


def _put(artifact: Ranges, start: int, end: int, url: str) -> None:
    try:
        _upload(url, artifact.content(start, end))
        _say({"put": start})
    except ValueError as error:
        _end(CHANGED, str(error))
    except OSError as error:
        _end(STORE_FAILED, str(error))
    except Exception as error:  # such as an answer that is no HTTP: somebody waits for it. Not its words, which may hold the URL
        _end(STORE_FAILED, type(error).__name__)


def _upload(url: str, content: bytes) -> None:
    import urllib.error
    import urllib.request

    for attempt in range(3):
        try:
            headers = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request(url, data=content, method="PUT", headers=headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == 2:
                raise
        except OSError:
            if attempt == 2:
                raise


def _end(code: int, why: str) -> None:
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(code)


def _say(line: "dict[str, object]") -> None:
    _write_all(json.dumps(line).encode() + b"\n")  # one write, where it fits a pipe: lines of several threads do not mix


if __name__ == "__main__":
    main()
