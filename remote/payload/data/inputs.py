"""The laptop's files of a data recipe, on the box: its job's inputs, each under a path that is the
same for every release and every box, so that what was read of one is not read again."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remote.contract.files import digest
from remote.payload.job import Job

INPUT = "input:"


def placed(recipe: Mapping[str, Any], job: Job, folder: Path) -> dict[str, Any]:
    """The recipe with the path of each input, relative to the box's root, in place of
    `input:NAME`."""
    paths = {
        f"{INPUT}{name}": str(_link(folder, name, job.input(name)).relative_to(job.root))
        for name in job.spec.inputs
    }
    return {name: _placed(value, paths) for name, value in recipe.items()}


def link_all(job: Job, folder: Path) -> None:
    """Make those paths lead to this job's inputs. One job at a time works in `folder`."""
    shutil.rmtree(folder / "inputs", ignore_errors=True)
    for name in job.spec.inputs:
        target = job.input(name)
        link = _link(folder, name, target)
        link.parent.mkdir(parents=True)
        link.symlink_to(target.resolve())


def _link(folder: Path, name: str, target: Path) -> Path:
    # A source knows a file by its content; of a step the path alone is known.
    content = f"-{digest.of_path(target)[:16]}" if re.search(r"\bsteps-", name) else ""
    return folder / "inputs" / f"{name}{content}" / target.name


def _placed(value: Any, paths: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _placed(each, paths) for name, each in value.items()}
    if isinstance(value, list):
        return [_placed(each, paths) for each in value]
    return paths.get(value, value) if isinstance(value, str) else value
