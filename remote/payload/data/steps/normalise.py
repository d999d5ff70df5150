"""Makes text uniform: Unicode, control characters, words hyphenated at line ends, white space.

Entry: `form` (NFC; NFKC also takes ligatures and full-width letters apart; `none`), `hyphens`
(true), `spaces` (`tidy`; `collapse` also makes one space of several, and spoils code and tables;
`none`), `join_lines` (false; true makes one line of each paragraph, for text out of PDFs). A row
with nothing left is set aside as unusable.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from remote.contract.artifacts.rows import NotARow, checked
from remote.payload.data.engine import Context
from remote.payload.data.steps import options
from remote.payload.data.units import Given, Result

_LINE_ENDS = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
# Control characters, marks of byte order and direction, and zero-width ones but the two joiners,
# which Persian, Hindi and emoji need. A soft hyphen goes after hyphenation had its use of it.
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff]"
)
_SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_BROKEN = re.compile("([^\\W\\d_]{2,})([-\u2010\xad])[ \t]*\n[ \t]*([^\\W\\d_]+)")
_AND = frozenset(
    (
        "and",
        "or",
        "und",
        "oder",
        "bzw",
        "et",
        "ou",
        "y",
        "o",
        "e",
        "en",
        "of",
        "i",
        "och",
        "eller",
        "og",
    )
)
"""Behind `Vor-` at a line's end these begin a new word."""


@dataclass(frozen=True)
class Normalise:
    """What an entry asks for."""

    form: Literal["NFC", "NFKC", ""]
    hyphens: bool
    spaces: str
    join_lines: bool

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row made uniform."""
        row = options.with_texts(given.row, self.text)
        if row is given.row:
            yield given
            return
        try:
            yield Given(checked(row), given.origin)
        except NotARow as error:
            reason = f"nothing to learn is left of it: {error}"
            yield options.set_aside(given, "normalise", reason, is_bad=True)

    def text(self, text: str) -> str:
        """One text made uniform. What it gives it leaves as it is."""
        text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
        if self.form:
            text = unicodedata.normalize(self.form, text)
        if self.hyphens:
            text = rejoined(text)
        text = text.replace("\xad", "")
        if self.spaces != "none":
            text = tidied(text)
        if self.join_lines:
            text = re.sub("(?<!\n)\n(?!\n)", " ", text)
        if self.spaces == "collapse":
            text = re.sub("[ \t]+", " ", text)
            text = re.sub("\n ", "\n", text)
        # Taking characters out may have brought a letter and its accent together.
        return unicodedata.normalize(self.form, text) if self.form else text


def make_step(entry: Mapping[str, Any], _context: Context) -> Normalise:
    """The step of an entry."""
    forms: dict[str, Literal["NFC", "NFKC", ""]] = {"NFC": "NFC", "NFKC": "NFKC", "none": ""}
    return Normalise(
        forms[options.one_of(entry, "form", tuple(forms))],
        bool(entry.get("hyphens", True)),
        options.one_of(entry, "spaces", ("tidy", "collapse", "none")),
        bool(entry.get("join_lines", False)),
    )


def rejoined(text: str) -> str:
    """Words that a line end parts, whole again. A hyphen stays where the text writes the word with
    one elsewhere, and goes where it writes it without, or not at all."""
    if not _BROKEN.search(text):
        return text
    words = frozenset(re.findall("[^\\W\\d_]+(?:[-\u2010][^\\W\\d_]+)*", text.lower()))

    def joined(found: "re.Match[str]") -> str:
        first, hyphen, second = found.groups()
        if hyphen == "\xad":
            return first + second
        if second in _AND:
            return f"{first}{hyphen} {second}"
        whole, parted = first + second, f"{first}-{second}"
        is_compound = parted.lower() in words or (second[0].isupper() and not second.isupper())
        return parted if is_compound and whole.lower() not in words else whole

    before = ""
    while before != text:  # a word may go over more than two lines
        before, text = text, _BROKEN.sub(joined, text)
    return text


def tidied(text: str) -> str:
    """Plain spaces, none at line ends, at most one empty line, none at either end; the indent of
    lines stays."""
    text = _SPACES.sub(" ", text)
    text = re.sub("[ \t]+\n", "\n", text)
    return re.sub("\n{3,}", "\n\n", text).strip()
