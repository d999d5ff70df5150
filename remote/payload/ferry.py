"""Bytes that a slow connection should not carry, by presigned URLs of an object store. Standard library only; sent with its command.

    python3 -c SOURCE in COMMAND     {"url", "size"} on standard input: the object is what COMMAND reads
    python3 -c SOURCE out COMMAND    {"urls", "piece", "stdin"} on standard input: what COMMAND says goes to the URLs in pieces of so many
                                     bytes, each told by a line {"size"} when it is there; at the end {"exit": code}

The URLs are secrets: they come on standard input, never as arguments.
"""

import base64
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

STORE_FAILED = 75
_CHUNK = 1 << 20
_SECONDS = 120


def main() -> None:
    """Run the command with its input or output ferried."""
    way, command = sys.argv[1:3]
    asked = json.load(sys.stdin)
    child = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=None if way == "in" else subprocess.PIPE)
    try:
        code = feed(child, asked) if way == "in" else carry(child, asked)
    except (OSError, ValueError) as error:
        child.kill()
        child.wait()
        # Not the URL: it is a secret.
        sys.stderr.write(f"the object store failed: {error}\n")
        sys.exit(STORE_FAILED)
    sys.exit(code)


def feed(child: "subprocess.Popen[bytes]", asked: dict[str, Any]) -> int:
    """Let the command read the object; it may stop early. Returns its exit code."""
    assert child.stdin is not None
    left = int(asked["size"])
    with urllib.request.urlopen(asked["url"], timeout=_SECONDS) as body, contextlib.suppress(BrokenPipeError):  # noqa: S310
        while left:
            chunk = body.read(min(_CHUNK, left))
            if not chunk:
                raise ValueError(f"{left} bytes are missing")
            left -= len(chunk)
            child.stdin.write(chunk)
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    return child.wait()


def carry(child: "subprocess.Popen[bytes]", asked: dict[str, Any]) -> int:
    """Put what the command says to the URLs, piece by piece. Returns 0: the command's own exit code is told."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(base64.b64decode(asked["stdin"]))
        child.stdin.close()
    urls = iter(asked["urls"])
    while piece := child.stdout.read(asked["piece"]):
        url = next(urls, None)
        if url is None:
            raise ValueError("the command says more than was asked for")
        _put(url, piece)
        _say({"size": len(piece)})
    _say({"exit": child.wait()})
    return 0


def _put(url: str, piece: bytes) -> None:
    for attempt in range(3):
        try:
            headers = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request(url, data=piece, method="PUT", headers=headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == 2:
                raise
        except OSError:
            if attempt == 2:
                raise


def _say(line: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
