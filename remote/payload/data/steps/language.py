"""Keeps rows of some languages.

Entry: `keep` (ISO 639-1 codes: `[fr, en]`), `among` (the languages that may occur at all; all 139
by default: name them where texts are short), `min_confidence` (0: the likeliest counts),
`min_characters` (20: shorter text cannot be told) and `short` (`keep` such, or `drop`), `of`
(`all`, or only the `answer`).

Told by py3langid (BSD, 4.6 MB with its model, numpy alone beside it): of 112 sentences in 14
languages it tells 111, and all where `among` names the 14. So does lingua, with 96 MB to install
and 1.2 GB of memory; stop words alone tell 76. fastText's package has no model in it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context
from remote.payload.data.steps import options
from remote.payload.data.units import Given, Result

_SEEN = 2000
"""Characters looked at, at the start, in the middle and at the end each."""
_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+|[\d_]+", re.DOTALL)
_VARIETIES = {
    "ary": "ar",
    "arz": "ar",
    "yue": "zh",
    "wuu": "zh",
    "nb": "no",
    "nn": "no",
    "uzs": "uz",
    "sdh": "ku",
}
"""Who asks for the language wants these, too."""


@dataclass(frozen=True)
class Language:
    """Which languages stay."""

    keep: tuple[str, ...]
    among: tuple[str, ...]
    min_confidence: float
    min_characters: int
    is_short_kept: bool
    is_answer: bool

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row, or which language it is."""
        reason = self.reason(
            given.row.answer if self.is_answer and given.row.messages else given.row.words
        )
        yield options.set_aside(given, "language", reason) if reason else given

    def language_of(self, row: Row) -> str:
        """The likeliest language of a row; empty where it is too short to tell."""
        prose = prose_of(row.answer if self.is_answer and row.messages else row.words)
        return self._told(prose)[0] if len(prose) >= self.min_characters else ""

    def reason(self, text: str) -> str:
        """Why a text does not stay; empty where it does."""
        prose = prose_of(text)
        if len(prose) < self.min_characters:
            short = f"{len(prose)} characters of prose are too few to tell its language"
            return "" if self.is_short_kept else short
        language, confidence = self._told(prose)
        wanted = ", ".join(self.keep)
        if language not in self.keep:
            return f"its language is {language} (confidence {confidence:.2f}), wanted {wanted}"
        if confidence < self.min_confidence:
            return (
                f"that its language is {language} is sure by {confidence:.2f}, wanted at least"
                f" {self.min_confidence:g}"
            )
        return ""

    def _told(self, prose: str) -> tuple[str, float]:
        among = tuple(sorted({*self.among, *self.keep})) if self.among else ()
        code, confidence = _identifier(among).classify(prose)
        return _VARIETIES.get(code, code), float(confidence)


@lru_cache(maxsize=2)  # two seconds to load, and a worker makes the step anew for each part
def _identifier(among: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if among:
        found.set_languages(list(among))
    return found


def prose_of(text: str) -> str:
    """What can tell a language: no code, addresses and numbers; of a long text three pieces."""
    if len(text) > 6 * _SEEN:
        middle = len(text) // 2
        text = "\n".join(
            (text[: 2 * _SEEN], text[middle - _SEEN : middle + _SEEN], text[-2 * _SEEN :])
        )
    prose = " ".join(_NO_PROSE.sub(" ", text).split())
    return prose[: 3 * _SEEN]


def make_step(entry: Mapping[str, Any], _context: Context) -> Language:
    """The step of an entry."""
    keep = options.names(entry, "keep")
    if not keep:
        raise options.wrong(entry, "`keep` names no language", "expected codes: keep: [fr, en]")
    return Language(
        tuple(_VARIETIES.get(code, code) for code in keep),
        options.names(entry, "among"),
        options.number(entry, "min_confidence", 0, 0, 1),
        options.whole(entry, "min_characters", 20),
        options.one_of(entry, "short", ("keep", "drop")) == "keep",
        options.one_of(entry, "of", ("all", "answer")) == "answer",
    )
