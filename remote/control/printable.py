"""What boxes say, fit for a terminal: it may hold sequences that move the cursor, rename the window or fill the clipboard."""

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DISTURBING = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
_PASSED_OVER = re.compile(rf"{_COLOURS.pattern}|\r")
_RESETS = ["\x1b[0m", "\x1b[m"]


def counted(number: int, noun: str) -> str:
    """`1 box`, `2 boxes`, `1,200 bytes`."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"


def sized(count: int) -> str:
    """`1,200 bytes`, `170.0 MB`, `4.00 GB`: an amount of bytes."""
    if count < 100_000:
        return counted(count, "byte")
    return f"{count / 1e6:,.1f} MB" if count < 1_000_000_000 else f"{count / 1e9:,.2f} GB"


def plain(text: str) -> str:
    """A text without colours and carriage returns, and with a dot for every other control character but line ends and tabs."""
    return text if text.isprintable() else _DISTURBING.sub("·", _PASSED_OVER.sub("", text))


def coloured(line: str) -> str:
    """The same, but colours stay, and end with the line."""
    if line.isprintable():
        return line
    safe = _DISTURBING.sub("·", line)
    return safe if (_COLOURS.findall(safe) or _RESETS)[-1] in _RESETS else f"{safe}{_RESETS[0]}"
