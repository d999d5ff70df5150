"""The shipped corpus as token ids: texts by paragraph, chats through the chat template, packed into
rows of one length."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow
from remote.contract.files.digest import files_in
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import encode
from remote.payload.tokenizing import plain_ids


def documents(tokenizer: Any, corpus: Path) -> list[list[int]]:
    """Every document as token ids with its beginning and end of sequence; raises StageFailed when
    there is none or a row is bad."""
    paths = files_in(corpus) if corpus.is_dir() else [corpus]
    found = [ids for path in paths for ids in _of_file(tokenizer, path)]
    if not found:
        why = "it holds no .txt paragraph and no .jsonl chat"
        raise StageFailed(
            Cause.DATA,
            f"no text to pre-train on in {corpus}",
            why,
            "name a folder of texts as `corpus:`",
        )
    return found


def _of_file(tokenizer: Any, path: Path) -> Iterator[list[int]]:
    if path.suffix == ".txt":
        for paragraph in filter(str.strip, path.read_text().split("\n\n")):
            yield [
                tokenizer.bos_token_id,
                *plain_ids(tokenizer, paragraph.strip()),
                tokenizer.eos_token_id,
            ]
    elif path.suffix == ".jsonl":
        for number, line in enumerate(
            path.read_bytes().splitlines(), start=1
        ):  # of text it would split at U+2028 too
            yield _chat(tokenizer, line, path, number)


def _chat(tokenizer: Any, line: bytes, path: Path, number: int) -> list[int]:
    try:
        (lesson,) = encode(tokenizer, parse_row(line, path.name, number), max_length=1 << 20)
        return lesson.ids
    except BadRow as bad:
        raise StageFailed(
            Cause.DATA, f"a chat of the corpus is unusable: {bad}", remedy="fix that line"
        ) from bad


@dataclass(frozen=True)
class Vocabulary:
    """The tokens a corpus uses, numbered densely; one number more, the last, stands for all the
    others."""

    tokens: list[int]
    total: int

    @classmethod
    def of(cls, found: list[list[int]], total: int) -> "Vocabulary":
        """The vocabulary of some documents, out of `total` tokens that the tokenizer knows."""
        return cls(sorted({token for ids in found for token in ids}), total)

    @property
    def size(self) -> int:
        """How many numbers there are, the one for all the others included."""
        return len(self.tokens) + 1

    @property
    def others(self) -> int:
        """How many tokens the corpus never uses."""
        return self.total - len(self.tokens)

    def dense(self, ids: list[int]) -> list[int]:
        """Token ids as numbers of this vocabulary."""
        number = {token: index for index, token in enumerate(self.tokens)}
        return [number[token] for token in ids]


def packed(found: list[list[int]], rows: int, length: int, seed: int) -> list[list[int]]:
    """`rows` rows of `length` + 1 numbers: the documents in a new order each time round, end to
    end, cut where a row is full."""
    order = random.Random(seed)
    stream: list[int] = []
    while len(stream) < rows * (length + 1):
        for ids in order.sample(found, len(found)):
            stream.extend(ids)
    return [stream[start * (length + 1) : (start + 1) * (length + 1)] for start in range(rows)]
