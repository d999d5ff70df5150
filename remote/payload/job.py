"""What a stage sees of its job: inputs, options, artifacts, metrics, and how to give up. Standard
library only.

A stage is a module with `main(job)`, run by `python -m remote.payload.stages.NAME JOB_FOLDER`:

```python
def main(job: Job) -> None:
    rows = job.input("train")
    ...
    job.output("adapter", folder)      # a file or folder: hashed by the supervisor, pulled by the
    laptop job.output("mean_score", 0.81)     # a plain value: gates look at it

if __name__ == "__main__":
    run_stage(main)
```
"""

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.files import atomic, disk
from remote.contract.job.jobs import Cause, JobSpec
from remote.contract.job.paths import JobPaths
from remote.contract.telemetry.events import Metric

_GPU_FAULTS = ("uncorrectable", "hardware stack error", "unspecified launch failure")
"""Words of CUDA's errors that the driver reports as an Xid: the card, not the program."""


class StageFailed(Exception):
    """A stage gives up for a reason that its user can act on."""

    def __init__(
        self, cause: Cause, what: str, why: str = "", remedy: str = "", kept: str = ""
    ) -> None:
        super().__init__(what)
        self.cause, self.what, self.why, self.remedy, self.kept = cause, what, why, remedy, kept


_GET_MEMORY = (
    "use a box with more GPU memory, then `./inv resume`; `nvidia-smi` on this one shows what else"
    " takes it"
)
"""Where the trainer has not dealt with it by itself: a smaller `batch` helps nowhere else."""

_MAKE_AGAIN = "run the stage that makes it again: `./inv resume` does"
_GET_MODEL = (
    "list it under `models:` of the box, then `./inv box.setup` and `./inv resume`; or correct"
    " `base.path` and `./inv run` it anew"
)


def _get_model(root: Path) -> str:
    known = ", ".join(base_models.there(root))
    return f"{_GET_MODEL}. On the box there is {known}" if known else _GET_MODEL


class Job:
    """One job, as the stage that runs it sees it."""

    def __init__(self, folder: Path) -> None:
        self.paths = JobPaths(folder)
        self.root = folder.parent.parent
        self.spec = JobSpec.read(self.paths.spec)
        self._outputs: dict[str, Any] = {}

    def input(self, name: str) -> Path:
        """The path of an input; raises StageFailed when the job has none of that name or it is not
        there."""
        if name not in self.spec.inputs:
            raise StageFailed(
                Cause.CONFIG,
                f"{self.spec.stage} needs the input `{name}`",
                remedy=f"add `{name}:` under `with:`",
            )
        path = self.root / Path(self.spec.inputs[name]).expanduser()
        if name == "base":
            path = base_models.found(path, self.root, self.spec.recipe)
        if not path.exists():
            cause = Cause.MODEL_MISSING if name == "base" else Cause.ARTIFACT
            put = (
                _get_model(self.root)
                if name == "base"
                else (
                    f"put it there, then `./inv resume`; or correct `{name}` and `./inv run` it"
                    " anew"
                )
            )
            # An artifact's path is relative to the box's root, and under jobs/.
            is_users = not self.spec.inputs[name].startswith(("jobs/", "releases/"))
            raise StageFailed(
                cause,
                f"input `{name}` is not on the box: {path}",
                remedy=put if is_users else _MAKE_AGAIN,
            )
        return path

    def option(self, name: str, default: Any = None) -> Any:
        """A plain value of `with:`."""
        return self.spec.options.get(name, default)

    def artifact(self, name: str) -> Path:
        """Where the artifact `name` belongs. Write it to another name first and rename when it is
        whole."""
        self.paths.artifacts.mkdir(parents=True, exist_ok=True)
        return self.paths.artifacts / name

    def output(self, name: str, value: Path | Any) -> None:
        """Declare an output: a path (hashed and offered for pulling) or a plain JSON value."""
        is_path = isinstance(value, Path)
        self._outputs[name] = (
            {"path": os.path.relpath(value, self.root)} if is_path else {"value": value}
        )
        atomic.write_json(self.paths.outputs, self._outputs)

    def metric(self, step: int, total_steps: int, **measured: Any) -> None:
        """Append one line to metrics.jsonl; see `remote.contract.telemetry.events.Metric` for the
        names and units."""
        line = Metric(step=step, total_steps=total_steps, time=time.time(), **measured).to_line()
        with open(self.paths.metrics, "a") as file:
            file.write(line)


def run_stage(main: Callable[[Job], None]) -> None:
    """Run a stage's `main` on the job folder in argv[1]; exit with the code of what went wrong, if
    anything did."""
    job = Job(Path(sys.argv[1]).resolve())
    try:
        main(job)
    except StageFailed as failure:
        _report(job, failure)
    except Exception as error:
        failure_of_box = explained(error, job.root)
        if failure_of_box is None:
            raise
        traceback.print_exc()
        _report(job, failure_of_box)


def explained(error: Exception, root: Path) -> StageFailed | None:
    """What the box lacked when a library failed, or None when it was none of that. By words, since
    torch must not be imported here."""
    words = str(error)
    if disk.is_full(error) or "No space left on device" in words:
        place = getattr(error, "filename", None) or root
        return StageFailed(
            Cause.DISK_FULL, f"the disk is full: {place}", words, "free space, then `./inv resume`"
        )
    if type(error).__name__ == "OutOfMemoryError":
        return StageFailed(Cause.OUT_OF_MEMORY, "GPU memory ran out", words, _GET_MEMORY)
    if isinstance(error, MemoryError) or "can't allocate memory" in words:
        return StageFailed(
            Cause.OUT_OF_MEMORY, "memory ran out", words, "use a larger box, or a smaller batch"
        )
    if "CUDA error" in words and any(fault in words for fault in _GPU_FAULTS):
        remedy = (
            "`./inv stop`, then `./inv start`: the box mostly comes up on other hardware; then"
            " `./inv resume`"
        )
        return StageFailed(Cause.GPU_FAULT, "the GPU failed", words.splitlines()[0], remedy)
    return None


def _report(job: Job, failure: StageFailed) -> None:
    words = {
        "what": failure.what,
        "why": failure.why,
        "remedy": failure.remedy,
        "kept": failure.kept,
    }
    with contextlib.suppress(
        OSError
    ):  # a full disk: the exit code has the cause, the log the words
        atomic.write_json(job.paths.failure, {"cause": failure.cause.value, **words})
    print(f"{failure.cause.value}: {json.dumps(words)}", file=sys.stderr)
    sys.exit(int(failure.cause.exit_code))
