"""A contest: the same work by several, in turns, and the row of the table that comes of it."""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rope.peers import TooSlow

SLOW_SECONDS = 8.0
"""A peer that takes longer has its turn once only, and the table says so."""
TELLING_SECONDS = 0.01
"""A floor below that is no measure for anything: without distance and bytes all is processor
time."""
HEADER = """\
| work | RTT | floor | Windlass (× floor) | peers, best first | against the best peer | goal | |
|---|---|---|---|---|---|---|---|"""


@dataclass
class Contestant:
    """`once(round)` does the work and returns its seconds. The first of ours is the one that the
    goal is about."""

    name: str
    once: Callable[[int], float]
    ours: bool = False


@dataclass
class Terms:
    """How long: so many rounds, so many seconds for each try of a peer, the largest sizes or
    not."""

    rounds: int
    patience: float
    full: bool = False
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)


@dataclass
class Row:
    """A row of the table. `floor` in seconds; `reached` judges (ours, best peer, floor), all
    medians in seconds."""

    work: str
    rtt: str
    floor: float
    goal: str
    reached: Callable[[float, float, float], bool]
    samples: dict[str, list[float]]
    ours: Sequence[str]
    size: float = 0.0

    def markdown(self, patience: float) -> str:
        """The row; one that did not end within `patience` seconds is said to have taken longer."""
        medians = {name: statistics.median(taken) for name, taken in self.samples.items()}
        mine = medians[self.ours[0]]
        theirs = sorted(
            (seconds, name) for name, seconds in medians.items() if name not in self.ours
        )
        best = theirs[0][0] if theirs else math.inf
        own = "; ".join(
            f"{name} {self._figure(name, medians[name])}{self._over_floor(medians[name])}"
            for name in self.ours
        )
        ended = [
            f"{name} {self._figure(name, seconds)}"
            for seconds, name in theirs
            if math.isfinite(seconds)
        ]
        endless = [name for seconds, name in theirs if math.isinf(seconds)]
        listed = (
            ", ".join([*ended, *([f"> {patience:.0f} s: {', '.join(endless)}"] if endless else [])])
            or "–"
        )
        against = f"{best / mine:.2f} × as fast" if math.isfinite(best) else "–"
        verdict = "reached" if self.reached(mine, best, self.floor) else "**missed**"
        floor = self._time(self.floor) if self.floor >= TELLING_SECONDS else "< 10 ms"
        cells = (self.work, self.rtt, floor, own, listed, against, self.goal, verdict)
        return f"| {' | '.join(cells)} |"

    def _over_floor(self, seconds: float) -> str:
        return f" ({seconds / self.floor:.1f} ×)" if self.floor >= TELLING_SECONDS else ""

    def _figure(self, name: str, seconds: float) -> str:
        few = (
            f" ({len(self.samples[name])} run{'s' if len(self.samples[name]) > 1 else ''})"
            if len(self.samples[name]) < 5
            else ""
        )
        return self._time(seconds) + few

    def _time(self, seconds: float) -> str:
        shown = f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"
        return f"{shown}, {self.size / seconds / 1e6:.0f} MB/s" if self.size and seconds else shown


def compete(what: str, contestants: Sequence[Contestant], terms: Terms) -> dict[str, list[float]]:
    """Everyone in turns, round by round. One that is slow has one turn; one that does not end
    within the patience counts as endless."""
    samples: dict[str, list[float]] = {each.name: [] for each in contestants}
    for number in range(terms.rounds):
        for each in contestants:
            taken = samples[each.name]
            if number and not each.ours and not terms.full and taken[0] > SLOW_SECONDS:
                continue
            try:
                taken.append(each.once(number))
            except TooSlow:
                taken.append(math.inf)
            print(f"  {what}: {each.name} {taken[-1]:.3f} s", file=sys.stderr, flush=True)
    terms.samples[what] = samples
    return samples
