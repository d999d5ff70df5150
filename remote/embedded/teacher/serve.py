"""The process of the stand-in: `python -m remote.embedded.teacher.serve [PORT]` prints its URL and
answers until it is ended. The key it wants is in TEACHER_KEY, if any."""

import os
import sys

from remote.embedded.teacher.server import Server


def main() -> None:
    """Serve."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with Server(port, os.environ.get("TEACHER_KEY", "")) as server:
        print(server.url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
