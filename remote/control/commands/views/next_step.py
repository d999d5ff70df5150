"""What to type next: each command ends with it, so that nobody has to look the main road up."""

from typing import TYPE_CHECKING

from remote.contract.job.jobs import Status
from remote.control.runs.state import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remote.control.config.inventory import BoxEntry


def after_run(run: RunState) -> str:
    """The command that goes on from what the run has done, with what it does; empty where the model
    is installed, or nothing trained."""
    done = {
        stage.uses
        for stage in run.plan.stages
        if run.stages[stage.label].status is Status.SUCCEEDED
    }
    if run.status is not Status.SUCCEEDED:
        return f"`./inv resume {run.run_id}` goes on with the run"
    if "install" in done:
        return ""
    if "export" in done:
        return f"`./inv install {run.run_id}` puts it into Ollama"
    return (
        f"`./inv export {run.run_id}` makes a GGUF of it and brings that home"
        if "train" in done
        else ""
    )


def on_well(name: str, entries: "Sequence[BoxEntry]") -> str:
    """What follows where nothing stands in the way of `name`, which is one of the boxes `entries`,
    or a group."""
    from remote.control.config.inventory import HostEntry

    named = next((entry for entry in entries if entry.name == name), None)
    if isinstance(named, HostEntry):
        return on_box(named)
    return f"`./inv launch {name} --dry-run` shows what the box would cost"


def on_box(entry: "BoxEntry") -> str:
    """What a box that is up is there for."""
    playbook = "demo" if entry.provider == "embedded" else "golden-path"
    return (
        f"`./inv run {playbook} --box {entry.name}`, or one adapter: `./inv train --recipe RECIPE"
        f" --data FILE --box {entry.name}`"
    )
