"""Keeps rows of some languages.

Entry: `keep` (ISO 639-1 codes: `[fr, en]`), `among` (the languages that may occur at all; all 139
by default: name them where texts are short), `min_confidence` (0: the likeliest counts),
`min_characters` (20: shorter text cannot be told) and `short` (`keep` such, or `drop`), `of`
(`all`, or only the `answer`).

Told by py3langid (BSD, 4.6 MB with its model, numpy alone beside it); lingua is a little better on
single words and 96 MB, fastText's package has no model in it and is no longer kept up.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
        reason = self.reason(given.row.answer if self.is_answer else given.row.words)
        yield options.set_aside(given, "language", reason) if reason else given

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
        code, confidence = self._identifier.classify(prose)
        return _VARIETIES.get(code, code), float(confidence)

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        if self.among:
            found.set_languages(sorted({*self.among, *self.keep}))
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
