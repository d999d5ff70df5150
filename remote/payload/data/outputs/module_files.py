"""A train and a validation file for each module of a dataset, beside the files of all rows.

`by="prefix"`: a row's module is the `[MOD=NAME]` of its source (`modules`); its side is that of its
group in the split of all rows, but a module that has no row to validate takes a split of its own.
`by="group"`: each group is a module, as a code base's are; within it the split is by what is asked.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.contract.files import atomic, digest
from remote.payload.data.kinds import modules
from remote.payload.data.split import Split, chosen, grouped

Rows = Callable[[], Iterator[Row]]


def write(folder: Path, rows: Rows, by: str, share: float, split: Split) -> dict[str, Any]:
    """Make `folder`, with `NAME/train.jsonl` and `NAME/val.jsonl` for each module, whole or not at
    all; returns the rows and SHA-256 of each file. `rows` gives all rows, each with a group, each
    time it is called."""
    sizes: dict[str, Counter[str]] = {}
    for row in rows():
        name, group = _place(row, by)
        if name:
            sizes.setdefault(name, Counter())[group] += 1
    with atomic.making(folder) as partial:
        sides = {name: _split(groups, by, share, split) for name, groups in sizes.items()}
        for name in sizes:
            (partial / name).mkdir()
            for side in ("train", "val"):
                (partial / name / f"{side}.jsonl").touch()
        for row in rows():
            name, group = _place(row, by)
            if name:
                side = "val" if sides[name].validates(group) else "train"
                with (partial / name / f"{side}.jsonl").open("a") as file:
                    file.write(row.to_line())
    return {name: _told(folder / name) for name in sorted(sizes)}


def _place(row: Row, by: str) -> tuple[str, str]:
    """The module, and the group within it; no module for a row that has none, or whose name is no
    folder's."""
    if by == "prefix":
        return modules.module_of(row), row.group
    name = row.group if modules.is_name(row.group) else ""
    return name, grouped(replace(row, group="")).group


def _split(sizes: "Counter[str]", by: str, share: float, split: Split) -> Split:
    is_parted = by == "prefix" and any(split.validates(group) for group in sizes)
    return split if is_parted else chosen(sizes, share, split.salt)


def _told(folder: Path) -> dict[str, Any]:
    return {
        path.stem: {"rows": path.read_bytes().count(b"\n"), "sha256": digest.of_file(path)}
        for path in sorted(folder.iterdir())
    }
