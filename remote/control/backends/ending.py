"""How a box ends: what a playbook's `finally` does to it, and when it must not."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from remote.control.config.inventory import HostEntry
from remote.control.errors import WindlassError
from remote.control.progress import title, warning

if TYPE_CHECKING:
    from remote.control.backends.ssh import SshBackend


def finish(
    backend: "SshBackend", action: str, other_run: Callable[[], str | None], is_done: bool
) -> str:
    """Stop or terminate the box, unless there is none, it is a host that stands, or another run
    works on it. Returns what was done to it, empty for nothing."""
    from remote.control.cloud import boxes

    entry = backend.entry
    box = None if isinstance(entry, HostEntry) else boxes.find(entry)
    if box is None:
        return ""
    if box.state == "running" and (other := other_run() or backend.works_for()):
        left = f"finally: {entry.name} is left running, for run {other} works on it"
        backend.say(warning(left))
        return ""
    if action == "stop" and box.market == "spot":
        return _end_in_place_of_stopping(backend, is_done) if box.state == "running" else ""
    backend.say(title(f"finally: {action} {entry.name}"))
    {"stop": boxes.stop, "terminate": boxes.terminate}[action](entry)
    return action


def end_spot_box(backend: "SshBackend") -> None:
    """Terminate a spot box that the cloud is taking back, after what it holds went to the bucket as
    far as it still answers.

    It may have a minute or two left: its successor must not be mistaken for it.
    """
    from remote.control.cloud import boxes

    if backend.ended_by():
        return
    for job_id, words in _not_spilled(backend).items():
        backend.say(warning(f"  {job_id}: {words}"))
    boxes.terminate(backend.entry)


def _not_spilled(backend: "SshBackend") -> dict[str, str]:
    """Bring what the box holds to the bucket; by job, what could not be, and why. Nothing is tried
    where there is no bucket."""
    if backend.bucket is None:
        return {}
    try:
        return {
            job_id: words
            for job_id, words in backend.spill_all().items()
            if words.startswith("not spilled")
        }
    except WindlassError as error:
        return {"its jobs": f"not spilled: {error.what}"}


def _end_in_place_of_stopping(backend: "SshBackend", is_done: bool) -> str:
    """A spot box cannot be stopped, only terminated with its disk: left alone where that would lose
    something."""
    from remote.control.cloud import boxes

    name = backend.entry.name
    lost = _not_spilled(backend)
    if backend.bucket is None and not is_done:
        lost = {f"run {backend.run_id}": "not spilled: there is no `storage.bucket`"}
    if lost:
        told = "; ".join(f"{what}: {words}" for what, words in lost.items())
        left = "is left running until its clocks end it"
        ways = f"`./inv resume {backend.run_id}` goes on there, `./inv terminate {name}` ends it"
        backend.say(
            warning(f"finally: {name} is a spot box, which cannot be stopped, and {left}: {told}")
        )
        backend.say(warning(f"  {ways} at once"))
        return ""
    why = "for a spot box cannot be stopped; what it held is in the bucket or here"
    backend.say(title(f"finally: terminate {name}, {why}"))
    boxes.terminate(backend.entry)
    return "terminate"
