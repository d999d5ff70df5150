"""Faults on demand: what is to go wrong, for whom, how often. Kept in a file, so that they outlive
the cloud's process.

A kind is one of four sorts:
- a refusal of a launch or a start: `capacity`, `quota`, `spot-price`, `no-subnet`, `subnet-full`;
- an answer to any request of the API: `permission`, `throttle`, `credentials`, `clock-skew`;
- a state of a box while the fault stands: `console-late`, `disk-full`, `hang-user-data`,
  `host-key`, `imds`;
- an event that happens to a box at once: `reboot`, `stop`, `terminate`, `spot-notice`, `rebalance`.
"""

import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, untrusted_json

_PLACE = frozenset({"zone", "region", "type", "market"})
_BOX = frozenset({"box", *_PLACE})
_REFUSAL = frozenset({"count", *_BOX})
_REQUEST = frozenset({"operation", "region", "count"})

KINDS: Mapping[str, frozenset[str]] = {
    "capacity": _REFUSAL,
    "quota": _REFUSAL,
    "spot-price": _REFUSAL,
    "no-subnet": _REFUSAL,
    "subnet-full": _REFUSAL,
    "permission": _REQUEST,
    "throttle": _REQUEST,
    "credentials": _REQUEST,
    "clock-skew": _REQUEST | {"seconds"},
    "console-late": _BOX | {"seconds"},
    "disk-full": _BOX,
    "hang-user-data": _BOX | {"count"},
    "host-key": _BOX,
    "imds": _BOX,
    "reboot": _BOX,
    "stop": _BOX,
    "terminate": _BOX,
    "rebalance": _BOX,
    "spot-notice": _BOX | {"seconds"},
}
"""Every kind, and what may narrow it down."""

ANSWERS = ("permission", "throttle", "credentials", "clock-skew")
EVENTS = ("reboot", "stop", "terminate", "rebalance", "spot-notice")
NOTICES = ("rebalance", "spot-notice")
"""Events that stand until the box is gone: the metadata service tells of them."""

_SECONDS = {"clock-skew": 3600.0, "console-late": 30.0, "spot-notice": 120.0}


@dataclass(frozen=True)
class Fault:
    """One thing that is to go wrong. An empty word narrows nothing down.

    `box` is a box's name or an instance id; `operation` is `RunInstances`, `ec2:RunInstances` or a
    pattern such as `s3:*`; `count` is how often it still strikes (None: until cleared); `at` is
    when it was injected, seconds since the epoch.
    """

    kind: str
    box: str = ""
    zone: str = ""
    region: str = ""
    type: str = ""
    market: str = ""
    operation: str = ""
    count: int | None = None
    seconds: float = 0.0
    at: float = 0.0
    id: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "Fault":
        """The fault that a request asks for, new. Raises ValueError with a sentence for people."""
        given = {
            name: value
            for name, value in asked.items()
            if value not in (None, "") and name != "kind"
        }
        kind = str(asked.get("kind", ""))
        if kind not in KINDS:
            raise ValueError(f"no fault `{kind}`; there are {', '.join(KINDS)}")
        if strange := sorted(given.keys() - KINDS[kind]):
            allowed = ", ".join(sorted(KINDS[kind]))
            raise ValueError(
                f"`{kind}` is not narrowed down by {', '.join(strange)}; but by {allowed}"
            )
        if given.get("market", "spot") not in ("spot", "on-demand"):
            raise ValueError(f"no market `{given['market']}`; there are spot and on-demand")
        numbers: dict[str, Any] = {"seconds": float(given.pop("seconds", _SECONDS.get(kind, 0.0)))}
        if "count" in given and (count := int(given.pop("count"))) > 0:
            numbers["count"] = count
        words: dict[str, Any] = {name: str(value) for name, value in given.items()}
        return cls(
            kind=kind, **words, **numbers, at=time.time(), id=f"fault-{secrets.token_hex(4)}"
        )

    def matches(self, names: tuple[str, ...] = (), operation: str = "", **facts: str) -> bool:
        """Whether it is meant for a box called one of `names`, an `operation` (`service:Name`), a
        zone, region, type and market."""
        if self.box and self.box not in names:
            return False
        if self.operation and not fnmatch(
            operation if ":" in self.operation else operation.partition(":")[2], self.operation
        ):
            return False
        return all(getattr(self, fact) in ("", facts.get(fact, "")) for fact in _PLACE)


class Faults:
    """The faults that stand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._standing: dict[str, Fault] = {fault.id: fault for fault in _read(path)}

    def all(self) -> list[Fault]:
        """Every fault that stands, oldest first."""
        with self._lock:
            return list(self._standing.values())

    def add(self, fault: Fault) -> None:
        """Let it stand."""
        with self._lock:
            self._standing[fault.id] = fault
            self._save()

    def clear(self, fault_id: str | None = None) -> list[Fault]:
        """Take one back, or all; returns those that stood."""
        with self._lock:
            gone = [
                fault
                for fault in self._standing.values()
                if fault_id in (None, fault.id, fault.id.partition(".")[0])
            ]
            for fault in gone:
                del self._standing[fault.id]
            self._save()
            return gone

    def standing(
        self, *kinds: str, names: tuple[str, ...] = (), operation: str = "", **facts: str
    ) -> Fault | None:
        """The first fault of one of `kinds` that is meant for these facts."""
        found = (fault for fault in self.all() if fault.kind in kinds)
        return next((fault for fault in found if fault.matches(names, operation, **facts)), None)

    def strike(
        self, *kinds: str, names: tuple[str, ...] = (), operation: str = "", **facts: str
    ) -> Fault | None:
        """The same, counted: a fault that has struck as often as it should is gone."""
        fault = self.standing(*kinds, names=names, operation=operation, **facts)
        if fault is None or fault.count is None:
            return fault
        with self._lock:
            if (left := self._standing.get(fault.id)) is None or left.count is None:
                return None  # others struck meanwhile
            if left.count > 1:
                self._standing[fault.id] = replace(left, count=left.count - 1)
            else:
                del self._standing[fault.id]
            self._save()
        return fault

    def _save(self) -> None:
        atomic.write_json(self._path, [asdict(fault) for fault in self._standing.values()])


def _read(path: Path) -> list[Fault]:
    known = {field.name for field in fields(Fault)}
    try:
        return [
            Fault(**{name: value for name, value in kept.items() if name in known})
            for kept in untrusted_json.read_list(path)
        ]
    except (OSError, ValueError, TypeError, AttributeError):  # no fault stands that cannot be read
        return []


if __name__ == "__main__":
    try:
        Fault.of(untrusted_json.loads_object(sys.stdin.buffer.read()))
    except ValueError as error:
        sys.exit(str(error))
