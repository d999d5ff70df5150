"""Preflight on the box: reads a request (JSON) from standard input, answers
`{"done": {"checks": [...], "seconds": ...}}`."""

import json
import sys
import time

from remote.contract.job.checks import Check, Verdict, judge
from remote.contract.job.golden import BASE, GOLDEN, deviations, shown
from remote.payload.preflight import data, host, model, storage
from remote.payload.preflight.environment import Probe
from remote.payload.preflight.request import Request


def main() -> None:
    """Run every check; a broken box makes failing checks, not a traceback."""
    started = time.monotonic()
    request = Request.from_json(sys.stdin.read())
    probe = Probe(request)
    checks = [check for part in (host, model, data, storage) for check in _guarded(part, request)]
    checks += probe.checks() + golden(request)
    report = {
        "checks": [check.to_json() for check in checks],
        "seconds": round(time.monotonic() - started, 2),
    }
    print(json.dumps({"done": report}), flush=True)


def golden(request: Request) -> list[Check]:
    """The recipe against the golden configuration: each deviation by name. For another base than
    that one's it says nothing."""
    name = str((request.recipe.get("base") or {}).get("name") or GOLDEN[BASE])
    if name != GOLDEN[BASE]:
        return [
            Check(
                "golden configuration",
                f"the base is {name}",
                f"only told of {GOLDEN[BASE]}",
                Verdict.SKIP,
                "",
            )
        ]
    found = deviations(request.recipe)
    if not found:
        return [
            judge(True, "golden configuration", f"all {len(GOLDEN)} values", "no deviation", "")
        ]
    remedy = "keep it on purpose, or take the golden value"
    return [
        Check(
            f"golden {item.key}",
            shown(item.value),
            f"golden {shown(item.golden)}",
            Verdict.WARN,
            remedy,
        )
        for item in found
    ]


def _guarded(part: object, request: Request) -> list[Check]:
    name = getattr(part, "__name__", "").rpartition(".")[2]
    try:
        return part.checks(request)  # type: ignore[attr-defined,no-any-return]
    except (OSError, ValueError, KeyError) as error:
        return [
            Check(
                name,
                f"{type(error).__name__}: {error}",
                "a check that ends",
                Verdict.FAIL,
                "look at that path on the box",
            )
        ]


if __name__ == "__main__":
    main()
