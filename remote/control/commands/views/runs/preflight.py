"""The table of preflight's answers."""

from remote.contract.job.checks import Verdict
from remote.control.backends.preflight import Report
from remote.control.output.console import print_table, styled, tell
from remote.control.output.sanitize import counted

_STYLE = {
    Verdict.OK: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.SKIP: "dim",
}


def show(report: Report, whole: bool = True) -> None:
    """Every check, with a remedy wherever there is one; not `whole`: only those that warn or
    fail."""
    rows = [
        (
            check.name,
            check.measured,
            check.expected,
            styled(check.verdict.value, _STYLE[check.verdict]),
            check.remedy,
        )
        for check in report.checks
        if whole or check.verdict in (Verdict.WARN, Verdict.FAIL)
    ]
    if rows:
        print_table("", ("check", "measured", "expected", "verdict", "remedy"), rows)
    tell(
        f"{counted(len(report.checks), 'check')} in {report.seconds:.1f} s: {report.failures}"
        f" failed, {report.warnings} warn"
    )
