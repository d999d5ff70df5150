"""How sure a gain is: a paired bootstrap over the rows. Standard library only."""

import random
from collections.abc import Sequence

RESAMPLES = 2000
CONFIDENCE = 0.95
FEW = 30
"""With fewer rows than this an interval is too wide, and too optimistic, to lean on."""


def gain(before: Sequence[float], after: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Mean of `after` minus mean of `before`, row by row, with its 95 % interval: `value`, `low`,
    `high`. All 0.0 of no rows.

    The rows are resampled in pairs, so that what is hard for both counts for neither.
    """
    differences = [new - old for old, new in zip(before, after, strict=True)]
    if not differences:
        return {"value": 0.0, "low": 0.0, "high": 0.0}
    draw, count = random.Random(seed), len(differences)
    means = sorted(sum(draw.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    edge = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return {"value": sum(differences) / count, "low": means[edge], "high": means[-1 - edge]}
