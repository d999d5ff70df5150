"""Checks the rows of a dataset and splits them by group.  python -m remote.payload.stages.prepare
JOB_FOLDER

Standard library only; reads and writes line by line. Input `dataset` is a JSONL file or a folder of
them; `held_out`, where given, becomes the validation set as it stands. Options: `validation_share`
(0.1), `max_reject_share` (0.02), `seed` (42). The same input gives the same output.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from remote.contract.artifacts.dataset_file import EXPECTED, first_refusal
from remote.contract.artifacts.rows import MAX_CHARACTERS, BadRow, Row, parse_row
from remote.contract.files import atomic, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.job import Job, StageFailed, run_stage

_LINE_BYTES = 8 * MAX_CHARACTERS
_HEARTBEAT_ROWS = 50_000
_SHOWN = 5


@dataclass
class Sieve:
    """What stays and what is set aside. `bad` rows count against `max_reject_share`; `needless`
    ones (repeated, held out) are harmless."""

    rejects: IO[bytes]
    rows: int = 0
    bad: int = 0
    needless: int = 0
    first: list[str] = field(default_factory=list)
    seen: dict[bytes, str] = field(default_factory=dict)
    held_out: frozenset[str] = frozenset()

    def sift(self, source: Path) -> Iterator[Row]:
        """The good rows of a file or folder, each with a group; the others go to the rejects."""
        for path in files_of(source):
            name = path.relative_to(source).as_posix() if source.is_dir() else path.name
            with path.open("rb") as file:
                for number, line in _lines(file):
                    self.rows += 1
                    if row := self._judge(line, name, number):
                        yield row

    def reasons(self) -> str:
        """The first bad rows by file and line, and how many more there are."""
        more = f"; and {self.bad - len(self.first)} more" if self.bad > len(self.first) else ""
        return "; ".join(self.first) + more

    def _judge(self, line: bytes, name: str, number: int) -> Row | None:
        try:
            row = _parse(line, name, number)
        except BadRow as error:
            self.bad += 1
            self.first = [*self.first, str(error)][:_SHOWN]
            self._set_aside(error.where, error.reason, line)
            return None
        where = f"{name}:{number}"
        earlier = self.seen.setdefault(_digest(row.instruction, row.input, row.output), where)
        reason = (
            f"repeats {earlier}"
            if earlier != where
            else "its group is held out"
            if row.group in self.held_out
            else None
        )
        if reason:
            self.needless += 1
            self._set_aside(where, reason, line)
            return None
        return row

    def _set_aside(self, where: str, reason: str, line: bytes) -> None:
        text = line[:2000].decode("utf-8", "replace").rstrip("\n")
        self.rejects.write(
            json.dumps({"where": where, "reason": reason, "line": text}).encode() + b"\n"
        )


def main(job: Job) -> None:
    """Sift, split, write."""
    validation_share, max_reject_share = (
        _share(job, "validation_share", 0.1),
        _share(job, "max_reject_share", 0.02, all_allowed=True),
    )
    held_out = job.input("held_out") if "held_out" in job.spec.inputs else None
    for name in ("dataset", "held_out") if held_out else ("dataset",):
        refuse_other_kinds(job.input(name), name)
    train, val, rejects = (job.artifact(f"{name}.jsonl") for name in ("train", "val", "rejects"))
    good = job.artifact(".good.partial")
    with atomic.writing(rejects) as file:
        sieve = Sieve(file)
        val_sizes = write_good(job, sieve, held_out, val) if held_out else Counter[str]()
        sieve.held_out = frozenset(val_sizes)
        sizes = write_good(job, sieve, job.input("dataset"), good)
    chosen = (
        frozenset() if held_out else choose(sizes, validation_share, str(job.option("seed", 42)))
    )
    try:
        refuse_too_many(sieve, max_reject_share, rejects, sizes.total(), job.input("dataset"))
        split(good, train, None if held_out else val, chosen)
    finally:
        good.unlink()
    val_rows = val_sizes.total() if held_out else sum(sizes[group] for group in chosen)
    train_rows = sizes.total() - sum(sizes[group] for group in chosen)
    for name, path in {"train": train, "val": val, "rejects": rejects}.items():
        job.output(name, path)
    values = {
        "rows": sieve.rows,
        "rejected": sieve.bad + sieve.needless,
        "train_rows": train_rows,
        "val_rows": val_rows,
    }
    for name, value in values.items():
        job.output(name, value)
    if sieve.bad:
        note = (
            f"set aside: {sieve.reasons()}. `./inv pull {job.spec.run_id} --only prepare` brings"
            " them all, in rejects.jsonl"
        )
        job.metric(sieve.rows, sieve.rows, note=note)
        print(note, flush=True)
    print(
        f"{sieve.rows} rows: {train_rows} to train, {val_rows} to validate, {sieve.bad} unusable,"
        f" {sieve.needless} repeated or held out",
        flush=True,
    )


def refuse_other_kinds(source: Path, name: str) -> None:
    """Raise StageFailed, before a row is read, for a file that is no JSON Lines at all."""
    if found := first_refusal(source):
        remedy = f"{found.remedy}; then `./inv run` it anew"
        raise StageFailed(Cause.DATA, f"{name}: {found}", f"expected {EXPECTED}", remedy)


def files_of(source: Path) -> list[Path]:
    """The file itself, or the JSONL files of a folder in a stable order; raises StageFailed when
    there are none."""
    files = sorted(source.rglob("*.jsonl")) if source.is_dir() else [source]
    if not files:
        raise StageFailed(
            Cause.DATA,
            f"no .jsonl file in {source}",
            remedy="name a JSONL file, or a folder that holds some, as `dataset`",
        )
    return files


def write_good(job: Job, sieve: Sieve, source: Path, target: Path) -> "Counter[str]":
    """Write the good rows of `source` to `target`; returns how many rows each group has."""
    sizes = Counter[str]()
    with atomic.writing(target) as file:
        for count, row in enumerate(sieve.sift(source), 1):
            file.write(row.to_line().encode())
            sizes[row.group] += 1
            if count % _HEARTBEAT_ROWS == 0:
                job.metric(count, 0, note=f"{source.name}: {count:,} rows read")
    return sizes


def refuse_too_many(sieve: Sieve, max_share: float, rejects: Path, good: int, source: Path) -> None:
    """Raise StageFailed when more rows are unusable than `max_share`, or none is left."""
    if good and sieve.bad <= max_share * sieve.rows:
        return
    if not sieve.rows:
        remedy = (
            "put rows into it, then `./inv resume`; or name another `dataset` in the playbook and"
            " `./inv run` it anew"
        )
        raise StageFailed(
            Cause.DATA,
            f"{source.name} holds no rows",
            "every line of it is blank, or there is none",
            remedy,
        )
    what = (
        f"{sieve.bad} of {sieve.rows} rows are unusable; at most {max_share:.1%} may be"
        if sieve.bad
        else f"none of {sieve.rows} rows is left to train on: all are repeated or held out"
    )
    remedy = (
        "fix those rows, then `./inv resume`; or raise `max_reject_share` in the playbook and"
        " `./inv run` it anew"
    )
    raise StageFailed(
        Cause.DATA,
        what,
        sieve.reasons(),
        remedy,
        f"on the box, every row set aside, with its reason: {rejects}",
    )


def choose(sizes: "Counter[str]", share: float, salt: str) -> frozenset[str]:
    """The groups that validate: those of the lowest salted hash, up to the quota of rows.

    A group's place depends on nothing but its name, so that new data moves hardly any old row
    across. At least one group where `share` is above 0 and there are two; never all of them.
    """
    quota, taken, chosen = share * sizes.total(), 0, set[str]()
    for group in sorted(sizes, key=lambda name: _digest(salt, name))[:-1]:
        if taken >= quota or (chosen and taken + sizes[group] - quota > quota - taken):
            break
        chosen.add(group)
        taken += sizes[group]
    return frozenset(chosen)


def split(good: Path, train: Path, val: Path | None, chosen: frozenset[str]) -> None:
    """Write the rows of the `chosen` groups to `val`, the others to `train`."""
    with ExitStack() as stack:
        source = stack.enter_context(good.open("rb"))
        to_train = stack.enter_context(atomic.writing(train))
        to_val = stack.enter_context(atomic.writing(val)) if val else to_train
        for line in source:
            (to_val if untrusted_json.loads_object(line)["group"] in chosen else to_train).write(
                line
            )


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank; of an endless one no more than the limit is ever held."""
    number = 0
    while line := file.readline(_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > _LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(_LINE_BYTES + 1)
        if line.strip():
            yield number, line


def _parse(line: bytes, name: str, number: int) -> Row:
    if len(line) > _LINE_BYTES:
        raise BadRow(name, number, f"too long: more than {_LINE_BYTES:,} bytes")
    row = parse_row(line, name, number)
    return row if row.group else replace(row, group=_digest(row.instruction, row.input).hex())


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).digest()


def _share(job: Job, name: str, default: float, all_allowed: bool = False) -> float:
    value = job.option(name, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not (0 <= value < 1 or (all_allowed and value == 1)):
        raise StageFailed(
            Cause.CONFIG,
            f"{name}: {value!r}",
            "expected a share from 0 to below 1",
            f"edit `{name}` under `with:`",
        )
    return float(value)


if __name__ == "__main__":
    run_stage(main)
