"""Which rows the optimizer sees at which step: a pure function of seed and step, so that a resumed
run sees the same ones."""

import hashlib
import math
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import Encoded, encode
from remote.payload.training.settings import Settings
from remote.payload.training.token_cache import Cache, Tell, Tokens, key_of

MAX_EMPTY_SHARE = 0.05
"""More rows than this without a supervised token: the recipe's `max_length` does not fit the
data."""

_BUCKET_STEPS = 8
"""Rows of like length are sought among this many steps' worth: little padding, and still well
mixed."""


@dataclass(frozen=True)
class Lessons:
    """A dataset as tokens, and how many rows did not fit: `truncated` ones lost their end,
    `overlong` ones were dropped because the recipe says so, `empty` ones left no room for an
    answer."""

    rows: Tokens
    truncated: int = 0
    overlong: int = 0
    empty: int = 0

    @property
    def dropped(self) -> int:
        """How many rows are not trained on."""
        return self.overlong + self.empty

    def note(self) -> str | None:
        """What a person must know about the rows that did not fit, or None."""
        counts = (
            (self.truncated, "cut at max_length (they teach no end of sequence)"),
            (self.overlong, "dropped, longer than max_length"),
            (self.empty, "dropped, the prompt alone fills max_length"),
        )
        said = [f"{count} rows {fate}" for count, fate in counts if count]
        return "; ".join(said) or None


def load(
    path: Path, sha256: str, tokenizer: Any, settings: Settings, cache: Cache, tell: Tell = print
) -> Lessons:
    """The rows that `prepare` left at `path`, as tokens on the disk: those of an earlier job where
    `cache` has them. `sha256` is the file's. Raises StageFailed when a line is no row, or too many
    have nothing to learn."""
    key = key_of(sha256, tokenizer, settings.max_length)
    found = cache.tokens(key, lambda: _encoded(path, sha256, tokenizer, settings.max_length), tell)
    fitting = [
        place
        for place, is_cut in enumerate(found.truncated)
        if settings.overlong == "truncate" or not is_cut
    ]
    rows = found.only(place for place in fitting if found.supervised[place])
    empty = len(fitting) - len(rows)
    if not rows or empty > MAX_EMPTY_SHARE * len(fitting):
        what = f"{len(found) - len(rows)} of {len(found)} rows of {path} have no token to learn"
        raise StageFailed(
            Cause.DATA,
            what,
            f"max_length is {settings.max_length}",
            "raise `max_length`, or shorten the rows",
        )
    return Lessons(rows, sum(rows.truncated), len(found) - len(fitting), empty)


def _encoded(path: Path, sha256: str, tokenizer: Any, max_length: int) -> Iterator[Encoded]:
    read = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                read.update(line)
                if line.strip():
                    yield from encode(tokenizer, parse_row(line, path.name, number), max_length)
    except BadRow as error:
        raise StageFailed(
            Cause.DATA, str(error), remedy="run the stage `prepare` on the dataset first"
        ) from None
    if read.hexdigest() != sha256:
        raise StageFailed(Cause.DATA, f"{path} changed while it was read", remedy="`./inv resume`")


@dataclass(frozen=True)
class Plan:
    """The whole training: step -> rows. Steps count from 1 through all epochs. `lengths` are those
    of all rows in tokens."""

    lengths: Sequence[int]
    rows_per_step: int
    seed: int
    total_steps: int
    _epochs: "dict[int, _Epoch]" = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, lessons: Lessons, settings: Settings) -> "Plan":
        """The plan for a dataset; `max_steps` overrules `epochs`."""
        lengths = lessons.rows.lengths
        steps = math.ceil(math.ceil(len(lengths) / settings.rows_per_step) * settings.epochs)
        return cls(
            lengths, settings.rows_per_step, settings.seed, max(1, settings.max_steps or steps)
        )

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of `step`, the longest first."""
        epoch, position = divmod(step - 1, math.ceil(len(self.lengths) / self.rows_per_step))
        if epoch not in self._epochs:
            self._epochs.clear()
            self._epochs[epoch] = _epoch(self.lengths, self.rows_per_step, self.seed, epoch)
        return self._epochs[epoch].rows(position)


@dataclass(frozen=True)
class _Epoch:
    """An order of all rows, and one of the steps that it is cut into."""

    order: "array[int]"
    steps: "array[int]"
    rows_per_step: int

    def rows(self, position: int) -> list[int]:
        start = self.steps[position] * self.rows_per_step
        return self.order[start : start + self.rows_per_step].tolist()


def _epoch(lengths: Sequence[int], rows_per_step: int, seed: int, epoch: int) -> _Epoch:
    generator = random.Random(f"{seed}/{epoch}")
    order = array("I", range(len(lengths)))
    generator.shuffle(order)
    bucket = rows_per_step * _BUCKET_STEPS
    for start in range(0, len(order), bucket):
        alike = sorted(order[start : start + bucket], key=lambda row: -lengths[row])
        order[start : start + bucket] = array("I", alike)
    steps = array("I", range(math.ceil(len(order) / rows_per_step)))
    generator.shuffle(steps)
    return _Epoch(order, steps, rows_per_step)


@dataclass(frozen=True)
class Batch:
    """Rows padded to one length. `places` index the flattened hidden states that predict `labels`.

    No attention mask: padding stands at the right, so that under causal attention no real token
    ever sees it.
    """

    ids: Any
    places: Any
    labels: Any


def collate(rows: Sequence[Encoded], pad: int, device: str) -> Batch:
    """Put rows into tensors on `device`."""
    import torch

    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in rows])
    places = [
        line * width + place - 1
        for line, row in enumerate(rows)
        for begin, end in row.spans
        for place in range(begin, end)
    ]
    labels = [token for row in rows for begin, end in row.spans for token in row.ids[begin:end]]
    return Batch(
        *(
            tensor.to(device, non_blocking=True)
            for tensor in (ids, torch.tensor(places), torch.tensor(labels))
        )
    )
