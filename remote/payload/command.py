"""A command of the payload for the laptop: lines as it goes, at the end `{"done": {...}}` or
`{"error": {...}}`. Standard library only."""

import json
from collections.abc import Callable
from typing import Any

from remote.contract.files import disk
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed


def say(line: str) -> None:
    """A line for people."""
    print(json.dumps({"line": line}), flush=True)


def answer(work: Callable[[], dict[str, Any]], again: str) -> None:
    """Do it, and tell the laptop what came of it. `again` is the command that goes on where a
    refusal of the system ended it."""
    try:
        told: dict[str, Any] = {"done": work()}
    except StageFailed as failure:
        words = {key: getattr(failure, key) for key in ("what", "why", "remedy", "kept")}
        told = {"error": {"cause": failure.cause.value, **words}}
    except OSError as error:
        is_full = disk.is_full(error)
        what, cause = (
            ("the box's disk is full", Cause.DISK_FULL)
            if is_full
            else ("the box refuses", Cause.CODE)
        )
        remedy = (
            f"on the box: `df -h`, free space, then {again}"
            if is_full
            else f"fix that on the box, then {again}"
        )
        told = {
            "error": {
                "cause": cause.value,
                "what": what,
                "why": str(error),
                "remedy": remedy,
                "kept": "what came so far",
            }
        }
    print(json.dumps(told), flush=True)
