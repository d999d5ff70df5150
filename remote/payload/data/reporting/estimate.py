"""What training on a dataset takes: optimizer steps, tokens, hours, dollars.

Figures, as a training recipe and a box have them: `max_length`, `batch`, `accumulation`, `epochs`,
`max_steps`, `overlong` (`truncate` or `drop`), `tokens_per_second`, `hourly_usd`. What is not given
is the golden recipe's; without a speed there are no hours, without a price no dollars.
"""

import math
from collections.abc import Mapping
from typing import Any

GOLDEN: dict[str, Any] = {
    "max_length": 1024,
    "batch": 4,
    "accumulation": 1,
    "epochs": 1,
    "max_steps": None,
    "overlong": "truncate",
    "tokens_per_second": None,
    "hourly_usd": None,
}


def figures_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures, those that are not given taken from the golden recipe."""
    known = {name: value for name, value in (given or {}).items() if value is not None}
    return {name: known.get(name, value) for name, value in GOLDEN.items()}


def estimate(statistics: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Steps, tokens, seconds and dollars of a training on `train`; `assumed` names the figures that
    nobody gave. `statistics` must tell truncation at `max_length`."""
    figures = figures_of(given)
    side = statistics["train"]
    scale = side["rows"] / side["tokenized"] if side["tokenized"] else 0.0
    cut = next(each for each in side["truncation"] if each["max_length"] == figures["max_length"])
    is_dropped = figures["overlong"] == "drop"
    gone = cut["cut"] if is_dropped else cut["empty"]
    sequences = round((side["tokens"]["count"] - gone) * scale)
    # Of what is cut `max_length` tokens are left, and of a dropped one none.
    lost = cut["lost_tokens"] + gone * figures["max_length"]
    tokens = round((side["tokens"]["total"] - lost) * scale)
    an_epoch = math.ceil(sequences / max(1, figures["batch"] * figures["accumulation"]))
    steps = figures["max_steps"] or math.ceil(an_epoch * figures["epochs"])
    trained = round(tokens * steps / an_epoch) if an_epoch else 0
    speed, price = figures["tokens_per_second"], figures["hourly_usd"]
    hours = trained / speed / 3600 if speed else None
    return {
        **figures,
        "sequences": sequences,
        "steps": steps if an_epoch else 0,
        "tokens": trained,
        "hours": None if hours is None else round(hours, 3),
        "usd": None if hours is None or price is None else round(hours * price, 2),
        "assumed": sorted(name for name in GOLDEN if (given or {}).get(name) is None),
    }
