"""A job by a word, for any laptop with the inventory: its own ledger is asked first, then the boxes; and coming back to it live."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remote.contract.jobs import JobState
from remote.control.errors import NotFound
from remote.control.jobs.state import BoxJob
from remote.control.runs.ledger import is_called

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import Inventory

_TAIL_LINES = 2000
_TOLD = ("running", "unknown")
"""A box in another state is asked nothing, and that says why it tells of no job."""


@dataclass(frozen=True)
class Target:
    """A job, the running box that it is on, and the run that it belongs to. `status` is the last that is known here."""

    box: "Box"
    job_id: str
    run_id: str
    status: str

    @property
    def name(self) -> str:
        """What a command is given to mean this job: its run, or its own id where it has none."""
        return self.run_id or self.job_id

    @property
    def title(self) -> str:
        """The job for people, without its run's id."""
        return self.job_id.removeprefix(f"{self.run_id}-")


def find(word: str, surely: bool = False, verb: str = "attach") -> Target:
    """The job that is meant by a run's id (or its beginning or end), a job's id, or a box or group: of several jobs the one under way.

    Without a word the run of this laptop that is alive, or its only one that has a job: else it asks which, and takes no job of others for
    it. Where this laptop has no run, the one job that is under way on any box; `surely` asks for every box to have told that it is.
    Raises NotFound for none, or too many; BoxStopped where the box of a run known here does not run.
    """
    from remote.control.config.inventory import load_inventory

    inventory = load_inventory()
    is_box = word in (*inventory.boxes, *inventory.groups)
    return (None if is_box else _of_ledger(inventory, word, verb)) or _of_boxes(inventory, word, is_box, surely)


def attach(word: str) -> JobState:
    """Show a job live, from the last lines of its log on, until it ends; Ctrl-C leaves it running. Returns how it stands then."""
    from remote.control.logs import show

    target = find(word)
    hint = f"the job goes on; come back with `./inv attach {target.name}`, or end it with `./inv cancel {target.name}`"
    return show.attach(target.box, target.job_id, target.title, _TAIL_LINES, hint)


def _of_ledger(inventory: "Inventory", word: str, verb: str) -> Target | None:
    """The job of this laptop's run; None where it has no such run. A run of its own that has no job is no other's."""
    from remote.control.cloud import boxes
    from remote.control.jobs.of_run import begun_job_of
    from remote.control.runs.ledger import all_runs, find_run
    from remote.control.runs.meant import run_to_look_at

    if not any(not word or is_called(run.run_id, word) for run in all_runs()):
        return None
    ledger = find_run(word) if word else run_to_look_at("", verb, lambda run: run.latest_job() is not None, or_newest=False)
    job = begun_job_of(ledger)
    return Target(boxes.running(inventory.box(job.box)), job.job_id, ledger.run_id, job.status.value)


def _of_boxes(inventory: "Inventory", word: str, is_box: bool, surely: bool) -> Target:
    from remote.control.cloud import boxes
    from remote.control.jobs import table

    asked = {entry.name for entry in inventory.resolve([word])} if is_box else set(inventory.boxes)
    there = {box.name: box for box in boxes.listing(inventory) if box.name in asked}
    jobs, silent = table.look(list(there.values()), ended=True)
    silent += boxes.unknown(there.values())
    if is_box and not jobs:
        raise _nothing_on(word, [*(_at_rest(box) for box in there.values() if box.state not in _TOLD), *_not_asked(silent)])
    job = _one([job for job in jobs if is_box or not word or _is(word, job)], word, silent)
    if surely and silent and not word:
        what, why = f"whether {job.state.job_id} on {job.box} is the only job under way is not known", "; ".join(_not_asked(silent))
        raise NotFound(what, why=why, remedy=f"where it is meant: `./inv cancel {job.state.job_id}`")
    return Target(there[job.box], job.state.job_id, job.run_id, job.state.status.value)


def _is(word: str, job: BoxJob) -> bool:
    return any(is_called(name, word) for name in (job.run_id, job.state.job_id))


def _nothing_on(name: str, whys: Sequence[str]) -> NotFound:
    what, remedy = f"nothing is under way on {name}, and it keeps no job", "`./inv ps --all` lists the jobs of all boxes"
    return NotFound(what, why="; ".join(whys), remedy=remedy)


def _at_rest(box: "Box") -> str:
    return f"{box.name} is {'not there' if box.state == 'terminated' else box.state}"


def _not_asked(silent: Sequence[str]) -> list[str]:
    return [f"not asked: {line}" for line in silent]


def _one(jobs: Sequence[BoxJob], word: str, silent: Sequence[str]) -> BoxJob:
    under_way = [job for job in jobs if not job.state.status.is_final]
    if not jobs or (not word and not under_way):
        what = f"no run, job or box `{word}`" if word else "no job is under way"
        why = "; ".join(("looked for in the runs of this laptop and on the boxes that run", *_not_asked(silent)))
        raise NotFound(what, why=why, remedy="`./inv ps --all` lists the jobs of the boxes, `./inv runs` the runs of this laptop")
    if len(under_way) > 1:
        told = ", ".join(f"{job.state.job_id} on {job.box}" for job in under_way)
        what = f"{len(under_way)} jobs are meant by `{word}`" if word else f"{len(under_way)} jobs are under way"
        raise NotFound(what, why=told, remedy="name one of those jobs, or its run")
    return under_way[0] if under_way else max(jobs, key=lambda job: job.state.started_at)
