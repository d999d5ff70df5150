"""Sends ranges of an artifact: as bytes to the laptop, or by presigned URLs of an object store. Standard library only; sent with its
command, so that it fits whatever release the box has.

    python3 -c SOURCE ROOT

Standard input has a JSON object a line: first `{"path": ...}`, relative to ROOT; then what is wanted, `{"from", "to"}` or
`{"from", "to", "url"}`. Offsets count over all files in the order of their names, as if they were one.
Standard output has a line `{"files": [[name, size], ...]}` (a single file has the name ""), or `{"error": ...}`; then the bytes of each
range as asked; of one with a URL the line `{"put": from}`, as soon as it is there. The end of standard input ends it at once.

The URLs are secrets: they come on standard input, never as arguments, and are never told.
"""

import json
import os
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STORE_FAILED = 75
CHANGED = 65
PUTS_AT_ONCE = 3
_CHUNK = 1 << 18
_SECONDS = 120


def main() -> None:
    """Send what standard input asks for."""
    path = Path(sys.argv[1]) / json.loads(sys.stdin.buffer.readline())["path"]
    if not path.exists():
        words = {"what": f"the artifact is not on the box any more: {path}", "remedy": "`./inv resume` makes it again"}
        _say({"error": {"cause": "artifact", "why": "", "kept": "", **words}})
        return
    artifact = Ranges(path)
    _say({"files": artifact.names_and_sizes()})
    pool = ThreadPoolExecutor(PUTS_AT_ONCE)
    for line in iter(sys.stdin.buffer.readline, b""):
        asked = json.loads(line)
        if "url" in asked:
            pool.submit(_guarded, _put, artifact, asked)
        else:
            _guarded(_write, artifact, asked)
    os._exit(0)  # what is still being put is wanted no more


class Ranges:
    """The files below a path, or the file that it is, as if they were one."""

    def __init__(self, path: Path) -> None:
        files = sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.as_posix()) if path.is_dir() else [path]
        self._files = [(file.relative_to(path).as_posix() if path.is_dir() else "", file, file.stat().st_size) for file in files]

    def names_and_sizes(self) -> "list[tuple[str, int]]":
        """Each file's name relative to the path, and its bytes."""
        return [(name, size) for name, _, size in self._files]

    def pieces(self, start: int, end: int) -> Any:
        """The bytes from `start` to `end`. Raises ValueError when a file is shorter than it was."""
        at = 0
        for _, file, size in self._files:
            if at < end and start < at + size:
                yield from _bytes_of(file, max(start - at, 0), min(end - at, size))
            at += size


def _bytes_of(file: Path, start: int, end: int) -> Any:
    with open(file, "rb", buffering=0) as opened:
        opened.seek(start)
        while start < end:
            piece = opened.read(min(_CHUNK, end - start))
            if not piece:
                raise ValueError(f"{file} has changed while it was sent")
            start += len(piece)
            yield piece


def _write(artifact: Ranges, asked: "dict[str, Any]") -> None:
    for piece in artifact.pieces(asked["from"], asked["to"]):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _put(artifact: Ranges, asked: "dict[str, Any]") -> None:
    content = b"".join(artifact.pieces(asked["from"], asked["to"]))
    for attempt in range(3):
        try:
            headers = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request(asked["url"], data=content, method="PUT", headers=headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
                break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == 2:
                raise
        except OSError:
            if attempt == 2:
                raise
    _say({"put": asked["from"]})


def _guarded(work: Any, artifact: Ranges, asked: "dict[str, Any]") -> None:
    try:
        work(artifact, asked)
    except BrokenPipeError:
        os._exit(0)  # the laptop is gone
    except ValueError as error:
        _end(CHANGED, str(error))
    except OSError as error:
        _end(STORE_FAILED if "url" in asked else 1, str(error))


def _end(code: int, why: str) -> None:
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(code)


_saying = threading.Lock()


def _say(line: "dict[str, Any]") -> None:
    with _saying:
        sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
