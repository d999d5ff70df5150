"""Which rows validate: groups by the lowest salted hash, so that a group's side depends on nothing
but its name and a growing corpus moves no row across."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.contract.files import atomic, untrusted_json


@dataclass(frozen=True)
class Split:
    """`threshold`: groups whose hash is at most that validate; empty where none does."""

    salt: str
    share: float
    threshold: str = ""

    def validates(self, group: str) -> bool:
        """Whether the rows of a group are held out."""
        return hash_of(self.salt, group) <= self.threshold

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"salt": self.salt, "share": self.share, "threshold": self.threshold}


def chosen(sizes: "Counter[str]", share: float, salt: str) -> Split:
    """The split of groups of these sizes: the lowest hashes, up to the quota of rows. At least one
    group where `share` is above 0 and there are two; never all of them."""
    quota, taken, threshold = share * sizes.total(), 0, ""
    for mark, size in sorted((hash_of(salt, name), size) for name, size in sizes.items())[:-1]:
        if taken >= quota or (threshold and taken + size - quota > quota - taken):
            break
        threshold = mark
        taken += size
    return Split(salt, share, threshold)


def kept_or_chosen(path: Path | None, sizes: "Counter[str]", share: float, salt: str) -> Split:
    """The split that `path` keeps of an earlier build with the same salt and share; else a new one,
    kept there. None keeps none."""
    if path is not None:
        try:
            told = untrusted_json.read_object(path)
            if (told["salt"], told["share"]) == (salt, share):
                return Split(salt, share, str(told["threshold"]))
        except (OSError, ValueError, KeyError):
            pass
    found = chosen(sizes, share, salt)
    if path is not None:
        atomic.write_json(path, found.to_json())
    return found


def grouped(row: Row) -> Row:
    """The row with a group: its own, else what it asks, or its text."""
    if row.group:
        return row
    said = "\n".join(turn.content for turn in row.prompt) or row.text
    return replace(row, group=hash_of("", said)[:32])


def hash_of(salt: str, name: str) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(f"{salt}\n{name}".encode(errors="surrogatepass")).hexdigest()
