"""Read the logs of runs, boxes and jobs, wherever they lie."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from remote.contract.logs.query import LogQuery
from remote.control.observe.log_reading import Reading
from remote.control.observe.log_sources import stream_of, streams_of
from remote.control.progress import Say
from remote.control.targets import Choose, JobTarget, OfRun, logs_of, nobody

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory


def open_logs(
    words: Sequence[str],
    query: LogQuery,
    mode: str,
    inventory: "Callable[[], Inventory]",
    say: Say,
    choose: Choose = nobody,
) -> Reading:
    """The logs that these words mean (see `targets.logs_of`), as they are to be told: `mode` is
    lines, json or raw. Raises NotFound; what fails later is told by the reading.

    `inventory` reads the inventory: the log of a run that is whole on this laptop needs none.
    """
    found = logs_of(words, query.stage, query.follow, inventory, say, choose)
    only = found[0] if len(found) == 1 else None
    title = only.job.label if isinstance(only, OfRun) and query.follow and mode == "lines" else ""
    return Reading(streams_of(found, query, mode, inventory), say, title)


def follow_job(job: JobTarget, inventory: "Inventory", say: Say) -> Reading:
    """The log of a job from its last lines on, until the job ends."""
    return Reading([stream_of(job, inventory)], say, job.title)
