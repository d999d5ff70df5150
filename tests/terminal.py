"""A real terminal (a pty) of a given width, with a program in it: what one would see there."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.typed import command_of, environment

_SECONDS = 30.0
_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """One with a program in it, `close` ends both."""

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 80,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        named = {"TERM": "xterm-256color"} | dict(environment or os.environ)
        named.pop("COLUMNS", None)
        self._child = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=named,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    @classmethod
    def of_command(cls, words: Sequence[str], columns: int, **named: str) -> str:
        """All that `./inv WORDS` shows on one."""
        terminal = cls(command_of(*words), columns, environment=environment() | named)
        try:
            terminal.read_until("\0nothing")
            return terminal.shown
        finally:
            terminal.close()

    @property
    def words(self) -> str:
        """What it shows without colours and movements of the cursor."""
        return _SEQUENCES.sub("", self.shown)

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._ours, keys.encode())

    def read_until(self, wanted: str) -> bool:
        """Read on until this is shown, or the program ends; whether it was shown."""
        ends = time.monotonic() + _SECONDS
        while wanted not in self.words and time.monotonic() < ends:
            if not select.select([self._ours], [], [], 1)[0]:
                continue
            try:
                read = os.read(self._ours, 65536)
            except OSError:  # the program has ended
                break
            self.shown += read.decode(errors="replace").replace("\r\n", "\n")
        return wanted in self.words

    def close(self) -> None:
        """End the program, and the terminal with it."""
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        self._child.wait()
        os.close(self._ours)
