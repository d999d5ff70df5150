"""What boxes, clouds and models say, fit to be shown: it may hold sequences that move the cursor,
rename the window or fill the clipboard.

Harmful are control characters (C0 and C1, DEL), and of Unicode what reorders a line or hides in it:
embeddings, overrides, isolates and marks of direction, line and paragraph separators, characters
without a width, tags, and halves of surrogate pairs, which no output can encode. The joiners U+200C
and U+200D stay: words of Persian and Hindi, and many emoji, are spelled with them.
"""

import math
import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_HIDDEN = (
    r"\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_DISTURBING = re.compile(rf"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f{_HIDDEN}]")
_LABEL = re.compile(r" *(?:error|where|why|kept|fix): | +")
_UNBROKEN = re.compile(r"\s*(?:`[^`\n]*`\S*|\S+)")
_HARMLESS = bytes((9, 10, *range(32, 127)))
_PASSED_OVER = re.compile(rf"{_COLOURS.pattern}|\r")
_RESETS = ["\x1b[0m", "\x1b[m"]


def counted(number: int, noun: str) -> str:
    """`1 box`, `2 boxes`, `1,200 bytes`."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"


def number(value: float) -> str:
    """`1800`, `0.5`, `0.0002`: a number without noughts or places that say nothing."""
    if isinstance(value, int) or (math.isfinite(value) and value.is_integer()):
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def sized(count: int) -> str:
    """`1,200 bytes`, `170.0 MB`, `4.00 GB`: an amount of bytes."""
    if count < 100_000:
        return counted(count, "byte")
    return f"{count / 1e6:,.1f} MB" if count < 1_000_000_000 else f"{count / 1e9:,.2f} GB"


def plain(text: str) -> str:
    """A text without colours and carriage returns, and with a dot for every other harmful
    character; line ends and tabs stay."""
    if text.isascii() and not text.encode().translate(
        None, _HARMLESS
    ):  # most of a log: far faster than an expression
        return text
    return text if text.isprintable() else _DISTURBING.sub("·", _PASSED_OVER.sub("", text))


def folded(text: str, width: int) -> str:
    """Lines of at most so many characters, folded between words, never in a command that stands in
    backquotes; 0 folds nothing.

    What a line goes on with is indented like its beginning, of an error's lines like what stands
    behind the label.
    """
    if not width or all(len(line) <= width for line in text.split("\n")):
        return text
    return "\n".join(_folded_line(line, width) for line in text.split("\n"))


def _folded_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(label[0]) if (label := _LABEL.match(line)) else 0)
    lines, words = [""], _UNBROKEN.findall(line)
    for word in words:
        is_full = len(lines[-1]) + len(word.rstrip()) > width and lines[-1].strip()
        if is_full:
            lines.append(indent)
        lines[-1] += word.lstrip() if is_full else word
    return "\n".join(each.rstrip() for each in lines)


def coloured(line: str) -> str:
    """The same, but colours stay, and end with the line."""
    if line.isprintable():
        return line
    safe = _DISTURBING.sub("·", line)
    return safe if (_COLOURS.findall(safe) or _RESETS)[-1] in _RESETS else f"{safe}{_RESETS[0]}"


def last_lines(output: bytes, count: int = 3) -> str:
    """The last lines that hold anything, joined by ` | `."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:])
