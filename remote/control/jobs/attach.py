"""Coming back to a job live, from any laptop with the inventory."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from remote.contract.jobs import JobState
from remote.control.logs.asking import FIRST_SECONDS
from remote.control.retry import retry_while_unreachable
from remote.control.targets import job_of

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.transport.base import Transport

_TAIL_BYTES = 64 * 1024


def attach(word: str) -> JobState:
    """Show a job live, from the last lines of its log on, until it ends; Ctrl-C leaves it running. Returns how it stands then."""
    from remote.control.jobs.display import watch
    from remote.control.transport.connect import connect

    target = job_of(word, "attach")
    # A box that was never reached is tried for a moment only: it may be down.
    firsts = [retry_while_unreachable(lambda: _reached(target.box), patience_seconds=FIRST_SECONDS)]
    hint = f"the job goes on; come back with `./inv attach {target.name}`, or end it with `./inv cancel {target.name}`"
    with ExitStack() as closing:
        # As a run's folder looks: what is said of a lost connection names the run by it.
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="windlass-"))) / target.name
        log, metrics = folder / "logs" / f"{target.title}.log", folder / "metrics" / f"{target.title}.jsonl"
        return watch(
            lambda: firsts.pop() if firsts else connect(target.box), target.box.root, target.job_id, log, metrics, title=target.title,
            on_interrupt=hint, show_log=True, tail_bytes=_TAIL_BYTES,
        )  # fmt: skip


def _reached(box: "Box") -> "Transport":
    """A connection that stands."""
    from remote.control.transport.connect import connect
    from remote.control.transport.payload import QUERY_SECONDS

    transport = connect(box)
    try:
        transport.exec("true", timeout=QUERY_SECONDS)
    except BaseException:
        transport.close()
        raise
    return transport
