"""Removes rows that say the same as one before, or nearly the same.

Entry: `near` (none; 0.85 also removes rows that share 85 % of their shingles with an earlier row
that stays: Jaccard index, counted, not estimated), `shingle` (3 words), `of` (`all` of the row's
text, or what is `asked`, or the `answer`), `drop` (true; false removes exact duplicates alone and
only keeps near ones together).

Rows that stay and are near duplicates of one another, by however many others between them, get one
group, that of the first: the split then keeps them, and all rows of their groups, on one side.
Exact duplicates need no library, near ones numpy and rensa.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context
from remote.payload.data.split import grouped
from remote.payload.data.steps import options
from remote.payload.data.steps.near import Index
from remote.payload.data.units import Given, Result

WHOLE = True


class Exact:
    """Keeps the first of each."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or that it repeats an earlier one."""
        mark = mark_of(given.row)
        if (earlier := self._seen.get(mark)) is not None:
            yield options.set_aside(given, "deduplicate", f"repeats {earlier}")
        else:
            self._seen[mark] = str(given.origin)
            yield given


class Near:
    """Keeps the first of each, and of those that are nearly the same."""

    def __init__(self, index: Index, of: str, is_dropped: bool) -> None:
        self._index, self._of, self._is_dropped = index, of, is_dropped
        self._seen: set[bytes] = set()
        self._exact = Exact()
        self._places: list[str] = []
        self._groups: list[str] = []
        self._dropped: dict[int, tuple[int, float]] = {}
        self._names: dict[str, str] | None = None
        self._at = 0

    def look(self, given: Given) -> None:
        """Take a row in, if it is no exact duplicate."""
        if (mark := mark_of(given.row)) not in self._seen:
            self._seen.add(mark)
            self._places.append(str(given.origin))
            self._groups.append(grouped(given.row).group)
            self._index.add(said(given.row, self._of))

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row in its cluster's group, or which one it repeats."""
        if self._names is None:
            self._names = self._decided()
        result = next(self._exact(given))
        if not isinstance(result, Given):
            yield result
            return
        number, self._at = self._at, self._at + 1
        if number in self._dropped:
            first, likeness = self._dropped[number]
            reason = f"nearly repeats {self._places[first]} ({likeness:.3f} of its shingles)"
            yield options.set_aside(given, "deduplicate", reason)
            return
        # Named even where it is the row's own: what later steps make of the text is of it, too.
        name = self._names.get(self._groups[number], given.row.group)
        is_same = name == given.row.group
        yield given if is_same else Given(replace(given.row, group=name), given.origin)

    def _decided(self) -> dict[str, str]:
        """Decide which rows are dropped; gives the groups that are one with another."""
        self._seen.clear()
        clusters, is_linked = Clusters(len(self._index)), False
        for number, earlier in self._index.candidates():
            is_linked |= self._placed(number, earlier, clusters)
        self._index.close()
        return self._joined(clusters) if is_linked else {}

    def _placed(self, number: int, earlier: list[int], clusters: "Clusters") -> bool:
        """Hold a row against earlier ones; whether it is near one of them."""
        own, is_near = self._index.shingles(number), False
        for other in sorted(earlier, key=lambda each: each in self._dropped):
            is_open = self._is_dropped and number not in self._dropped
            is_witness = is_open and other not in self._dropped
            if not is_witness and clusters.root(number) == clusters.root(other):
                continue
            likeness = self._index.likeness_of(own, other)
            if likeness >= self._index.near:
                is_near = True
                clusters.join(other, number)
                if is_witness:
                    self._dropped[number] = (other, likeness)
        return is_near

    def _joined(self, clusters: "Clusters") -> dict[str, str]:
        """The groups that have rows of one cluster, joined: each with the name of the first."""
        numbers: dict[str, int] = {}
        for group in self._groups:
            numbers.setdefault(group, len(numbers))
        groups, first = Clusters(len(numbers)), dict[int, int]()
        for number, group in enumerate(self._groups):
            if number not in self._dropped:
                seen = first.setdefault(clusters.root(number), numbers[group])
                groups.join(seen, numbers[group])
        names = list(numbers)
        roots = [groups.root(number) for number in range(len(names))]
        shared = {root for number, root in enumerate(roots) if root != number}
        return {
            name: names[root] for name, root in zip(names, roots, strict=True) if root in shared
        }


class Clusters:
    """Numbers that belong together; the lowest stands for them."""

    def __init__(self, count: int) -> None:
        self._parents = array("q", range(count))

    def root(self, number: int) -> int:
        """The lowest of those that a number is together with."""
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Put two numbers together."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parents[high] = low


def make_step(entry: Mapping[str, Any], context: Context) -> Exact | Near:
    """The step of an entry."""
    of = options.one_of(entry, "of", ("all", "asked", "answer"))
    if entry.get("near") is None:
        return Exact()
    near = options.number(entry, "near", 0.85, 0.3, 1)
    size = options.whole(entry, "shingle", 3, 1)
    return Near(Index(context.folder, near, size), of, bool(entry.get("drop", True)))


def said(row: Row, of: str) -> str:
    """The part of a row that is compared."""
    if row.is_document or of == "all":
        return row.words
    return row.answer if of == "answer" else row.asked


def mark_of(row: Row) -> bytes:
    """The same for rows that say the same: 16 bytes."""
    text = [[turn.role, turn.content] for turn in row.messages] or row.text
    return hashlib.blake2b(json.dumps(text).encode(), digest_size=16).digest()
