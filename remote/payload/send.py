"""Sends an artifact to the laptop as raw bytes. Standard library only.

Reads `{"path": ..., "have": {relative name: bytes already there}}` on standard input; answers, for each file, with a line
`{"name", "offset", "size"}` and the bytes from `offset` on; at the end `{"end": true}`. A single file has the name "".
"""

import json
import shutil
import sys
from pathlib import Path

from remote.contract import digest
from remote.contract.paths import BoxPaths


def main() -> None:
    """Send what standard input asks for."""
    asked = json.load(sys.stdin)
    path = BoxPaths.of_release().root / asked["path"]
    if not path.exists():
        words = {"what": f"the artifact is not on the box any more: {path}", "remedy": "`./inv resume` makes it again"}
        _say({"error": {"cause": "artifact", "why": "", "kept": "", **words}})
        return
    for file in digest.files_in(path) if path.is_dir() else [path]:
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        _send(file, name, asked["have"].get(name, 0))
    _say({"end": True})


def _send(path: Path, name: str, offset: int) -> None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = file.seek(min(offset, size))
        _say({"name": name, "offset": start, "size": size - start})
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 18)


def _say(header: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
