"""Draws docs/demo.svg from what a finished demo shows: .venv/bin/python docs/make_picture.py
[RUN]"""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 132


def main() -> None:
    """Run `./inv resume RUN` in a terminal of its own, and draw what it prints."""
    shown = _shown_in_a_terminal(["./inv", "resume", *sys.argv[1:]]).replace(str(ROOT) + "/", "")
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    end_of_demo = shown.split("\n", maxsplit=2)[2]  # without what only `resume` says
    console.print(Text.from_ansi(f"$ ./inv demo\n...\n{end_of_demo}"))
    console.save_svg(str(ROOT / "docs" / "demo.svg"), title="windlass")


def _shown_in_a_terminal(words: list[str]) -> str:
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    process.wait()
    return shown.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
