"""What `doctor` found, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from remote.control.output.console import styled

if TYPE_CHECKING:
    from remote.control.doctor.report import Row

CHECKS = ("of", "check", "measured", "expected", "verdict", "remedy")
"""The heads of `checks`."""

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def checks(rows: "Sequence[Row]") -> list[tuple[object, ...]]:
    """Each check, its verdict in colour."""
    return [
        (
            subject,
            check.name,
            check.measured,
            check.expected,
            styled(check.verdict.value, _STYLES[check.verdict.value]),
            check.remedy,
        )
        for subject, check in rows
    ]
