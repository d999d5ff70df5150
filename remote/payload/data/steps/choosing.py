"""Which rows stay where only so many may: those with the lowest hash of seed and content, so that
the choice depends on nothing but the row itself, and moves as little as can be when data grow."""

import hashlib
from array import array
from collections.abc import Mapping

from remote.contract.artifacts.rows import Row
from remote.payload.data.steps.deduplicate import mark_of


def rank_of(seed: str, row: Row) -> int:
    """A number of 64 bits, at random but the same each time."""
    digest = hashlib.blake2b(seed.encode() + b"\n" + mark_of(row), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class Lowest:
    """The lowest ranks of each class, up to its quota; eight bytes a row. First all are noted, then
    `choose` is called, then each is asked for once."""

    def __init__(self) -> None:
        self._ranks: dict[str, array[int]] = {}
        self._limits: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, int] = {}

    def note(self, name: str, rank: int) -> None:
        """A row of a class."""
        self._ranks.setdefault(name, array("Q")).append(rank)

    def counts(self) -> dict[str, int]:
        """Rows of each class, by name."""
        return {name: len(ranks) for name, ranks in sorted(self._ranks.items())}

    def count(self, name: str) -> int:
        """Rows of one class."""
        return len(self._ranks[name])

    def choose(self, quotas: Mapping[str, int], total: int | None = None) -> None:
        """Keep so many of each class that has a quota, then so many in all."""
        chosen = {
            name: sorted(ranks)[: quotas.get(name, len(ranks))]
            for name, ranks in self._ranks.items()
        }
        if total is not None and sum(map(len, chosen.values())) > total:
            order = sorted((rank, name) for name, ranks in chosen.items() for rank in ranks)
            chosen = {name: [] for name in chosen}
            for rank, name in order[:total]:
                chosen[name].append(rank)
        for name, ranks in chosen.items():
            last = ranks[-1] if ranks else -1
            self._limits[name] = (last, ranks.count(last))
        self._kept = {name: len(ranks) for name, ranks in chosen.items()}

    def kept(self, name: str) -> int:
        """How many of a class stay."""
        return self._kept[name]

    def keeps(self, name: str, rank: int) -> bool:
        """Whether a row stays. Of rows that say the same the first do."""
        last, more = self._limits[name]
        if rank == last and more:
            self._limits[name] = (last, more - 1)
            return True
        return rank < last
