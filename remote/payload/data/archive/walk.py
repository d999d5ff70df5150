"""All that lies in an archive and in the archives in it, numbered in a stable order."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from remote.contract.files.file_kind import FIRST_BYTES, kind_of
from remote.payload.data.archive import members
from remote.payload.data.archive.members import Member, Start
from remote.payload.data.archive.safety import (
    Budget,
    Counted,
    Limits,
    NotTheArchive,
    TooMuch,
    shown,
)
from remote.payload.data.files.lines import unpacked
from remote.payload.data.files.object_store import ObjectLost

SUFFIXES = (
    ".zip",
    ".tar",
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
)
_PACKINGS = ("gzip", "bzip2", "xz", "zstd")
_JUNK = (".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Item:
    """A document, or (with `refusal`) what is not read. `top` is where the walk may begin to come
    to it. Read it before the next one is asked for."""

    number: int
    top: Start
    name: str
    refusal: str = ""
    is_bad: bool = True
    most: int = 0
    opened: Callable[[], IO[bytes]] | None = None


def is_archive(name: str) -> bool:
    """Whether a name is that of an archive."""
    return name.lower().endswith(SUFFIXES)


def is_document(name: str) -> bool:
    """Whether a name is that of a PDF, or may be."""
    return PurePosixPath(name.lower()).suffix in (".pdf", "")


def is_stream(file: IO[bytes]) -> bool:
    """Whether an archive can be read only from its start on; leaves the file at its start."""
    found = kind_of(file.read(FIRST_BYTES))
    file.seek(0)
    return found in _PACKINGS


@dataclass(frozen=True)
class _Place:
    """Which archive: its name, what stands before its members' names, and of one in another the
    `top` member that it lies in."""

    name: str
    prefix: str = ""
    top: Start | None = None
    depth: int = 0


class Walk:
    """One walk through an archive of `size` bytes. `scratch` is where an archive in an archive may
    lie while it is read, without a name."""

    def __init__(self, limits: Limits, scratch: Path, size: int) -> None:
        self._limits, self._scratch = limits, scratch
        self._budget = Budget(size, limits)
        self._number = 0

    def items(
        self, file: IO[bytes], name: str, start: Start | None = None, before: int = 0
    ) -> Iterator[Item]:
        """What lies in the archive `file`, from `start` on, before which there are so many items.
        Raises ObjectLost, and NotTheArchive."""
        self._number = before
        yield from self._guarded(_Place(name), file, start or Start())

    def _guarded(self, place: "_Place", file: IO[bytes], start: Start) -> Iterator[Item]:
        """The items; where the archive breaks, one that says so, and then no more."""
        last = start
        try:
            for member in self._members(place, file, start):
                last = Start(member.index, member.offset)
                yield from self._of_member(place, member, place.top or last)
        except (ObjectLost, NotTheArchive):
            raise
        except TooMuch as error:
            yield self._item(place.top or last, place.prefix.rstrip("/"), str(error))
        except Exception as error:  # whatever a library throws at a hostile archive
            why = f"the archive cannot be read (on): {str(error) or type(error).__name__}"
            yield self._item(place.top or last, place.prefix.rstrip("/"), why)

    def _members(self, place: "_Place", file: IO[bytes], start: Start) -> Iterator[Member]:
        """The members by what the archive is, whatever it is called."""
        source = io.BufferedReader(Counted(file, lambda _: None), 1 << 16) if place.top else file
        head = source.peek(FIRST_BYTES) if isinstance(source, io.BufferedReader) else b""
        found = kind_of(head[:FIRST_BYTES])
        if head.startswith(b"PK") or (not found and place.name.lower().endswith(".zip")):
            lying = self._lying(source) if place.top else contextlib.nullcontext(source)
            with lying as whole:
                yield from members.of_zip(whole, self._limits, start)
        elif found in _PACKINGS:
            stream = io.BufferedReader(Counted(unpacked(source, found), self._budget.take), 1 << 16)
            yield from members.of_tar(stream, self._limits, start, is_stream=True)
        elif found == "a tar archive" or (not found and place.name.lower().endswith(".tar")):
            yield from members.of_tar(source, self._limits, start, is_stream=bool(place.top))
        else:
            raise ValueError(f"it is {found or 'no archive'}")

    def _lying(self, stream: IO[bytes]) -> IO[bytes]:
        """A stream laid on the disk, under no name."""
        file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - the caller closes it
        try:
            left = self._limits.nested_bytes
            while content := stream.read(1 << 20):
                left -= len(content)
                self._budget.take(len(content))
                if left < 0:
                    raise TooMuch(f"has more than {self._limits.nested_bytes:,} bytes")
                _written(file, content)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _of_member(self, place: "_Place", member: Member, top: Start) -> Iterator[Item]:
        name = place.prefix + shown(member.name)
        last = PurePosixPath(name).name
        if last in _JUNK or last.startswith("._") or "__MACOSX" in name.split("/"):
            yield self._item(top, name, "is no document", is_bad=False)
        elif member.refusal or member.opened is None:
            yield self._item(top, name, member.refusal)
        elif is_archive(name):
            yield from self._nested(_Place(name, f"{name}/", top, place.depth + 1), member.opened)
        elif not is_document(name):
            yield self._item(top, name, "is no PDF", is_bad=False)
        elif member.size > self._limits.document_bytes:
            yield self._item(top, name, f"too large: {member.size:,} bytes")
        elif member.size > member.most:
            yield self._item(top, name, f"a bomb: it would become {member.size:,} bytes")
        else:
            most = min(member.most, self._limits.document_bytes)
            yield self._item(top, name, most=most, opened=member.opened)

    def _nested(self, place: "_Place", opened: Callable[[], IO[bytes]]) -> Iterator[Item]:
        top = place.top or Start()
        if place.depth > self._limits.depth:
            yield self._item(top, place.name, f"lies more than {self._limits.depth} archives deep")
            return
        try:
            stream = opened()
        except ObjectLost:
            raise
        except Exception as error:
            yield self._item(top, place.name, f"the archive cannot be read: {error}")
            return
        with stream:
            yield from self._guarded(place, stream, Start())

    def _item(
        self,
        top: Start,
        name: str,
        refusal: str = "",
        is_bad: bool = True,
        most: int = 0,
        opened: Callable[[], IO[bytes]] | None = None,
    ) -> Item:
        self._number += 1
        return Item(self._number - 1, top, name, refusal, is_bad, most, opened)


def copied(item: Item, to: IO[bytes]) -> None:
    """The content of a document, written to a file. Raises TooMuch, and whatever a broken archive
    makes its library throw."""
    if item.opened is None:
        raise ValueError(item.refusal)
    left = item.most
    with item.opened() as stream:
        while content := stream.read(1 << 20):
            left -= len(content)
            if left < 0:
                raise TooMuch(f"a bomb: it becomes more than {item.most:,} bytes")
            _written(to, content)


def _written(file: IO[bytes], content: bytes) -> None:
    try:
        file.write(content)
    except OSError as error:
        raise NotTheArchive(f"no room to unpack to: {error}") from None
