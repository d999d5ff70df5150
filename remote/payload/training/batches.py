"""Which rows the optimizer sees at which step: a pure function of seed and step, so that a resumed
run sees the same ones."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import Encoded, encode
from remote.payload.training.settings import Settings

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

    rows: list[Encoded]
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


def load(path: Path, tokenizer: Any, settings: Settings) -> Lessons:
    """Read the rows that `prepare` left; raises StageFailed when a line is no row, or too many have
    nothing to learn."""
    encoded = _encoded(path, tokenizer, settings.max_length)
    fitting = [row for row in encoded if settings.overlong == "truncate" or not row.truncated]
    rows = [row for row in fitting if row.supervised]
    empty = len(fitting) - len(rows)
    if not rows or empty > MAX_EMPTY_SHARE * len(fitting):
        what = f"{len(encoded) - len(rows)} of {len(encoded)} rows of {path} have no token to learn"
        raise StageFailed(
            Cause.DATA,
            what,
            f"max_length is {settings.max_length}",
            "raise `max_length`, or shorten the rows",
        )
    truncated = sum(row.truncated for row in rows)
    return Lessons(rows, truncated, len(encoded) - len(fitting), empty)


def _encoded(path: Path, tokenizer: Any, max_length: int) -> list[Encoded]:
    try:
        with path.open("rb") as file:
            lines = ((line, number) for number, line in enumerate(file, 1) if line.strip())
            return [
                lesson
                for line, number in lines
                for lesson in encode(tokenizer, parse_row(line, path.name, number), max_length)
            ]
    except BadRow as error:
        raise StageFailed(
            Cause.DATA, str(error), remedy="run the stage `prepare` on the dataset first"
        ) from None


@dataclass(frozen=True)
class Plan:
    """The whole training: step -> rows. Steps count from 1 through all epochs."""

    lengths: tuple[int, ...]
    rows_per_step: int
    seed: int
    total_steps: int

    @classmethod
    def of(cls, lessons: Lessons, settings: Settings) -> "Plan":
        """The plan for a dataset; `max_steps` overrules `epochs`."""
        lengths = tuple(len(row.ids) for row in lessons.rows)
        steps = math.ceil(math.ceil(len(lengths) / settings.rows_per_step) * settings.epochs)
        return cls(
            lengths, settings.rows_per_step, settings.seed, max(1, settings.max_steps or steps)
        )

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of `step`, the longest first."""
        epoch, position = divmod(step - 1, math.ceil(len(self.lengths) / self.rows_per_step))
        return _epoch(self.lengths, self.rows_per_step, self.seed, epoch)[position]


@lru_cache(maxsize=2)
def _epoch(lengths: tuple[int, ...], rows_per_step: int, seed: int, epoch: int) -> list[list[int]]:
    generator = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    bucket = rows_per_step * _BUCKET_STEPS
    buckets = [order[start : start + bucket] for start in range(0, len(order), bucket)]
    alike = [row for rows in buckets for row in sorted(rows, key=lambda row: -lengths[row])]
    steps = [alike[start : start + rows_per_step] for start in range(0, len(alike), rows_per_step)]
    generator.shuffle(steps)
    return steps


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
