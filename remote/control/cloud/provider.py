"""What every provider of boxes can do. Above this folder nobody knows which one it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from remote.control.cloud.box import Box

Progress = Callable[[str], None]
"""Takes one line for a person who waits."""


@dataclass(frozen=True)
class Plan:
    """What `launch` would do. `existing` is the box of that name that already is; `facts` are label and value of what would be made."""

    action: str
    existing: Box | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    is_billed: bool = False
    hourly_usd: float | None = None


class Provider(Protocol):
    """One box of the inventory, in the hands of whoever provides it."""

    def find(self) -> Box | None:
        """The box as it stands, or None when there is none."""

    def plan(self) -> Plan:
        """What `ready` would do; changes nothing, costs nothing."""

    def ready(self, on_progress: Progress) -> Box:
        """Launch or start it where needed; returns when SSH answers and its host key is pinned."""

    def stop(self, on_progress: Progress) -> Box | None:
        """Stop it and wait; the disk stays."""

    def terminate(self, on_progress: Progress, instance_id: str | None = None) -> Box | None:
        """Remove it for good and wait; forgets its host key. `instance_id` picks one of several."""
