"""Sets aside what is no text to learn from, by named rules; each reason has the figure.

Entry: `like` (`gopher`, `repetition`, `fineweb`, or a list of them) takes a set of published rules
with its limits; any rule under its own name sets its limit, and null turns it off. Without `like`
only the rules that are named hold. `of`: `all` the row's text (default), or only its `answer`.
`language`: whose stop words count (`en`). `names` of rules and what they measure: RULES.

The definitions are those of Gopher (Rae et al. 2021, table A1) and FineWeb (Penedo et al. 2024) as
datatrove has them, but for words: runs of what is not white space, each character of Chinese and
Japanese one, punctuation at their ends apart.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from remote.payload.data.engine import Context
from remote.payload.data.steps import options
from remote.payload.data.steps.stop_words import GOPHER, STOP_WORDS
from remote.payload.data.units import Given, Result

_WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\\W_]+(?:['’.,\\-][^\\W_]+)*|[^\\w\\s]+|_+"
)
_SHORT_LINE = 30
_ENDS = tuple(".?!…‽。？！।॥؟۔።።՞։")
_BULLETS = ("•", "-")


class Text:
    """A text, taken apart once for all the rules."""

    def __init__(self, text: str, stop_words: frozenset[str]) -> None:
        self.text, self.stop_words = text, stop_words

    @cached_property
    def tokens(self) -> list[str]:
        """Words, and what stands between them."""
        return _WORD.findall(self.text)

    @cached_property
    def words(self) -> list[str]:
        """Those with a letter or digit in them."""
        return [token for token in self.tokens if token[0].isalnum()]

    @cached_property
    def lines(self) -> list[str]:
        """Those that are not blank."""
        return [line for line in self.text.split("\n") if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What empty lines part."""
        return re.split("\n{2,}", self.text.strip())

    def of_words(self, count: float) -> float:
        """So many, a word."""
        return count / len(self.tokens) if self.tokens else 0.0

    def of_lines(self, is_so: Callable[[str], bool]) -> float:
        """The share of lines that are so."""
        return sum(map(is_so, self.lines)) / len(self.lines) if self.lines else 0.0

    def of_characters(self, count: float) -> float:
        """So many, a character."""
        return count / len(self.text) if self.text else 0.0


def _mean(lengths: list[int]) -> float:
    return sum(lengths) / len(lengths) if lengths else 0.0


def _repeated(pieces: list[str]) -> tuple[int, int]:
    """How many of the pieces repeat one before, and how long these are together."""
    seen: set[str] = set()
    count = length = 0
    for piece in pieces:
        if piece in seen:
            count, length = count + 1, length + len(piece)
        seen.add(piece)
    return count, length


def _top_run(text: Text, size: int) -> float:
    """The share of characters in the most frequent run of so many words, if it stands twice."""
    words = text.tokens
    runs = Counter(" ".join(words[at : at + size]) for at in range(len(words) - size + 1))
    if not runs:
        return 0.0
    run, count = runs.most_common(1)[0]
    return text.of_characters(len(run) * count) if count > 1 else 0.0


def _repeated_runs(text: Text, size: int) -> float:
    """The share of characters in runs of so many words that stood there before."""
    words, seen, at, length = text.tokens, set[str](), 0, 0
    while at <= len(words) - size:
        run = "".join(words[at : at + size])
        if run in seen:
            length, at = length + len(run), at + size
        else:
            seen.add(run)
            at += 1
    return text.of_characters(length)


def _stop_word_share(text: Text) -> float:
    hits = sum(word.lower() in text.stop_words for word in text.words)
    return hits / len(text.words) if text.words else 0.0


_FIGURES: dict[str, tuple[str, Callable[[Text], float]]] = {
    "characters": ("characters", lambda text: len(text.text)),
    "words": ("words", lambda text: len(text.words)),
    "word_length": ("characters a word", lambda text: _mean([len(word) for word in text.words])),
    "hash_share": ("`#` a word", lambda text: text.of_words(text.text.count("#"))),
    "ellipsis_share": (
        "ellipses a word",
        lambda text: text.of_words(text.text.count("...") + text.text.count("…")),
    ),
    "symbol_share": (
        "of its characters neither letter, digit nor space",
        lambda text: text.of_characters(
            sum(not (each.isalnum() or each.isspace()) for each in text.text)
        ),
    ),
    "digit_share": (
        "of its characters digits",
        lambda text: text.of_characters(sum(map(str.isdigit, text.text))),
    ),
    "bullet_lines": (
        "of its lines begin with a bullet",
        lambda text: text.of_lines(lambda line: line.lstrip().startswith(_BULLETS)),
    ),
    "ellipsis_lines": (
        "of its lines end with an ellipsis",
        lambda text: text.of_lines(lambda line: line.rstrip().endswith(("...", "…"))),
    ),
    "alpha_words": (
        "of its words have a letter",
        lambda text: text.of_words(sum(any(map(str.isalpha, token)) for token in text.tokens)),
    ),
    "stop_words": (
        "different stop words",
        lambda text: len(text.stop_words & {word.lower() for word in text.words}),
    ),
    "stop_word_share": ("of its words are stop words", _stop_word_share),
    "punctuated_lines": (
        "of its lines end with punctuation",
        lambda text: text.of_lines(lambda line: line.rstrip().endswith(_ENDS)),
    ),
    "short_lines": (
        f"of its lines have at most {_SHORT_LINE} characters",
        lambda text: text.of_lines(lambda line: len(line) <= _SHORT_LINE),
    ),
    "line_breaks": ("line breaks a word", lambda text: text.of_words(text.text.count("\n"))),
    "repeated_lines": (
        "of its lines repeat another",
        lambda text: _repeated(text.lines)[0] / max(1, len(text.lines)),
    ),
    "repeated_line_characters": (
        "of its characters are in repeated lines",
        lambda text: text.of_characters(_repeated(text.lines)[1]),
    ),
    "repeated_paragraphs": (
        "of its paragraphs repeat another",
        lambda text: _repeated(text.paragraphs)[0] / max(1, len(text.paragraphs)),
    ),
    "repeated_paragraph_characters": (
        "of its characters are in repeated paragraphs",
        lambda text: text.of_characters(_repeated(text.paragraphs)[1]),
    ),
    **{
        f"top_{size}_words": (
            f"of its characters are one run of {size} words",
            partial(_top_run, size=size),
        )
        for size in (2, 3, 4)
    },
    **{
        f"repeated_{size}_words": (
            f"of its characters are in repeated runs of {size} words",
            partial(_repeated_runs, size=size),
        )
        for size in range(5, 11)
    },
}
_AT_LEAST = ("characters", "words", "word_length", "alpha_words", "stop_words", "stop_word_share")

RULES: dict[str, str] = {
    **{f"min_{name}": _FIGURES[name][0] for name in (*_AT_LEAST, "punctuated_lines")},
    **{f"max_{name}": what for name, (what, _) in _FIGURES.items()},
}
"""Each rule with what it measures: the figure may not be below `min_`, or above `max_`."""

SETS: dict[str, dict[str, float]] = {
    "gopher": {
        "min_words": 50,
        "max_words": 100_000,
        "min_word_length": 3,
        "max_word_length": 10,
        "max_hash_share": 0.1,
        "max_ellipsis_share": 0.1,
        "max_bullet_lines": 0.9,
        "max_ellipsis_lines": 0.3,
        "min_alpha_words": 0.8,
        "min_stop_words": 2,
    },
    "repetition": {
        "max_repeated_paragraphs": 0.3,
        "max_repeated_paragraph_characters": 0.2,
        "max_repeated_lines": 0.3,
        "max_repeated_line_characters": 0.2,
        "max_top_2_words": 0.2,
        "max_top_3_words": 0.18,
        "max_top_4_words": 0.16,
        **{f"max_repeated_{size}_words": (20 - size) / 100 for size in range(5, 11)},
    },
    "fineweb": {
        "min_punctuated_lines": 0.12,
        "max_short_lines": 0.67,
        "max_repeated_line_characters": 0.01,
        "max_line_breaks": 0.3,
    },
}
"""Gopher's rules of quality and of repetition, and what FineWeb adds; where two have one rule, the
later named holds."""


@dataclass(frozen=True)
class Quality:
    """Rules with their limits, in order."""

    rules: tuple[tuple[str, float], ...]
    stop_words: frozenset[str]
    is_answer: bool

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or the first rule that it breaks."""
        row = given.row
        said = row.answer if self.is_answer and row.messages else row.words
        if reason := self.broken(said):
            yield options.set_aside(given, "quality", reason)
        else:
            yield given

    def broken(self, said: str) -> str:
        """The first rule that a text breaks, with its figure; empty where it keeps them all."""
        text = Text(said, self.stop_words)
        for rule, limit in self.rules:
            kind, _, name = rule.partition("_")
            what, measure = _FIGURES[name]
            figure = measure(text)
            if figure < limit if kind == "min" else figure > limit:
                word = "at least" if kind == "min" else "at most"
                return f"{rule}: {_shown(figure)} {what}, {word} {limit:g}"
        return ""


def make_step(entry: Mapping[str, Any], _context: Context) -> Quality:
    """The step of an entry."""
    limits: dict[str, float | None] = {}
    for name in options.names(entry, "like"):
        if name not in SETS:
            raise options.wrong(entry, f"`like`: {name!r}", f"expected of {', '.join(SETS)}")
        limits |= SETS[name]
    for name in entry:
        if name in RULES:
            limits[name] = None if entry[name] is None else options.number(entry, name, 0)
        elif name not in ("type", "like", "of", "language"):
            raise options.wrong(entry, f"no rule {name!r}", f"rules: {', '.join(RULES)}")
    rules = tuple((name, limit) for name, limit in limits.items() if limit is not None)
    is_answer = options.one_of(entry, "of", ("all", "answer")) == "answer"
    return Quality(rules, _stop_words(entry), is_answer)


def _stop_words(entry: Mapping[str, Any]) -> frozenset[str]:
    language = str(entry.get("language") or "")
    if not language:  # as published: Gopher's eight count, whoever else is at hand
        is_share = "min_stop_word_share" in entry or "max_stop_word_share" in entry
        return STOP_WORDS["en"] if is_share else GOPHER
    if language not in STOP_WORDS:
        known = ", ".join(STOP_WORDS)
        raise options.wrong(entry, f"no stop words of {language!r}", f"there are some of {known}")
    return STOP_WORDS[language]


def _shown(figure: float) -> str:
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.3g}"
