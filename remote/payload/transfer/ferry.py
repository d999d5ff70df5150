"""Bytes that a slow connection should not carry, by a presigned URL of an object store. Standard
library only; sent with its command.

    python3 -c SOURCE COMMAND     {"url", "size"} on standard input: the object is what COMMAND
    reads

The URL is a secret: it comes on standard input, never as an argument.
"""

import contextlib
import json
import subprocess
import sys
import urllib.request
from typing import Any

STORE_FAILED = 75
_CHUNK = 1 << 20
_SECONDS = 120


def main() -> None:
    """Run the command with its input ferried."""
    asked = json.load(sys.stdin)
    child = subprocess.Popen(["sh", "-c", sys.argv[1]], stdin=subprocess.PIPE)
    try:
        code = feed(child, asked)
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
    with (
        urllib.request.urlopen(asked["url"], timeout=_SECONDS) as body,  # noqa: S310
        contextlib.suppress(BrokenPipeError),
    ):
        while left:
            chunk = body.read(min(_CHUNK, left))
            if not chunk:
                raise ValueError(f"{left} bytes are missing")
            left -= len(chunk)
            child.stdin.write(chunk)
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    return child.wait()


if __name__ == "__main__":
    main()
