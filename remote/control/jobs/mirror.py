"""A box's growing file on the laptop, byte by byte at the same place; and its lines as a person reads them.

Its size is the offset to go on from. What the box has dropped before it could be brought is a hole: no bytes on the disk, and a line
`START END` in a file beside it, `NAME.holes`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from remote.contract.frames import MARK_BYTES, mark
from remote.control.printable import counted
from remote.control.secrets import Mask, mask

LINE_BYTES = 16 * 1024 * 1024
"""What has no end by then is told as a line."""

_LARGEST_BYTES = 1 << 42
"""No log is longer; what a box says beyond that is not believed."""

_READ_BYTES = 1024 * 1024
_TIDY_BYTES = 64 * 1024

OnText = Callable[[str], None]
"""Takes whole lines, as many as came at once: with ends between them, none behind the last. A fast log brings a million in a second, and
one by one they would cost more than all the rest."""


def each_line(on_line: Callable[[str], None]) -> OnText:
    """Takes lines one by one."""

    def on_text(text: str) -> None:
        for line in text.split("\n"):
            on_line(line)

    return on_text


class Gap(ValueError):
    """A piece that would leave bytes out that the box has, or had."""


class Lines:
    """Whole lines out of bytes cut anywhere, without secrets. Of one that was written over by carriage returns, such as a progress bar,
    its last state."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text, self._mask = on_text, mask()
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, content: bytes) -> None:
        """Tell the lines that `content` completes."""
        end = content.rfind(b"\n")
        if end >= 0:
            self._tell(b"".join([*self._rest, content[:end]]))
            self._rest, self._size = [], 0
        if rest := content[end + 1 :]:
            self._rest.append(rest)
            self._size += len(rest)
            self._tidy()

    def finish(self) -> None:
        """Tell the last line, should it have no end."""
        if self._rest:
            self._tell(b"".join(self._rest))
            self._rest, self._size = [], 0

    def note(self, text: str) -> None:
        """Tell a line of our own."""
        self.finish()
        self._on_text(text)

    def forget(self) -> None:
        """Drop what has no end yet: it has none any more."""
        self._rest, self._size = [], 0

    def _tell(self, lines: bytes) -> None:
        self._on_text(_shown(lines, self._mask))

    def _tidy(self) -> None:
        """Bound what is held of a line that does not end."""
        if self._size > _TIDY_BYTES and b"\r" in self._rest[-1]:
            self._rest = [last_state(b"".join(self._rest)) + b"\r" * self._rest[-1].endswith(b"\r")]
            self._size = len(self._rest[0])
        if self._size > LINE_BYTES:
            self.finish()


def _shown(lines: bytes, mask: Mask) -> str:
    """Lines without their last end, as a person reads them."""
    if b"\r" in lines:
        lines = b"\n".join(map(last_state, lines.split(b"\n")))
    return mask.text(lines.decode(errors="replace"))


def last_state(line: bytes) -> bytes:
    """What a terminal would show of a line in the end."""
    return line.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in line else line


class Mirror:
    """A local file that is a byte-exact beginning of one on the box, holes apart. `on_text` gets its lines as they become whole.

    Bytes are written at their own offset, so two commands that follow one job into one file write the same thing twice.
    """

    def __init__(self, name: str, path: Path, on_text: OnText | None, notice: Callable[[str], None]) -> None:
        self.name, self.path, self._notice = name, path, notice
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.offset = os.fstat(self._file).st_size
        self._lines = Lines(on_text) if on_text else None
        if self._lines and self.offset:
            self._lines.feed(self._unfinished_line())

    def take(self, offset: int, content: bytes) -> None:
        """Take a piece of the box's file. Raises Gap."""
        if not 0 <= offset <= self.offset:
            raise Gap(f"{self.name}: the box sent byte {offset}, byte {self.offset} is next")
        if offset + len(content) > _LARGEST_BYTES:
            raise Gap(f"{self.name}: byte {offset + len(content):,} is more than any log has")
        fresh = memoryview(content)[self.offset - offset :]
        while fresh:
            written = os.pwrite(self._file, fresh, self.offset)
            self.offset += written
            if self._lines:
                self._lines.feed(content if written == len(content) else bytes(fresh[:written]))
            fresh = fresh[written:]

    def skip(self, offset: int, until: int, is_wanted: bool = False) -> None:
        """Leave out what the box has dropped, or what we do not want. Raises Gap."""
        if until > _LARGEST_BYTES:
            raise Gap(f"{self.name}: a hole up to byte {until:,} is more than any log has")
        if offset > self.offset:
            raise Gap(f"{self.name}: the box dropped byte {offset}, byte {self.offset} is next")
        size = os.fstat(self._file).st_size  # another command may have been faster, and have these bytes
        if until > size:
            _note_hole(self.path, max(size, self.offset), until)
            os.ftruncate(self._file, until)
        if until > self.offset and self._lines and not is_wanted:
            self._lines.note(hole_in_words(until - self.offset))
        self.offset = max(until, self.offset)

    def restart(self) -> None:
        """The box's file is another one now: set ours aside and begin anew."""
        aside = _free_name(self.path)
        self._copy_to(aside)
        if holes_file(self.path).exists():
            holes_file(self.path).replace(holes_file(aside))
        os.ftruncate(self._file, 0)
        self.offset = 0
        self._notice(f"the box's {self.name} is another file now: beginning anew, the old one is kept as {aside.name}")
        if self._lines:
            self._lines.forget()

    def _copy_to(self, aside: Path) -> None:
        """Copy what is here, and leave holes holes. Not a rename: other commands follow into this very file."""
        with aside.open("wb") as copy:
            for end, content in _stretches(self.path, 0):
                if content is not None:
                    copy.seek(end - len(content))
                    copy.write(content)
            copy.truncate(self.offset)

    def finish(self) -> None:
        """Give the last line, should it have no end."""
        if self._lines:
            self._lines.finish()

    def close(self) -> None:
        """Close the local file."""
        os.close(self._file)

    def arguments(self) -> tuple[str, str]:
        """What the box needs to go on: offset, and mark of what is here before it."""
        start = max(self.solid_from(), self.offset - MARK_BYTES)
        return str(self.offset), mark(self.offset, os.pread(self._file, self.offset - start, start))

    def solid_from(self) -> int:
        """The first byte behind the last hole: from there on all is here."""
        return max((end for _, end in holes(self.path) if end <= self.offset), default=0)

    def _unfinished_line(self) -> bytes:
        found: list[bytes] = []
        at, first = self.offset, max(self.solid_from(), self.offset - LINE_BYTES)
        while at > first and not (found and b"\n" in found[-1]):
            start = max(first, at - 65536)
            found.append(os.pread(self._file, at - start, start))
            at = start
        return b"".join(reversed(found)).rpartition(b"\n")[2]


def read_texts(path: Path, offset: int = 0) -> Iterator[tuple[int, str]]:
    """The whole lines of a mirrored file from a byte on, as a person reads them: as OnText takes them, with the offset behind them; of a
    hole how large it is. A last line without an end is left out."""
    masks, rest, done = mask(), b"", offset
    for end, content in _stretches(path, offset):
        if content is None:
            done += len(rest)
            if rest:
                yield done, _shown(rest, masks)
            yield end, hole_in_words(end - done)
            rest, done = b"", end
            continue
        whole, is_any, rest = (rest + content).rpartition(b"\n")
        if is_any:
            done += len(whole) + 1
            yield done, _shown(whole, masks)


def _stretches(path: Path, offset: int) -> Iterator[tuple[int, bytes | None]]:
    """The bytes from `offset` on, each piece with the offset behind it; None for a hole."""
    left = [hole for hole in holes(path) if hole[1] > offset]
    with path.open("rb") as file:
        while True:
            if left and left[0][0] <= offset:
                offset = max(offset, left.pop(0)[1])
                yield offset, None
                continue
            file.seek(offset)
            content = file.read(min(_READ_BYTES, left[0][0] - offset) if left else _READ_BYTES)
            if not content:
                return
            offset += len(content)
            yield offset, content


def holes(path: Path) -> list[tuple[int, int]]:
    """The holes of a mirrored file: from the first byte that is missing to the first that is there again."""
    try:
        return sorted((int(start), int(end)) for start, end in map(str.split, holes_file(path).read_text().splitlines()))
    except (OSError, ValueError):  # a damaged record of them is none
        return []


def holes_file(path: Path) -> Path:
    """Where the holes of a mirrored file stand."""
    return path.with_name(f"{path.name}.holes")


def hole_in_words(size: int) -> str:
    """What a reader is told in place of what is missing."""
    return f"[{counted(size, 'byte')} {'was' if size == 1 else 'were'} dropped on the box]"


def _note_hole(path: Path, start: int, end: int) -> None:
    with holes_file(path).open("a") as file:
        file.write(f"{start} {end}\n")


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return aside
