"""Why a run ended or stands still, and everything about it in one file."""

from typing import Any

from remote.control.commands.verb import verb

_RUN = "run, its beginning or end, or a job, a box or a group; the newest run when left out"


@verb(
    positional=["run"],
    optional=["run"],
    help={
        "run": _RUN,
        "stage": "one stage's label; else the one that failed, or the newest",
        "minutes": "how much of the time before is looked at",
        "json": "print everything that was found as JSON",
    },
)
def why(_context: Any, run: str = "", stage: str = "", minutes: int = 30, json: bool = False) -> None:
    """Tells in a few lines why a run ended or stands still, and how to go on; from the box, the bucket or this laptop."""
    from remote.control import console
    from remote.control.telemetry import account, find, show

    found = find.find(run, stage, minutes, lambda text: console.say(text, "yellow"))
    told = account.account(found)
    if json:
        console.print_json(told.record)
    else:
        show.show(told, account.span(found.evidence))
