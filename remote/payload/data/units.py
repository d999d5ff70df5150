"""What goes through `prepare`: units of work, the rows they give, and what was set aside."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from remote.contract.artifacts.rows import Row

SAMPLE_CHARACTERS = 2000
"""How much of what was set aside is kept beside its reason."""


@dataclass(frozen=True)
class Origin:
    """Where something was read: a file (or object, or query), and as far as it has them a line
    (from 1) with its byte offset, or a page (from 1)."""

    file: str
    line: int = 0
    offset: int = 0
    page: int = 0

    def __str__(self) -> str:
        if self.page:
            return f"{self.file}, page {self.page}"
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Given:
    """A row, with where it was read."""

    row: Row
    origin: Origin


@dataclass(frozen=True)
class Reject:
    """Something set aside. `reason` is for people, and names this one thing; `step` is the source's
    or the step's name, under which it is counted. `is_bad` is False for what is only not needed (a
    duplicate, a held-out group, beyond a cap): it does not count against `max_reject_share`."""

    reason: str
    origin: Origin
    step: str
    sample: str = ""
    is_bad: bool = True


Result = Given | Reject


@dataclass(frozen=True)
class Unit:
    """A piece of a source that is worked as one and never twice: a file, a range of an archive's
    members, a page of a query.

    `id` names it within its source, the same each time; `digest` changes whenever what it gives may
    change (an ETag, a SHA-256, size and time of a file). `what` is plain JSON, whatever the source
    needs to find it.
    """

    id: str
    digest: str
    size: int = 0
    what: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Where rows come from. Made of its entry in the recipe, in each process that reads."""

    def units(self) -> Iterator[Unit]:
        """What there is to read. Raises StageFailed where the source itself cannot be asked."""
        ...

    def read(self, unit: Unit) -> Iterator[Result]:
        """The rows of a unit, in a stable order. What is wrong with one thing is a Reject; an
        exception sets the whole unit aside, with its words."""
        ...


class Step(Protocol):
    """What is done with each row by itself. Made of its entry in the recipe, in each process."""

    def __call__(self, given: Given) -> Iterator[Result]:
        """What becomes of the row: itself, another, several, or a Reject."""
        ...
