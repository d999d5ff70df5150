"""Text of rows on a page: nothing of it is markup, nothing is invisible, nothing turns the line
around."""

import html
import re
import unicodedata

_SEEN = ("\n", "\t", "\u200c", "\u200d")
"""Line and tab; and the joiners, which Persian, Hindi and emoji are written with."""
_LOOKED_AT = re.compile(r"[^\x20-\x7e\n\t]")
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def escaped(text: str) -> str:
    """The text as HTML, for content and attributes. Characters that nobody sees, or that change how
    others are seen (NUL, directions, lone surrogates), are shown by their number."""
    return html.escape(_LOOKED_AT.sub(_visible, text), quote=True)


def short(text: str, most: int) -> str:
    """At most so many characters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _visible(found: "re.Match[str]") -> str:
    character = found[0]
    if character in _SEEN or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"
