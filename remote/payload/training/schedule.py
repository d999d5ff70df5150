"""The learning rate as a function of the step: nothing to save, nothing to restore."""

import math


def learning_rate(step: int, total: int, peak: float, warmup: float, kind: str) -> float:
    """The rate at `step` (from 1) of `total`: a linear rise over `warmup` (a share below 1, else
    steps), then `kind` down to 0."""
    rise = math.ceil(warmup * total) if warmup < 1 else int(warmup)
    if step <= rise:
        return peak * step / rise
    left = (total - step + 1) / max(1, total - rise)
    return (
        peak
        * {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[kind]
    )
