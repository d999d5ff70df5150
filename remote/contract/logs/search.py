"""Searches lines by a regular expression that somebody typed, for no longer than a bound. Standard
library only.

Python's expressions backtrack: `(a+)+$` takes years on a line of forty letters, holds up every
thread of its process meanwhile, and on a box goes on when nobody listens any more. So one that
repeats or chooses is searched for in a process of its own, which can be ended.
"""

import contextlib
import re
import subprocess
import sys
import weakref
from collections.abc import Sequence

SECONDS = 10.0
"""Of a processor, for the lines of one question: a megabyte of them takes a tenth of a second by
what people type."""

_MAY_TAKE_LONG = re.compile(r"[*+?{|(]")
_CHILD = """
import re, signal, sys
take, give = sys.stdin.buffer, sys.stdout.buffer
def text():
    head = take.readline()
    return take.read(int(head)).decode("utf-8", "surrogatepass") if head else None
seconds, search = float(text()), re.compile(text()).search
while (lines := text()) is not None:
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    found = bytes(search(line) is not None for line in lines.split("\\n"))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    give.write(found)
    give.flush()
"""
"""The system ends it when the timer runs out, whether or not anybody waits for it still."""


class TooSlow(Exception):
    """The expression takes too long on these lines."""


class LineSearch:
    """One expression. Raises re.error for what is none."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._pattern = re.compile(expression)
        self._child: subprocess.Popen[bytes] | None = None

    def finds(self, lines: Sequence[str]) -> list[bool]:
        """Whether it is found, for each of these lines, which hold no line ends. Raises TooSlow."""
        if not _MAY_TAKE_LONG.search(self._expression):
            return [self._pattern.search(line) is not None for line in lines]
        return [bool(each) for each in self._asked(lines)] if lines else []

    def _asked(self, lines: Sequence[str]) -> bytes:
        answer = b""
        with contextlib.suppress(BrokenPipeError):
            child = self._child = self._child or self._started()
            answer = _exchange(child, "\n".join(lines), len(lines))
        if len(answer) < len(lines):
            self._child = None
            raise TooSlow(
                f"{self._expression[:80]!r} takes more than {SECONDS:.0f} s on {len(lines):,} lines"
            )
        return answer

    def _started(self) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-I", "-S", "-c", _CHILD]
        child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        weakref.finalize(self, _end, child)
        for text in (str(SECONDS), self._expression):
            _exchange(child, text, 0)
        return child


def _exchange(child: "subprocess.Popen[bytes]", text: str, size: int) -> bytes:
    """Send a text; the answer of `size` bytes, or fewer from a child that has ended."""
    if not child.stdin or not child.stdout:
        raise RuntimeError("the search was started without pipes")
    content = text.encode("utf-8", "surrogatepass")
    child.stdin.write(b"%d\n" % len(content) + content)
    child.stdin.flush()
    return child.stdout.read(size)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    with contextlib.suppress(BrokenPipeError):
        child.communicate()
