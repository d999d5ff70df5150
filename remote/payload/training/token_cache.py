"""The tokens of a dataset on the disk, memory-mapped: however many there are, a training holds
those of one step.

An Arrow file as `datasets` reads it, under a key of all that decides its content; beside it a
record, written last, with its SHA-256. A file without a record, or with another SHA-256, is made
anew.
"""

import contextlib
import importlib.metadata
import json
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from remote.contract.files import atomic, digest, untrusted_json
from remote.payload.stages.prompt import Encoded

KEPT = 8
"""So many files stay, those used last."""

_CODE = (
    "contract/artifacts/row_kinds.py",
    "contract/artifacts/rows.py",
    "payload/stages/prompt.py",
    "payload/tokenizing.py",
    "payload/training/token_cache.py",
)
"""What decides which tokens a line becomes, below `remote`."""
_PACKAGES = ("tokenizers", "transformers", "jinja2")
_BATCH_TOKENS = 1 << 20
"""So many are held while a file is written."""
_TELL_SECONDS = 10.0

Tell = Callable[[str], None]


class Tokens(Sequence[Encoded]):
    """The rows of a file, or some of them; each is read when it is asked for.

    `truncated`, `supervised` and `lengths` tell of each row without reading it: whether it has lost
    its end, and how many tokens the loss counts, and how many it has.
    """

    def __init__(self, dataset: Any, chosen: "array[int] | None" = None) -> None:
        self._dataset = dataset
        self._chosen = array("I", range(len(dataset))) if chosen is None else chosen
        self.truncated, self.supervised, self.lengths = (
            array("i", map(column.__getitem__, self._chosen))
            for column in map(self._column, ("truncated", "supervised", "length"))
        )

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, at: int) -> Encoded: ...
    @overload
    def __getitem__(self, at: slice) -> list[Encoded]: ...
    def __getitem__(self, at: int | slice) -> Encoded | list[Encoded]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        row = self._dataset[self._chosen[at]]  # a table of it
        ids, spans = (
            row.column(name).chunk(0).flatten().to_numpy().tolist()
            for name in ("input_ids", "spans")
        )
        bounds = iter(spans)
        return Encoded(ids, tuple(zip(bounds, bounds, strict=True)), bool(self.truncated[at]))

    def only(self, places: Iterable[int]) -> "Tokens":
        """The rows at those places."""
        return Tokens(self._dataset, array("I", (self._chosen[place] for place in places)))

    def _column(self, name: str) -> "array[int]":
        numbers = array("i")
        for chunk in self._dataset.data.column(name).chunks:
            numbers.frombytes(chunk.to_numpy(zero_copy_only=False).astype("int32").tobytes())
        return numbers


@dataclass(frozen=True)
class Cache:
    """The folder of such files, one a key."""

    folder: Path

    def tokens(self, key: str, rows: Callable[[], Iterator[Encoded]], tell: Tell) -> Tokens:
        """The tokens under a key; `rows` is asked for them where they are not there, or are
        damaged. `tell` gets a line now and then while they are made."""
        path = self.folder / f"{key}.arrow"
        if not self._is_whole(path):
            self._write(path, key, rows(), tell)
        return Tokens(_opened(path))

    def _is_whole(self, path: Path) -> bool:
        record = path.with_suffix(".json")
        try:
            os.utime(record)  # used last
            told = untrusted_json.read_object(record)
            size, sha256 = told["bytes"], told["sha256"]
            return bool(path.stat().st_size == size and digest.of_file(path) == sha256)
        except (OSError, ValueError, KeyError):
            return False

    def _write(self, path: Path, key: str, rows: Iterator[Encoded], tell: Tell) -> None:
        record = path.with_suffix(".json")
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.remove_abandoned(self.folder)
        record.unlink(missing_ok=True)
        with atomic.writing(path) as file:
            _fill(file, key, rows, tell)
        about = {"bytes": path.stat().st_size, "sha256": digest.of_file(path)}
        atomic.write_json(record, about)
        self._forget()

    def _forget(self) -> None:
        """Remove all but those used last. Whoever reads one of them meanwhile keeps its pages."""
        used: list[tuple[float, Path]] = []
        for record in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):  # another job forgets, too
                used.append((record.stat().st_mtime, record))
        for _, record in sorted(used, reverse=True)[KEPT:]:
            record.unlink(missing_ok=True)
            record.with_suffix(".arrow").unlink(missing_ok=True)


def key_of(dataset_sha256: str, tokenizer: Any, max_length: int) -> str:
    """The key of what a dataset becomes: of its bytes, of all that the tokenizer does, of the
    length, and of the code in between."""
    code = Path(__file__).parents[2]
    return digest.of_value(
        {
            "dataset": dataset_sha256,
            "tokenizer": digest.of_bytes(tokenizer.backend_tokenizer.to_str().encode()),
            "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.chat_template],
            "max_length": max_length,
            "code": [digest.of_file(code / name) for name in _CODE],
            "packages": [importlib.metadata.version(name) for name in _PACKAGES],
        }
    )[:32]


def _opened(path: Path) -> Any:
    from datasets import Dataset

    # Memory-mapped. Rows as Arrow's own tables: made into Python's numbers by `datasets`, one of
    # 500 tokens takes milliseconds.
    return Dataset.from_file(str(path)).with_format("arrow")


def _fill(file: Any, key: str, rows: Iterator[Encoded], tell: Tell) -> None:
    import pyarrow

    schema = _schema(key)
    count = tokens = 0
    told_at = time.monotonic()
    with pyarrow.ipc.new_stream(file, schema) as stream:
        for batch in _batches(rows):
            stream.write_batch(_recorded(batch, schema))
            count += len(batch)
            tokens += sum(len(row.ids) for row in batch)
            if time.monotonic() - told_at > _TELL_SECONDS:
                told_at = time.monotonic()
                tell(f"tokenising: {count:,} rows, {tokens:,} tokens")


def _schema(key: str) -> Any:
    from datasets import Features, List, Value

    features = Features(
        {
            "input_ids": List(Value("int32")),
            "spans": List(Value("int32")),
            "truncated": Value("bool"),
            "supervised": Value("int32"),
            "length": Value("int32"),
        }
    )
    schema = features.arrow_schema
    # Where `datasets` looks for a fingerprint: else it draws one by chance.
    about = {**json.loads(schema.metadata[b"huggingface"]), "fingerprint": key}
    return schema.with_metadata({"huggingface": json.dumps(about)})


def _batches(rows: Iterator[Encoded]) -> Iterator[list[Encoded]]:
    """Rows of about `_BATCH_TOKENS` tokens together."""
    batch: list[Encoded] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.ids)
        if size >= _BATCH_TOKENS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _recorded(batch: list[Encoded], schema: Any) -> Any:
    import pyarrow

    spans = ([bound for span in row.spans for bound in span] for row in batch)
    return pyarrow.record_batch(
        [
            _lists(row.ids for row in batch),
            _lists(spans),
            pyarrow.array([row.truncated for row in batch]),
            _numbers(array("i", (row.supervised for row in batch))),
            _numbers(array("i", (len(row.ids) for row in batch))),
        ],
        schema=schema,
    )


def _lists(rows: Iterable[list[int]]) -> Any:
    """Lists of numbers, several times as fast as Arrow makes them of Python's."""
    import pyarrow

    values, ends = array("i"), array("i", [0])
    for row in rows:
        values.extend(row)
        ends.append(len(values))
    return pyarrow.ListArray.from_arrays(_numbers(ends), _numbers(values))


def _numbers(values: "array[int]") -> Any:
    import pyarrow

    return pyarrow.Array.from_buffers(
        pyarrow.int32(), len(values), [None, pyarrow.py_buffer(values)]
    )
