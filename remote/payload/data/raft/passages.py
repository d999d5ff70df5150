"""Documents as passages of bounded length, cut where the text itself breaks, and a store of
passages that is not held in memory."""

import array
import re
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])(?:[ \u00a0\u202f]?[\"'»”’)\]])*\s+(?=[\"'«“‘(\[¿¡–—-]?\s?[^\W_a-zà-ÿ])"
    r"|(?<=[。！？])\s*"
)
"""Closing quotation marks belong to the sentence; French puts a space before them."""

_BLOCK = re.compile(r"\n(?=[ \t]*(?:[-*•|>]|\d+[.)])[ \t])|^[ \t]*#{1,6}[ \t].*$", re.MULTILINE)
"""Where a new item of a list begins, or a heading stands, in Markdown."""
_BULLET = re.compile(r"\A(?:[-*•>]|\d+[.)])[ \t]+")


def cut(text: str, longest: int) -> list[str]:
    """The passages of a document: whole paragraphs as many as fit, a longer one cut at ends of
    sentences, a longer sentence at spaces. Each is at most `longest` characters and stands in the
    text as it is, but for the breaks between paragraphs."""
    found: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        for piece in _pieces(paragraph.strip(), longest):
            if found and len(found[-1]) + 2 + len(piece) <= longest:
                found[-1] += f"\n\n{piece}"
            elif piece:
                found.append(piece)
    return found


def sentences(passage: str) -> list[str]:
    """Its sentences, each as it stands there; a heading or a row of a table is none, and the mark
    of a list is no part of one."""
    found = []
    for paragraph in _PARAGRAPH.split(passage):
        for block in _BLOCK.split(paragraph):
            found += [each.strip() for each in _split(_BULLET.sub("", block.strip()))]
    return [each for each in found if each and each[-1] in ".!?…。！？»”\"')"]


def _split(paragraph: str) -> Iterator[str]:
    """A paragraph at the ends of its sentences, closing quotation marks left where they stand."""
    start = 0
    for match in _SENTENCE_END.finditer(paragraph):
        end = match.start() + len(match[0].rstrip())
        yield paragraph[start:end]
        start = match.end()
    yield paragraph[start:]


def _pieces(paragraph: str, longest: int) -> Iterator[str]:
    if len(paragraph) <= longest:
        yield paragraph
        return
    held = ""
    for sentence in _split(paragraph):
        for piece in _at_spaces(sentence.strip(), longest):
            if held and len(held) + 1 + len(piece) > longest:
                yield held
                held = piece
            else:
                held = f"{held} {piece}" if held else piece
    yield held


def _at_spaces(sentence: str, longest: int) -> Iterator[str]:
    while len(sentence) > longest:
        place = sentence.rfind(" ", 1, longest + 1)
        place = place if place > 0 else longest
        yield sentence[:place].strip()
        sentence = sentence[place:].strip()
    yield sentence


class Spool:
    """Passages in a nameless file, found by number. `folder` has room for them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._ends = array.array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, passage: str) -> None:
        """Keep one more."""
        content = passage.encode()
        self._file.seek(self._ends[-1])
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __getitem__(self, number: int) -> str:
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode()
