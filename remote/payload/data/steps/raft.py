"""RAFT (arXiv 2403.10131): documents become questions, each asked over its own passage (the oracle)
among passages that do not answer it (distractors), and answered with the words that prove it.

Entry: `questions` a passage (1), `distractors` (4), `oracle_share` (0.8: the others are asked over
distractors alone, one more of them, and are answered all the same, as the paper has it),
`passage_characters` (1000), `system` (none), `language` of the extractive questions (`en`, `fr`),
and `teacher` (`data.raft.teacher`), without which questions and answers are drawn out of the
passages themselves. Conversations pass as they are.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from remote.contract.artifacts.rows import NotARow, Row, checked
from remote.contract.files import typed
from remote.contract.job.jobs import Cause
from remote.payload.data import split as splits
from remote.payload.data.engine import Context
from remote.payload.data.raft.drafts import (
    DOCUMENT,
    END_DOCUMENT,
    WORDS,
    ByTeacher,
    Draft,
    Drafter,
    Extractive,
    marker_in,
)
from remote.payload.data.raft.passages import Spool, cut
from remote.payload.data.raft.teacher import open_teacher
from remote.payload.data.units import SAMPLE_CHARACTERS, Given, Reject, Result
from remote.payload.job import StageFailed

WHOLE = True

_DRAWS = 20
_GONE_THROUGH = 1000
"""So often a distractor is drawn before passages are gone through, and so many at most: words that
stand in nearly all of them would cost the square of their number."""


@dataclass(frozen=True)
class Settings:
    """What an entry says."""

    questions: int = 1
    distractors: int = 4
    oracle_share: float = 0.8
    passage_characters: int = 1000
    language: str = "en"
    system: str = ""


class Raft:
    """The step: looks at all passages first, as any may distract from any other."""

    def __init__(self, settings: Settings, drafter: Drafter, spool: Spool, seed: str) -> None:
        self._settings, self._drafter, self._spool, self._seed = settings, drafter, spool, seed
        self._seen: set[bytes] = set()
        self._asked: set[bytes] = set()

    def look(self, given: Given) -> None:
        """Keep the passages of a document."""
        for passage in self._passages(given.row):
            mark = _mark(passage)
            if mark not in self._seen and not marker_in(passage):
                self._seen.add(mark)
                self._spool.add(passage)
                self._drafter.foresee(passage)

    def __call__(self, given: Given) -> Iterator[Result]:
        """The questions about a document. Raises StageFailed where there are too few passages to
        distract with."""
        if not given.row.is_document:
            yield given
            return
        if len(self._spool) <= self._most:
            raise StageFailed(
                Cause.DATA,
                f"{len(self._spool)} different passages are too few for RAFT",
                f"a question takes up to {self._most} others to distract from its own",
                "give more documents, fewer `distractors` or fewer `passage_characters`; then"
                " `./inv run` it anew",
            )
        row = splits.grouped(given.row)
        for passage in self._passages(row):
            yield from self._of_passage(passage, Given(row, given.origin))

    @property
    def _most(self) -> int:
        return self._settings.distractors + (self._settings.oracle_share < 1)

    def _passages(self, row: Row) -> list[str]:
        return cut(row.text, self._settings.passage_characters) if row.is_document else []

    def _of_passage(self, passage: str, given: Given) -> Iterator[Result]:
        mark = _mark(passage)
        if marker := marker_in(passage):
            yield _aside(f"holds {marker}, a mark of RAFT's own", given, passage)
            return
        if mark in self._asked:
            yield _aside("repeats an earlier passage", given, passage, is_bad=False)
            return
        self._asked.add(mark)
        seen: set[str] = set()
        for draft in self._drafter.drafts(passage):
            if isinstance(draft, str):
                is_teachers = isinstance(self._drafter, ByTeacher)
                yield _aside(draft, given, passage, is_bad=is_teachers)
            elif draft.question in seen:
                yield _aside("asks the same twice", given, draft.question, is_bad=False)
            else:
                seen.add(draft.question)
                yield self._of_draft(draft, passage, given)

    def _of_draft(self, draft: Draft, passage: str, given: Given) -> Result:
        chance = self._number("oracle", passage, draft.question) / 2**64
        has_oracle = chance < self._settings.oracle_share
        count = self._settings.distractors + (not has_oracle)
        others = list(itertools.islice(self._distractors(draft, passage), count))
        if len(others) < count:
            reason = f"fewer than {count} passages leave its question open"
            return _aside(reason, given, draft.question, is_bad=False)
        if has_oracle:
            others.insert(self._number("place", passage, draft.question) % (count + 1), passage)
        asked = "".join(f"{DOCUMENT}\n{each}\n{END_DOCUMENT}\n" for each in others)
        row = Row.of(
            f"{asked}\n{draft.question}",
            draft.said,
            given.row.group,
            self._settings.system,
            source=given.row.source,
            weight=given.row.weight,
        )
        try:
            return replace(given, row=checked(row))
        except NotARow as error:
            return _aside(str(error), given, draft.question)

    def _distractors(self, draft: Draft, oracle: str) -> Iterator[str]:
        """Other passages that do not answer, in an order drawn for this question, none twice."""
        barred = [_folded(each) for each in (*draft.unique, *draft.quotes)]
        taken: set[int] = set()
        for number in self._order(oracle, draft.question):
            if number in taken:
                continue
            taken.add(number)
            passage = self._spool[number]
            folded = _folded(passage)
            if passage != oracle and not any(words in folded for words in barred):
                yield passage

    def _order(self, oracle: str, question: str) -> Iterator[int]:
        """Numbers of passages: drawn at random while that finds new ones, then one after another
        from a place drawn at random."""
        count = len(self._spool)
        draws = _DRAWS * (self._settings.distractors + 1)
        for attempt in range(draws):
            yield self._number(f"draw {attempt}", oracle, question) % count
        start = self._number("start", oracle, question)
        yield from ((start + step) % count for step in range(min(count, _GONE_THROUGH)))

    def _number(self, *words: str) -> int:
        """64 bits at random, the same for the same seed and words."""
        content = "\0".join((self._seed, *words)).encode()
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def make_step(entry: Mapping[str, Any], context: Context) -> Raft:
    """The step of an entry. Raises StageFailed for settings that cannot be."""
    settings = _settings(entry)
    drafter: Drafter = Extractive(settings.questions, settings.language)
    if told := entry.get("teacher"):
        teacher = open_teacher(told, context.folder / "teacher")
        drafter = ByTeacher(teacher, settings.questions)
    return Raft(settings, drafter, Spool(context.folder), context.seed)


def _settings(entry: Mapping[str, Any]) -> Settings:
    given = {name: value for name, value in entry.items() if name not in ("type", "teacher")}
    try:
        found = typed.read(Settings, given)
        fits = (
            set(given) <= {each.name for each in fields(Settings)}
            and 1 <= found.questions <= 20
            and 1 <= found.distractors <= 50
            and 0 <= found.oracle_share <= 1
            and 200 <= found.passage_characters <= 20_000
            and found.language in WORDS
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise StageFailed(
            Cause.CONFIG,
            f"the step `raft` of the recipe: {given}",
            "`questions` from 1 to 20, `distractors` from 1 to 50, `oracle_share` from 0 to 1,"
            f" `passage_characters` from 200 to 20,000, `language` {' or '.join(WORDS)}, `system`",
            "correct the recipe, then `./inv run` it anew",
        )
    return found


def _aside(reason: str, given: Given, sample: str, is_bad: bool = True) -> Reject:
    return Reject(reason, given.origin, "raft", sample[:SAMPLE_CHARACTERS], is_bad)


def _mark(passage: str) -> bytes:
    return hashlib.blake2b(_folded(passage).encode(), digest_size=8).digest()


def _folded(text: str) -> str:
    """The same for texts that differ by case and spaces alone."""
    return " ".join(text.casefold().split())
