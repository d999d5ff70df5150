"""Removes rows that say the same as one before: exact duplicates."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context
from remote.payload.data.units import SAMPLE_CHARACTERS, Given, Reject, Result

WHOLE = True


class Exact:
    """Keeps the first of each."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or that it repeats an earlier one."""
        earlier = self._seen.setdefault(mark_of(given.row), str(given.origin))
        if earlier == str(given.origin):
            yield given
        else:
            sample = given.row.words[:SAMPLE_CHARACTERS]
            reason = f"repeats {earlier}"
            yield Reject(reason, given.origin, "deduplicate", sample, is_bad=False)


def make_step(_entry: Mapping[str, Any], _context: Context) -> Exact:
    """The step of an entry."""
    return Exact()


def mark_of(row: Row) -> bytes:
    """The same for rows that say the same: 16 bytes."""
    said = [[turn.role, turn.content] for turn in row.messages] or row.text
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).digest()
