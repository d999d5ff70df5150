"""The clocks of a box: when it stops by itself, and how they stand. Written on the box by the
watchdog, shown on the laptop."""

import json
from dataclasses import asdict, dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What the clocks are set to. Seconds, except `dollars` and `hourly_usd` (compute and disk of a
    running hour; 0: unknown or free).

    `session` names one start of the box (EC2's launch time in whole seconds since the epoch, or
    empty): lifetime and dollars count from it, and a reboot keeps it. The watchdog looks every
    `tick` seconds and plans the shutdown `ahead` seconds away each time: so long the box outlives a
    watchdog that has failed.
    """

    idle: float
    lifetime: float
    dollars: float
    stopped: float
    stuck: float
    stuck_grace: float
    grace: float
    hourly_usd: float = 0.0
    session: str = ""
    tick: float = 30.0
    ahead: float = 900.0

    @classmethod
    def from_json(cls, text: str | bytes) -> "Limits":
        """Read limits; raises ValueError or TypeError when it is none."""
        return _read(cls, text)

    def to_json(self) -> str:
        """The limits as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Reading:
    """How the clocks stand at the moment `at` (seconds since the epoch, UTC, by the box's own
    clock).

    `state` is busy, idle, stuck, stopping, or silent (the watchdog itself has failed, seen by who
    reads); `activity` says what keeps it busy, in words; `stops_in` seconds from `at` the clock
    `stops_by` (idle, lifetime, dollars, stuck, notice, watchdog) stops the box if nothing changes;
    `stuck_job` has shown no sign of life for `stuck_for` seconds; `notice` is a notice of the
    cloud, as of spot, in words. `limits` are those in force, with what `box.extend` added.
    """

    at: float
    state: str
    limits: Limits
    elapsed: float = 0.0
    spent_usd: float = 0.0
    idle_for: float = 0.0
    stops_in: float = 0.0
    stops_by: str = ""
    activity: list[str] = field(default_factory=list)
    stuck_job: str = ""
    stuck_for: float = 0.0
    notice: str = ""

    @classmethod
    def from_json(cls, text: str | bytes) -> "Reading":
        """Read a reading; raises ValueError or TypeError when it is none. Unknown keys of a newer
        Windlass are left out."""
        return _read(cls, text)

    def to_json(self) -> str:
        """The reading as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)


def _read(cls: type[T], text: str | bytes) -> T:
    # late: the watchdog, which travels in user data, has no room for these
    from remote.contract.files import typed, untrusted_json

    return typed.read(cls, untrusted_json.loads_object(text, max_bytes=untrusted_json.RECORD_BYTES))
