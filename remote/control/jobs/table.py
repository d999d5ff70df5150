"""The jobs of many boxes, asked side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from remote.control import fleet
from remote.control.jobs.state import BoxJob, jobs_on
from remote.control.progress import Say
from remote.control.retry import retry_while_unreachable

if TYPE_CHECKING:
    from remote.control.cloud.box import Box


_SECONDS = 20.0


def look(
    boxes: "Sequence[Box]", say: Say, patience_seconds: float = 0.0
) -> tuple[list[BoxJob], list[str]]:
    """The jobs of the boxes that run, and in words the boxes that did not answer. `say` hears of
    jobs that are left out.

    A link that fails is tried again for `patience_seconds`.
    """
    running = [box for box in boxes if box.state == "running"]
    outcomes = fleet.outcomes_of(
        running, lambda box, _: _jobs_of(box, say, patience_seconds), seconds=_SECONDS
    )
    found = [job for outcome in outcomes for job in outcome.found or ()]
    return found, [f"{each.one.name}: {each.error.what}" for each in outcomes if each.error]


def record(job: BoxJob) -> dict[str, Any]:
    """A job as JSON: its state with `box` and `run_id`."""
    return {"box": job.box, "run_id": job.run_id, **asdict(job.state)}


def _jobs_of(box: "Box", say: Say, patience_seconds: float) -> list[BoxJob]:
    from remote.control.transport.connect import connect

    def ask() -> list[BoxJob]:
        with connect(box, say) as transport:
            return jobs_on(transport, box.root, box.name, say)

    return retry_while_unreachable(ask, patience_seconds=patience_seconds)
