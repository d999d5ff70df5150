"""One check of preflight, as it travels from the box to the laptop."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from remote.contract.files import typed


class Verdict(str, Enum):
    """How a check ended. Only FAIL keeps a job from starting; SKIP says why in `measured`."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Check:
    """What was measured, what was expected, and what to type when the two differ."""

    name: str
    measured: str
    expected: str
    verdict: Verdict
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """The check as plain JSON."""
        return {
            "name": self.name,
            "measured": self.measured,
            "expected": self.expected,
            "verdict": self.verdict.value,
            "remedy": self.remedy,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Check":
        """Read a check; raises ValueError or TypeError when it is not one."""
        return typed.read(cls, raw)


def judge(
    good: bool,
    name: str,
    measured: str,
    expected: str,
    remedy: str,
    otherwise: Verdict = Verdict.FAIL,
) -> Check:
    """A check that is OK when `good`, else `otherwise` with its remedy."""
    return Check(
        name, measured, expected, Verdict.OK if good else otherwise, "" if good else remedy
    )


def skipped(name: str, why: str, expected: str = "-") -> Check:
    """A check that was not made, and why."""
    return Check(name, why, expected, Verdict.SKIP)
