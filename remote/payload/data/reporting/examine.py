"""Files of rows as statistics with findings: what the report is made of."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts import row_kinds
from remote.contract.artifacts.rows import Row
from remote.contract.files import atomic, digest, untrusted_json
from remote.payload.data.engine import Context, step_of
from remote.payload.data.reporting import estimate, findings, tokens
from remote.payload.data.reporting.statistics import (
    LANGUAGE_ROWS,
    LIMITS,
    TOKENIZED_BYTES,
    VERSION,
    LanguageOf,
    Statistics,
)

_TELL_EVERY = 5000

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """What is known of the training to come: `training` as `estimate` takes it, with the folder of
    a `tokenizer` and a `chat_template`; and what tells a row's language."""

    training: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    language_of: LanguageOf | None = None

    @classmethod
    def of_recipe(cls, context: Context) -> "Figures":
        """Those of a data recipe: its section `training`, else the tokenizer that one of its steps
        names; languages where one of its steps tells them."""
        recipe = context.recipe
        training, steps = recipe.get("training") or {}, recipe.get("steps") or ()
        named = [training.get("tokenizer"), *(step.get("tokenizer") for step in steps)]
        folder = next((context.root / Path(name).expanduser() for name in named if name), None)
        step = next((step for step in steps if step["type"] == "language"), None)
        teller = getattr(step_of(step, context), "language_of", None) if step else None
        return cls(training, folder, teller)

    @property
    def limits(self) -> tuple[int, ...]:
        """Values of `max_length` that truncation is told for, the training's own among them."""
        own = int(estimate.figures_of(self.training)["max_length"])
        return tuple(sorted({*LIMITS, own}))

    def statistics(self, size: int, rows: int) -> Statistics:
        """To be filled from so many bytes and about so many rows."""
        template = str(self.training.get("chat_template") or "")
        return Statistics(
            tokens.of_folder(self.tokenizer, template),
            TOKENIZED_BYTES / max(size, 1),
            self.language_of,
            LANGUAGE_ROWS / max(rows, 1),
            self.limits,
        )

    def mark(self) -> Any:
        """What statistics depend on beside the rows, as plain JSON."""
        name = str(self.tokenizer) if self.tokenizer else ""
        return [VERSION, name, dict(self.training), self.language_of is not None]


def counted(train: Path, val: Path, rows: int, figures: Figures, tell: Tell) -> dict[str, Any]:
    """The statistics of the two files that `prepare` wrote."""
    found = figures.statistics(train.stat().st_size + val.stat().st_size, rows)
    for name, path in (("val", val), ("train", train)):
        for number, row in enumerate(_rows(path), 1):
            found.add(name, row)
            if number % _TELL_EVERY == 0:
                tell(f"statistics: {number:,} rows of {name}")
    return found.to_json()


def counted_once(
    kept: Path, train: Path, val: Path, rows: int, figures: Figures, tell: Tell
) -> dict[str, Any]:
    """The same, kept in a file for when the same rows come again."""
    key = digest.of_value([digest.of_file(train), digest.of_file(val), figures.mark()])
    try:
        known = untrusted_json.read_object(kept)
        if known["key"] == key:
            return dict(known["statistics"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = counted(train, val, rows, figures, tell)
    atomic.write_json(kept, {"key": key, "statistics": found})
    return found


def concluded(told: dict[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """With what training takes, and what one should look at."""
    told["estimate"] = estimate.estimate(told, training)
    told["findings"] = findings.of(told)
    return told


def _rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in file:
            yield row_kinds.row_of(json.loads(line))  # written by `prepare`
