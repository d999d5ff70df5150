"""What a function tells while it works, to whoever called it: lines, and bytes that move.

A line is a `str`; one that is more than a detail is a `Note`, which a terminal may colour and a
page may mark. Who shows nothing passes `silent` and `no_bytes`.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal

Say = Callable[[str], None]
"""Takes a line of progress, or a warning: a `Note` where it is more than a line."""

Bytes = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows how so many bytes move: takes a title and their number, 0 where that is not known; what it
yields takes those moved so far."""

Rows = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Shows how many rows of so many are done: what it yields takes those done so far."""

Kind = Literal["title", "detail", "done", "warning"]


class Note(str):
    """A line of progress of a kind: what begins, a detail of it, that it is done, or a warning."""

    kind: Kind

    def __new__(cls, text: str, kind: Kind) -> "Note":
        """The line `text`."""
        made = super().__new__(cls, text)
        made.kind = kind
        return made


def title(text: str) -> Note:
    """A line that says what begins now."""
    return Note(text, "title")


def detail(text: str) -> Note:
    """A line about what goes on, which nobody needs to read."""
    return Note(text, "detail")


def done(text: str) -> Note:
    """A line that says what has ended well."""
    return Note(text, "done")


def warning(text: str) -> Note:
    """A line that somebody should read."""
    return Note(text, "warning")


def details(say: Say) -> Say:
    """What tells lines of a part of the work, indented, as details to `say`."""
    return lambda line: say(detail(f"  {line}"))


def silent(line: str) -> None:
    """Shows no line."""


@contextlib.contextmanager
def no_rows(total: int) -> Iterator[Callable[[int], None]]:
    """Shows no rows."""
    yield lambda done: None


@contextlib.contextmanager
def no_bytes(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows no bytes."""
    yield lambda moved: None
