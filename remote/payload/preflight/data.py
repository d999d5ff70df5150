"""The rows of a dataset: there, readable, not told twice, not in both halves. Standard library
only."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from remote.contract.artifacts.dataset_file import EXPECTED, first_refusal
from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow, Row
from remote.contract.job.checks import Check, Verdict, judge
from remote.payload.preflight.request import Request

MAX_BAD_SHARE = 0.02
"""More unusable rows than this and the dataset is a mistake."""


@dataclass
class Survey:
    """One pass over a dataset. `marks` are digests of whole rows; `bad` holds the first few
    reasons."""

    rows: int = 0
    bad_rows: int = 0
    bad: list[str] = field(default_factory=list)
    marks: set[bytes] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)


def checks(request: Request) -> list[Check]:
    """Training rows, held-out rows, duplicates and leakage."""
    train, val = request.path("train"), request.path("val")
    if train is None:
        return [
            Check(
                "dataset",
                "not named",
                "a JSONL file",
                Verdict.FAIL,
                "add `train:` under `with:`, or give `--data FILE`",
            )
        ]
    found, told = _examine("dataset", train)
    result = [found]
    if told and told.rows:
        result.append(_duplicates(told))
    if val is None:
        return result
    held_out, kept = _examine("held-out rows", val)
    result.append(held_out)
    if told and kept:
        result.append(_leakage(told, kept))
    return result


def files_of(path: Path) -> list[Path]:
    """The JSONL files behind an input: the file itself, or those of a folder."""
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def rows_of(path: Path, survey: Survey | None = None) -> Iterator[Row]:
    """The usable rows, read one at a time; the others are counted in `survey`."""
    for file in files_of(path):
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    yield parse_row(line, file.name, number)
                except BadRow as bad:
                    if survey is not None:
                        survey.bad_rows += 1
                        survey.bad += [str(bad)] if len(survey.bad) < 3 else []


def survey(path: Path) -> Survey:
    """One pass over a dataset."""
    found = Survey()
    for row in rows_of(path, found):
        found.rows += 1
        found.marks.add(hashlib.blake2b(row.to_line().encode(), digest_size=12).digest())
        if row.group:
            found.groups.add(row.group)
    return found


def _examine(name: str, path: Path) -> tuple[Check, Survey | None]:
    expected = "conversations or documents"
    try:
        if refused := first_refusal(path):
            return Check(name, str(refused), EXPECTED, Verdict.FAIL, refused.remedy), None
        found = survey(path)
    except OSError as error:
        return (
            Check(
                name,
                f"{error.strerror}: {path}",
                expected,
                Verdict.FAIL,
                "run `prepare` again, or fix the path",
            ),
            None,
        )
    total = found.rows + found.bad_rows
    if not found.bad_rows:
        return (
            judge(
                found.rows > 0,
                name,
                f"{found.rows:,} rows",
                expected,
                f"{path} holds no row: run `prepare` again",
            ),
            found,
        )
    measured = f"{found.bad_rows:,} of {total:,} rows unusable: {'; '.join(found.bad)}"
    verdict = (
        Verdict.FAIL if found.bad_rows > MAX_BAD_SHARE * total or not found.rows else Verdict.WARN
    )
    return (
        Check(
            name, measured, expected, verdict, "fix those lines, or let `prepare` set them aside"
        ),
        found,
    )


def _duplicates(found: Survey) -> Check:
    twice = found.rows - len(found.marks)
    return judge(
        twice == 0,
        "duplicates",
        f"{twice:,} of {found.rows:,} rows stand twice",
        "none",
        "remove them: they count double",
        Verdict.WARN,
    )


def _leakage(train: Survey, val: Survey) -> Check:
    shared, groups = len(train.marks & val.marks), len(train.groups & val.groups)
    measured = f"{shared:,} held-out rows and {groups:,} groups are in the training rows too"
    return judge(
        not (shared or groups),
        "leakage",
        measured,
        "none",
        "split by group: run `prepare` on the whole dataset",
        Verdict.WARN,
    )
