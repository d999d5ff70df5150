"""The options of `inv logs` as a query."""

import re

from invoke import Exit as Leave

from remote.contract.job.exits import Exit
from remote.contract.logs.lines import LEVELS
from remote.contract.logs.query import LogQuery
from remote.control.config.yaml.section import seconds


def query(
    stage: str, follow: bool, since: str, tail: str, grep: str, level: str, raw: bool
) -> LogQuery:
    """What is wanted. Leaves with the exit code of wrong usage where an option is none."""
    try:
        re.compile(grep)
    except re.error as error:
        raise _usage(f"--grep {grep!r} is no regular expression: {error}") from None
    if level not in LEVELS:
        raise _usage(f"--level is one of {', '.join(LEVELS)}, not {level!r}")
    if tail and not tail.isdigit():
        raise _usage(f"--tail is a number of lines, not {tail!r}")
    return LogQuery([], stage, _ago(since), int(tail) if tail else None, grep, level, raw, follow)


def mode(json: bool, raw: bool) -> str:
    """How it is printed: lines, json or raw."""
    if json and raw:
        raise _usage("--json and --raw are two ways to tell the same: choose one")
    return "json" if json else "raw" if raw else "lines"


def _ago(since: str) -> float | None:
    try:
        return float(seconds(since)) if since else None
    except ValueError:
        raise _usage(f"--since is a time such as 90s, 10m, 2h or 1d, not {since!r}") from None


def _usage(text: str) -> Leave:
    return Leave(f"error: {text}", code=int(Exit.USAGE))
