"""What every provider of boxes can do. Above this folder nobody knows which one it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from remote.control.cloud.box import Box
from remote.control.cloud.ec2.offers import Offer

Progress = Callable[[str], None]
"""Takes one line for a person who waits."""


Mode = Literal["auto", "fresh", "reuse"]
"""`auto` takes the box that is there, else makes one; `reuse` never makes one; `fresh` always does,
and replaces the one that is there."""


@dataclass(frozen=True)
class Plan:
    """What `launch` would do, and why. `existing` is the box of that name that already is; `facts`
    are label and value of what would be made; `offers` in the order in which they would be tried;
    `replaces` is the box that a fresh one would end, with its disk.

    `lines` compares the offers' prices and `worst` is the most that this start can cost
    (`estimate`); None where nothing is billed.
    """

    action: str
    existing: Box | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    is_billed: bool = False
    hourly_usd: float | None = None
    why: str = ""
    offers: list[Offer] = field(default_factory=list)
    replaces: Box | None = None
    lines: Any = None
    worst: Any = None


@dataclass(frozen=True)
class Wanted:
    """How to get a box ready.

    `mode` as above; without capacity it is tried again for `wait_seconds`; `set_deadlines` sets the
    box's clocks once SSH answers; `replace` is the id of the instance whose loss was agreed to,
    which a fresh box needs where one exists.
    """

    mode: Mode = "auto"
    wait_seconds: float = 0.0
    set_deadlines: Callable[[Box], None] | None = None
    replace: str = ""


class Provider(Protocol):
    """One box of the inventory, in the hands of whoever provides it."""

    def find(self) -> Box | None:
        """The box as it stands, or None when there is none."""

    def plan(self, mode: Mode) -> Plan:
        """What `ready` would do; changes nothing, costs nothing."""

    def ready(self, on_progress: Progress, wanted: Wanted) -> Box:
        """Launch or start it where needed; returns when SSH answers and its host key is pinned."""

    def stop(self, on_progress: Progress) -> Box | None:
        """Stop it and wait; the disk stays."""

    def reboot(self, on_progress: Progress) -> Box:
        """Restart it and wait until SSH answers again."""

    def admit(self, on_progress: Progress) -> None:
        """Let the caller's present address reach port 22."""

    def terminate(
        self, on_progress: Progress, instance_id: str | None = None, is_agreed: bool = False
    ) -> Box | None:
        """Remove it for good and wait; forgets its host key. `instance_id` picks one of several."""
