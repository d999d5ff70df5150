"""The logs of runs and boxes."""

from collections.abc import Sequence
from typing import Any

from remote.control.commands.program.verb import verb

_HINT = "the jobs go on; the same command comes back to them"


@verb(
    positional=["names"],
    help={
        "names": (
            "runs (id, or its beginning or end), boxes or groups; left out: the run that is alive,"
            " else the newest"
        ),
        "stage": "a stage's label; else the newest job",
        "follow": "go on until the jobs end (of a box: until Ctrl-C); Ctrl-C leaves them running",
        "since": "only lines written in the last 90s, 10m, 2h or 1d",
        "tail": "at most so many of the last lines of each job that are wanted",
        "grep": "only lines that this regular expression finds",
        "level": "only lines that weigh so much: info, warning or error",
        "json": (
            "one JSON object a line, with time (ISO 8601), box, run, job, stage, source, level and"
            " text"
        ),
        "raw": "the bytes of the log as they are, and nothing beside them",
    },
)
def logs(
    _context: Any,
    names: Sequence[str] = (),
    stage: str = "",
    follow: bool = False,
    since: str = "",
    tail: str = "",
    grep: str = "",
    level: str = "info",
    json: bool = False,
    raw: bool = False,
) -> None:
    """Show the logs of runs and boxes, by time.

    Live or gone, with what happened to the box: kernel, GPU, watchdog, spot. Times are UTC.
    """
    from remote.control.commands.program import log_options as options
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views.observe import logs as views
    from remote.control.commands.views.progress import say
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.logs import open_logs

    query = options.query(stage, follow, since, tail, grep, level, raw)
    mode = options.mode(json, raw)
    reading = open_logs(names, query, mode, load_inventory, say, choose_run)
    views.show(reading, mode, _HINT if follow else "")
    views.warn_of_failures(reading.ended)
    reading.require_read()
