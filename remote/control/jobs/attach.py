"""Coming back to a job live, from any laptop with the inventory."""

from remote.contract.jobs import JobState
from remote.control.targets import job_of

_TAIL_LINES = 2000


def attach(word: str) -> JobState:
    """Show a job live, from the last lines of its log on, until it ends; Ctrl-C leaves it running. Returns how it stands then."""
    from remote.control.logs import show

    target = job_of(word, "attach")
    hint = f"the job goes on; come back with `./inv attach {target.name}`, or end it with `./inv cancel {target.name}`"
    return show.attach(target.box, target.job_id, target.title, _TAIL_LINES, hint)
