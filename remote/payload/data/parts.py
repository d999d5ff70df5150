"""Part files: the rows of a unit after some steps, with where each was read, and what was set aside
on the way. Written once, under the digest of all that went into them."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.contract.files import atomic, digest, typed, untrusted_json
from remote.payload.data.units import Given, Origin, Reject, Result


@dataclass(frozen=True)
class Part:
    """A part file. `bad` of the rejects count against `max_reject_share`; `dropped` counts them by
    step; `unit` is the id of the unit, with its source's number before it. `changed` counts what
    steps changed in rows, by kind: redactions."""

    key: str
    unit: str
    rows: int
    bad: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)


class Store:
    """The folder of part files. A part is whole when its record is there, which is written last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, key: str) -> Part | None:
        """The part that was written under a key; None where there is none, or it is damaged."""
        try:
            return typed.read(Part, untrusted_json.read_object(self._record(key)))
        except (OSError, ValueError, TypeError):
            return None

    def write(
        self, key: str, unit: str, results: Iterable[Result], steps: Iterable[Any] = ()
    ) -> Part:
        """Write what came of a unit; those of the steps that have `counts` tell what they
        changed."""
        rows = bad = 0
        dropped: Counter[str] = Counter()
        with ExitStack() as stack:
            kept = stack.enter_context(atomic.writing(self.rows_file(key)))
            aside = stack.enter_context(atomic.writing(self.rejects_file(key)))
            for result in results:
                if isinstance(result, Given):
                    kept.write(_line([result.row.to_json(), _place(result.origin)]))
                    rows += 1
                else:
                    told = {**asdict(result), "origin": _place(result.origin)}
                    aside.write(_line(told))
                    dropped[result.step] += 1
                    bad += result.is_bad
        changed: Counter[str] = Counter()
        for step in steps:
            changed.update(getattr(step, "counts", {}))
        part = Part(
            key, unit, rows, bad, *(dict(sorted(each.items())) for each in (dropped, changed))
        )
        atomic.write_json(self._record(key), asdict(part))
        return part

    def rows(self, part: Part) -> Iterator[Given]:
        """The rows of a part."""
        with self.rows_file(part.key).open("rb") as file:
            for line in file:
                row, place = json.loads(line)  # written by this module
                yield Given(Row.from_json(row), Origin(*place))

    def rejects(self, part: Part) -> Iterator[Reject]:
        """What was set aside on the way to a part."""
        with self.rejects_file(part.key).open("rb") as file:
            for line in file:
                told: dict[str, Any] = json.loads(line)
                yield Reject(**{**told, "origin": Origin(*told["origin"])})

    def rows_file(self, key: str) -> Path:
        """Where the rows lie."""
        return self._folder / f"{key}.jsonl"

    def rejects_file(self, key: str) -> Path:
        """Where what was set aside lies."""
        return self._folder / f"{key}.rejects.jsonl"

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove all parts but those."""
        wanted = set(keys)
        for path in self._folder.iterdir():
            if path.name.partition(".")[0] not in wanted:
                path.unlink(missing_ok=True)

    def _record(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def key_of(*values: Any) -> str:
    """The key of what is made of these plain values."""
    return digest.of_value(list(values))[:32]


def _place(origin: Origin) -> list[Any]:
    return [origin.file, origin.line, origin.offset, origin.page]


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
