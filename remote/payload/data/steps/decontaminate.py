"""Keeps seeds out: what a model will be judged by must be in neither train nor validation.

Entry: `seeds` (a file or folder of rows of any kind that `corpus` reads; `kind` and `columns` as
there, where they are not to be guessed), `words` (13, as GPT-3 counted: 8 is stricter), `share`
(0: one run of so many words in common is enough; 0.1 allows less than that share of the row's
runs), `common` (10: a run that more seeds have is their template's, and gives none of them away),
`groups` (true: rows of a seed's group go, too). A question or text shorter than `words` counts as a
whole from `least` words (5) on, wherever a row has it; a short answer does not. Case, punctuation
and white space do not count.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.contract.job.jobs import Cause
from remote.payload.data.engine import Context
from remote.payload.data.files.readers import Reading, Unreadable, rows_of
from remote.payload.data.sources.corpus import files_of
from remote.payload.data.steps import options
from remote.payload.data.steps.near import words_of
from remote.payload.data.units import Given, Reject, Result
from remote.payload.job import StageFailed


class Seeds:
    """What is to be kept out: runs of words by their length, each with where its seed stands;
    whole questions and texts; groups."""

    def __init__(self, words: int, least: int) -> None:
        self.words, self._least = words, least
        self.runs: dict[int, dict[bytes, str]] = {}
        self.texts: dict[bytes, str] = {}
        self.groups: dict[str, str] = {}
        self._counts: Counter[bytes] = Counter()

    def add(self, row: Row, place: str) -> None:
        """Take a seed in."""
        if row.group:
            self.groups.setdefault(row.group, place)
        asked, answers = _texts_of(row)
        own: set[bytes] = set()
        for text in (*asked, *answers):
            words = words_of(text)
            size = min(self.words, len(words))
            if text in asked:
                self.texts.setdefault(_mark(words), place)
            if size == self.words or (text in asked and size >= self._least):
                found = self.runs.setdefault(size, {})
                for run in _runs(words, size):
                    found.setdefault(run, place)
                    own.add(run)
        self._counts.update(own)

    def without_common(self, most: int) -> "Seeds":
        """These, without the runs that more than `most` of them have."""
        for runs in self.runs.values():
            for run in [run for run in runs if self._counts[run] > most]:
                del runs[run]
        return self


@dataclass(frozen=True)
class Decontaminate:
    """Rows are held against seeds."""

    seeds: Seeds
    share: float
    by_group: bool

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or what it has in common with a seed."""
        reason = self.reason(given.row)
        yield options.set_aside(given, "decontaminate", reason) if reason else given

    def reason(self, row: Row) -> str:
        """Why a row goes; empty where it stays."""
        if self.by_group and (place := self.seeds.groups.get(row.group)):
            return f"of the group of a seed, {place}"
        asked, answers = _texts_of(row)
        texts = [words_of(text) for text in (*asked, *answers)]
        for words in texts[: len(asked)]:
            if place := self.seeds.texts.get(_mark(words)):
                return f"says the same as a seed, {place}"
        for size, runs in sorted(self.seeds.runs.items(), reverse=True):
            if reason := self._overlap(texts, size, runs):
                return reason
        return ""

    def _overlap(self, texts: list[list[str]], size: int, runs: Mapping[bytes, str]) -> str:
        found = [run for words in texts for run in _runs(words, size)]
        hits = [run for run in found if run in runs]
        # A seed shorter than `words` is there as a whole, however long the row is.
        limit = self.share * len(found) if size == self.seeds.words else 0
        if not hits or len(hits) < limit:
            return ""
        return (
            f"{len(hits)} of {len(found)} runs of {size} words are those of a seed, {runs[hits[0]]}"
        )


def make_step(entry: Mapping[str, Any], context: Context) -> Decontaminate:
    """The step of an entry."""
    words = options.whole(entry, "words", 13, 2)
    share = options.number(entry, "share", 0, 0, 1)
    path = options.path_in(entry, "seeds", context.root)
    paths = files_of(path, entry.get("kind") or "") if path else []
    if not paths:
        raise options.wrong(entry, "no `seeds`", "expected a file or folder of rows")
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    least = min(words, options.whole(entry, "least", 5, 1))
    reading = json.dumps([entry.get("kind") or "", entry.get("columns") or {}])
    seeds = _seeds(stamps, reading, words, least, options.whole(entry, "common", 10, 1))
    return Decontaminate(seeds, share, bool(entry.get("groups", True)))


@lru_cache(maxsize=2)  # a worker makes the step anew for each part
def _seeds(
    stamps: tuple[tuple[str, int, int], ...], reading: str, words: int, least: int, common: int
) -> Seeds:
    seeds = Seeds(words, least)
    for path, _, _ in stamps:
        for given in _rows(Path(path), Reading(*json.loads(reading))):
            seeds.add(given.row, str(given.origin))
    return seeds.without_common(common)


def _rows(file: Path, reading: Reading) -> Iterator[Given]:
    """The rows of a file of seeds. A seed that cannot be read is not kept out: that is no row to
    set aside, but a reason to stop."""
    try:
        for result in rows_of(file, file.name, reading):
            if isinstance(result, Reject):
                raise _unreadable(f"{result.origin}: {result.reason}")
            yield result
    except (Unreadable, OSError) as error:
        raise _unreadable(f"{file.name} {error}") from None


def _unreadable(what: str) -> StageFailed:
    remedy = "correct the seeds, then `./inv resume`"
    return StageFailed(Cause.DATA, f"step decontaminate: {what}", "expected rows", remedy)


def _texts_of(row: Row) -> tuple[list[str], list[str]]:
    """What may give a seed away: its questions, or its text; and its learnt answers. A system turn
    is said to all rows."""
    if row.is_document:
        return [row.text], []
    asked = [turn.content for turn in row.messages if turn.role == "user"]
    return asked, [turn.content for turn in row.messages if turn.is_learnt]


def _runs(words: list[str], size: int) -> Iterable[bytes]:
    return (_mark(words[at : at + size]) for at in range(len(words) - size + 1))


def _mark(words: list[str]) -> bytes:
    said = " ".join(words).encode(errors="surrogatepass")
    return hashlib.blake2b(said, digest_size=8).digest()
