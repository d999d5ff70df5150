"""What is in a dataset, in one pass over its rows: counts, lengths in characters and tokens, what
is cut at which `max_length`, sources, languages, turns, how much is learnt, what repeats, what
stands on both sides of the split, and label noise.

Memory follows the number of rows (some hundred bytes each), never their text. The same rows give
the same statistics. Standard library only, but for tokenizers.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.payload.data.reporting.lengths import Lengths
from remote.payload.data.reporting.noise import Scores
from remote.payload.data.reporting.tokens import Sequence, Tokenizing, estimated

VERSION = 1
LIMITS = (512, 1024, 2048, 4096)
"""Values of `max_length` that truncation is told for."""
MOST_NAMES = 100
"""So many sources, answers and languages are told by name."""
TOKENIZED_BYTES = 64 << 20
"""About so much of a dataset is tokenized; of a larger one a sample of its rows."""
LANGUAGE_ROWS = 5000
"""About so many rows have their language told."""
_SHORT_ANSWER = 40
_MOST_ANSWERS = 10_000
_MOST_SHARED = 5

LanguageOf = Callable[[Row], str]
"""The language of a row as an ISO 639-1 code; empty where it cannot be told."""


@dataclass
class Truncation:
    """What happens at one `max_length`."""

    cut: int = 0
    empty: int = 0
    lost: int = 0
    lost_learnt: int = 0

    def add(self, sequence: Sequence, limit: int) -> None:
        """Count a sequence."""
        if sequence.length <= limit:
            return
        left = sequence.learnt_within(limit)
        self.cut += 1
        self.lost += sequence.length - limit
        self.lost_learnt += sequence.supervised - left
        self.empty += not left

    def to_json(self, limit: int) -> dict[str, int]:
        """`cut` sequences lose `lost_tokens`, of them `lost_learnt_tokens` that would be learnt;
        `empty` ones have nothing to learn any more."""
        return {
            "max_length": limit,
            "cut": self.cut,
            "empty": self.empty,
            "lost_tokens": self.lost,
            "lost_learnt_tokens": self.lost_learnt,
        }


@dataclass
class Side:
    """One file of rows."""

    limits: tuple[int, ...] = LIMITS
    rows: int = 0
    documents: int = 0
    repeated: int = 0
    with_system: int = 0
    unequal_weights: int = 0
    characters: Lengths = field(default_factory=Lengths)
    learnt_characters: int = 0
    tokens: Lengths = field(default_factory=Lengths)
    learnt_tokens: int = 0
    tokenized: int = 0
    turns: "Counter[int]" = field(default_factory=Counter)
    sources: "Counter[str]" = field(default_factory=Counter)
    languages: "Counter[str]" = field(default_factory=Counter)
    answers: "Counter[str]" = field(default_factory=Counter)
    truncation: dict[int, Truncation] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)
    marks: set[int] = field(default_factory=set)
    asked: dict[int, int] = field(default_factory=dict)
    contradicted: int = 0

    def add(self, row: Row, mark: int) -> None:
        """Count a row; `mark` is that of all it says."""
        self.rows += 1
        self.repeated += mark in self.marks
        self.marks.add(mark)
        self.groups.add(_mark(row.group or str(mark)))
        self.sources[row.source] += 1
        self.unequal_weights += row.weight != 1.0
        length = len(row.text) + sum(len(turn.content) for turn in row.messages)
        self.characters.add(length)
        if row.is_document:
            self.documents += 1
            self.learnt_characters += length
        else:
            self._add_turns(row)

    def _add_turns(self, row: Row) -> None:
        has_system = row.messages[0].role == "system"
        self.with_system += has_system
        self.turns[len(row.messages) - has_system] += 1
        self.learnt_characters += sum(len(turn.content) for turn in row.messages if turn.is_learnt)
        answer = " ".join(row.answer[: _SHORT_ANSWER + 1].split())
        is_short = len(row.answer) <= _SHORT_ANSWER
        if is_short and (answer in self.answers or len(self.answers) < _MOST_ANSWERS):
            self.answers[answer] += 1
        said = _mark(_folded(row.answer))
        self.contradicted += self.asked.setdefault(asked_mark(row), said) != said

    def add_tokens(self, sequences: Iterable[Sequence]) -> None:
        """Count the tokens of a row."""
        self.tokenized += 1
        for sequence in sequences:
            self.tokens.add(sequence.length)
            self.learnt_tokens += sequence.supervised
            for limit in self.limits:
                self.truncation.setdefault(limit, Truncation()).add(sequence, limit)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON. `tokenized` rows had their tokens counted."""
        return {
            "rows": self.rows,
            "conversations": self.rows - self.documents,
            "documents": self.documents,
            "groups": len(self.groups),
            "repeated": self.repeated,
            "contradicted": self.contradicted,
            "with_system": self.with_system,
            "unequal_weights": self.unequal_weights,
            "characters": self.characters.to_json(),
            "learnt_share": _share(self.learnt_characters, self.characters.total),
            "tokens": self.tokens.to_json(),
            "learnt_tokens": self.learnt_tokens,
            "tokenized": self.tokenized,
            "truncation": [
                self.truncation.get(limit, Truncation()).to_json(limit) for limit in self.limits
            ],
            "turns": [list(each) for each in sorted(self.turns.items())],
            "sources": named(self.sources),
            "languages": named(self.languages) if self.languages else None,
            "answers": named(self.answers),
        }


@dataclass
class Statistics:
    """Of a dataset's two files, the validation set first: `add` each row, then `to_json`.

    `token_share` of the rows, chosen by what they say, are tokenized, `language_share` have their
    language told. `limits` are values of `max_length`.
    """

    tokenizing: Tokenizing = field(default_factory=lambda: Tokenizing(estimated))
    token_share: float = 1.0
    language_of: LanguageOf | None = None
    language_share: float = 1.0
    limits: tuple[int, ...] = LIMITS
    sides: dict[str, Side] = field(default_factory=dict)
    scores: Scores = field(default_factory=Scores)
    shared: "Counter[str]" = field(default_factory=Counter)
    shared_samples: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sides = {name: Side(self.limits) for name in ("train", "val")}

    def add(self, name: str, row: Row) -> None:
        """Count a row of `train` or `val`. All of `val` come before the first of `train`."""
        side, mark = self.sides[name], _mark(_folded(row.words))
        side.add(row, mark)
        if self.tokenizing.is_estimate or _is_chosen(mark, self.token_share):
            side.add_tokens(self.tokenizing.measure(row))
        if self.language_of and _is_chosen(mark, self.language_share):
            side.languages[self.language_of(row) or "not told"] += 1
        self.scores.add(row)
        if name == "train":
            self._compare(row, mark)

    def _compare(self, row: Row, mark: int) -> None:
        val = self.sides["val"]
        if not val.rows:
            return
        is_same = mark in val.marks
        self.shared["rows"] += is_same
        self.shared["questions"] += bool(row.messages) and asked_mark(row) in val.asked
        self.shared["groups"] += bool(row.group) and _mark(row.group) in val.groups
        if is_same and len(self.shared_samples) < _MOST_SHARED:
            told = {"line": self.sides["train"].rows, "sample": row.words[:300]}
            self.shared_samples.append(told)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON. `shared` counts rows of `train` that `val` has too (but for case and white
        space), whose question `val` asks too, or whose group is there too."""
        return {
            "version": VERSION,
            "tokenizer": self.tokenizing.to_json(),
            **{name: side.to_json() for name, side in self.sides.items()},
            "shared": {
                **{name: self.shared[name] for name in ("rows", "questions", "groups")},
                "samples": self.shared_samples,
            },
            "label_noise": self.scores.to_json(),
        }


def named(counts: "Counter[str]") -> dict[str, Any]:
    """The most frequent names with their counts, how many names there are, and how much the others
    count."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return {
        "names": len(ordered),
        "first": [list(each) for each in ordered[:MOST_NAMES]],
        "rest": sum(count for _, count in ordered[MOST_NAMES:]),
    }


def asked_mark(row: Row) -> int:
    """The same for conversations that ask the same."""
    return _mark("\n".join(f"{turn.role} {_folded(turn.content)}" for turn in row.prompt))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _mark(text: str) -> int:
    content = text.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _is_chosen(mark: int, share: float) -> bool:
    return share >= 1 or mark < share * (1 << 64)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
