"""Cuts documents into pieces that a model can take; conversations stay whole.

Entry: `tokenizer` (the model's folder, or its `tokenizer.json`) and `tokens` (1024, with the two
that begin and end a document), or without a tokenizer `characters` (4000); `overlap` (0: how many
tokens or characters of a piece come again in the next, less than half of it).

A piece ends with a paragraph where one ends in its last half, else with a sentence, a line, a word;
inside a word only where the word alone is too long. Pieces keep origin, source and weight, and have
one group, the document's: the split never parts them.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.payload.data.engine import Context
from remote.payload.data.split import grouped
from remote.payload.data.steps import options
from remote.payload.data.units import Given, Result

_ENDS = 2
_BLOCK = 64
"""So many characters a token are tokenized at once: some sixteen pieces of prose."""
_BOUNDARIES = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？][」』”’）]*\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"\s+"),
)

Spans = Callable[[str], tuple[Sequence[int], Sequence[int]]]
"""Where the tokens of a text start and end."""


def by_characters(text: str) -> tuple[Sequence[int], Sequence[int]]:
    """Each character a token."""
    return range(len(text)), range(1, len(text) + 1)


@dataclass(frozen=True)
class Chunk:
    """Pieces of at most `limit` tokens, `overlap` of them again."""

    spans: Spans
    limit: int
    overlap: int

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or its pieces."""
        if not given.row.is_document:
            yield given
            return
        row = grouped(given.row)
        for piece in self.pieces(row.text):
            yield Given(replace(row, text=piece), given.origin)

    def pieces(self, text: str) -> Iterator[str]:
        """The pieces of a text, without white space at their ends. Only some blocks of it are
        tokenized at a time."""
        start, size = 0, _BLOCK * self.limit
        while start < len(text):
            block = text[start : start + size]
            done = 0
            for end, piece in self._of_block(block, is_last=start + size >= len(text)):
                done = end
                if piece := piece.strip():
                    yield piece
            start += done
            size = _BLOCK * self.limit if done else 2 * size

    def _of_block(self, block: str, is_last: bool) -> Iterator[tuple[int, str]]:
        """Pieces, each with where the next one starts. What is left of a block that is not the last
        goes with the next."""
        starts, ends = self.spans(block)
        at = 0
        while (first := bisect_left(starts, at)) + self.limit < len(starts):
            cut = self._cut(block, at, ends, first)
            here, at = at, self._back(block, at, cut, starts)
            yield at, block[here:cut]
        if is_last:
            yield len(block), block[at:]

    def _cut(self, block: str, at: int, ends: Sequence[int], first: int) -> int:
        """Where a piece from `at` ends. By itself it may have some more tokens than within its
        block: then it is cut shorter."""
        limit = self.limit
        while True:
            cut = cut_before(block, at, ends[first + limit - 1])
            excess = len(self.spans(block[at:cut].strip())[0]) - self.limit
            if excess <= 0 or limit <= 1:
                return cut
            limit = max(1, limit - excess)

    def _back(self, block: str, at: int, cut: int, starts: Sequence[int]) -> int:
        """Where the next piece starts: at a word within the overlap."""
        if not self.overlap:
            return cut
        low = starts[max(bisect_left(starts, cut) - self.overlap, 0)]
        found = re.compile(r"\s+").search(block, max(low - 1, at), cut)
        return found.end() if found and at < found.end() < cut else cut


def cut_before(text: str, start: int, high: int) -> int:
    """The best place to cut `text` after `start`, at `high` at the latest."""
    half = start + (high - start) // 2
    for boundary in _BOUNDARIES:
        if (found := _last(boundary, text, half, high)) > start:
            return found
    found = _last(_BOUNDARIES[-1], text, start, half)
    return found if text[start:found].strip() else high


def _last(boundary: "re.Pattern[str]", text: str, low: int, high: int) -> int:
    """Where the last boundary ends that is at most `high`, white space aside; 0 without one."""
    last = 0
    for found in boundary.finditer(text, low, high + 2):
        if found.start() + len(found[0].rstrip()) <= high:
            last = min(found.end(), high)
    return last


def make_step(entry: Mapping[str, Any], context: Context) -> Chunk:
    """The step of an entry."""
    path = options.path_in(entry, "tokenizer", context.root)
    if path is None and entry.get("tokens") is not None:
        raise options.wrong(entry, "`tokens` without `tokenizer`", "expected a model's folder")
    if path is not None and entry.get("characters") is not None:
        raise options.wrong(entry, "`characters` beside `tokenizer`", "expected `tokens`")
    if path is None:
        spans: Spans = by_characters
        limit = options.whole(entry, "characters", 4000, 16)
    else:
        spans, limit = spans_of(path), options.whole(entry, "tokens", 1024, 16) - _ENDS
    overlap = options.whole(entry, "overlap", 0)
    if 2 * overlap > limit:
        raise options.wrong(entry, f"`overlap` is {overlap}", f"expected at most {limit // 2}")
    return Chunk(spans, limit, overlap)


def spans_of(path: Path) -> Spans:
    """The tokens of a model's tokenizer."""
    tokenizer = _tokenizer(str(path))

    def spans(text: str) -> tuple[Sequence[int], Sequence[int]]:
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return [start for start, _ in offsets], [end for _, end in offsets]

    return spans


@lru_cache(maxsize=2)  # a worker makes the step anew for each part
def _tokenizer(path: str) -> Any:
    """Its `tokenizer.json`; where there is none, what transformers makes of its other files.
    Raises StageFailed."""
    found = Path(path)
    file = found if found.is_file() else found / "tokenizer.json"
    try:
        if file.is_file():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(file))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True).backend_tokenizer
    except Exception as error:  # tokenizers raises Exception itself
        raise options.wrong(
            {"type": "chunk"}, f"no usable tokenizer in {path}", str(error)
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
