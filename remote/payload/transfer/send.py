"""Sends parts of an artifact: to the laptop, or by presigned URLs into a bucket.

Standard library only; sent with its command, so that it fits whatever release the box has.

    python3 -I -S -c SOURCE ROOT

Standard input has a JSON object a line: first `{"path"}`, relative to ROOT; then what is wanted,
`{"start", "end"}` or `{"start", "end", "url"}`. Offsets count over all files in the order of their
names, as if they were one. Standard output has a line `{"files": [[name, size], ...]}` (a single
file has the name ""), or `{"error": ...}`; then the bytes of each part as asked; of one with a URL
the line `{"put": start}`, once it is there. The end of standard input ends it at once.

The URLs are secrets: they come on standard input, never as arguments, and are never printed.
Imports are few, and late where they are heavy: somebody waits for the first byte.
"""

# pathlib is one of the heavy ones:
# ruff: noqa: PTH110, PTH112, PTH113, PTH116, PTH118

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator

PUT_FAILED = 75
CHANGED = 65
_CHUNK = 1 << 18
_SECONDS = 120
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP)
"""Not every kernel and file system copies into a pipe; where it does, a tenth less work is done."""


def main() -> None:
    """Send what standard input asks for."""
    path = os.path.join(sys.argv[1], json.loads(sys.stdin.buffer.readline())["path"])
    if not os.path.exists(path):
        what = f"the artifact is not on the box any more: {path}"
        words = {"what": what, "why": "", "kept": "", "remedy": "`./inv resume` makes it again"}
        _say({"error": {"cause": "artifact", **words}})
        return
    files = Files(path)
    _say({"files": files.names_and_sizes()})
    for line in iter(sys.stdin.buffer.readline, b""):
        asked = json.loads(line)
        if "url" in asked:
            import threading

            put = (_put, files, asked["start"], asked["end"], asked["url"])
            threading.Thread(target=_or_end, args=put, daemon=True).start()
        else:
            _or_end(files.copy, asked["start"], asked["end"], _to_stdout)
    os._exit(0)  # what is still being put is wanted no more


class Files:
    """The files below a path, or the one that it is, as if they were one."""

    def __init__(self, path: str) -> None:
        names = sorted(_names_in(path)) if os.path.isdir(path) else [""]
        places = {name: os.path.join(path, name) if name else path for name in names}
        self._files = [(name, place, os.stat(place).st_size) for name, place in places.items()]

    def names_and_sizes(self) -> "list[tuple[str, int]]":
        """Each file's name relative to the path, and its bytes."""
        return [(name, size) for name, _, size in self._files]

    def copy(self, start: int, end: int, some: "Callable[[int, int, int], int]") -> None:
        """Let `some(descriptor, offset, size)` copy bytes, again and again, from `start` to `end`.

        It returns how many it copied. Raises ValueError when a file is shorter than it was.
        """
        at = 0
        for _, file, size in self._files:
            first, last, at = max(start - at, 0), min(end - at, size), at + size
            if first >= last:
                continue
            with open(file, "rb", buffering=0) as opened:
                while first < last:
                    copied = some(opened.fileno(), first, last - first)
                    if not copied:
                        raise ValueError(f"{file} has changed while it was sent")
                    first += copied


def _names_in(folder: str) -> "Iterator[str]":
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path):
                yield os.path.relpath(path, folder)


def _to_stdout(descriptor: int, offset: int, size: int) -> int:
    try:
        return os.sendfile(1, descriptor, offset, size)
    except OSError as error:
        if error.errno not in _NO_SENDFILE:
            raise
    return os.write(1, os.pread(descriptor, min(size, _CHUNK), offset))


def _put(files: Files, start: int, end: int, url: str) -> None:
    content = bytearray()

    def keep(descriptor: int, offset: int, size: int) -> int:
        piece = os.pread(descriptor, min(size, _CHUNK), offset)
        content.extend(piece)
        return len(piece)

    files.copy(start, end, keep)
    try:
        _upload(url, bytes(content))
    except OSError as error:
        _end(PUT_FAILED, str(error))
    except Exception as error:  # such as an answer that is no HTTP; its words may hold the URL
        _end(PUT_FAILED, type(error).__name__)
    _say({"put": start})


def _upload(url: str, content: bytes) -> None:
    import urllib.error
    import urllib.request

    headers = {"Content-Type": "application/octet-stream"}
    for attempt in range(3):
        try:
            request = urllib.request.Request(url, content, headers, method="PUT")  # noqa: S310
            urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310
            return
        except OSError as error:
            if attempt == 2 or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                raise


def _or_end(work: "Callable[..., None]", *words: object) -> None:
    """Do it; where it fails, end with a code, and say why on standard error."""
    try:
        work(*words)
    except ValueError as error:
        _end(CHANGED, str(error))
    except OSError as error:
        _end(1, str(error))


def _end(code: int, why: str) -> None:
    try:
        sys.stderr.write(f"{why}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)


def _say(line: "dict[str, object]") -> None:
    # One write, where it fits a pipe: the lines of several threads do not mix.
    content = json.dumps(line).encode() + b"\n"
    while content:
        content = content[os.write(1, content) :]


if __name__ == "__main__":
    main()
