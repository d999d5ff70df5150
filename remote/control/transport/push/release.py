"""A release, and getting it onto a box: contract, payload, and the files of the project that a run
needs, under one digest."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from remote.contract.files import regular_files
from remote.control.errors import BoxUnreachable, LaptopError
from remote.control.progress import Bytes, no_bytes
from remote.control.project import CODE
from remote.control.retry import retry_while_unreachable
from remote.control.transport.base import Transport
from remote.control.transport.push.push import Deployed, Lacking, Place, push
from remote.control.transport.push.selection import (
    NOTHING_MORE,
    Member,
    Push,
    Selection,
    readable,
    select,
)

REQUIREMENTS = "requirements.txt"
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Release:
    """A set of files under one digest: of names, contents, executable bits and links; not of times,
    owners, other modes or compression."""

    members: tuple[Member, ...]
    warnings: tuple[str, ...] = ()

    @cached_property
    def entries(self) -> list[list[Any]]:
        """All members, by name."""
        return [member.entry for member in self.members]

    @cached_property
    def digest(self) -> str:
        """The release's name."""
        return hashlib.sha256(json.dumps(self.entries, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def contents(self) -> list[Member]:
        """One member for each different content and mode, in order: a content's number is its place
        here."""
        found: dict[tuple[str, bool], Member] = {}
        for member in self.members:
            if not member.target:
                found.setdefault((member.sha256, member.executable), member)
        return list(found.values())

    def tar(self, lacking: Lacking) -> Iterator[bytes]:
        """A tar archive of these contents, each under its number and from some byte on.

        Raises LaptopError for one that is not what it was.
        """
        for number, start in lacking:
            content = self.contents[number]
            header = tarfile.TarInfo(str(number))
            header.size = content.size - start
            yield header.tobuf()
            yield from _unchanged(content, start)
            yield bytes(-header.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def build_release(files: Iterable[Path], code: Path = CODE, push: Push = NOTHING_MORE) -> Release:
    """The release of `code`, `files` (folders with what git keeps of them) and what `push`
    includes: see `selection.select`.

    Raises ConfigError for what cannot go, LaptopError for what cannot be read.
    """
    return release_of(select(files, push, code))


def release_of(selection: Selection) -> Release:
    """The release of what was selected."""
    return Release(tuple(map(_read, selection.goes)), selection.warnings)


def deploy(
    transport: Transport,
    box_root: str,
    release: Release,
    on_line: Callable[[str], None],
    shared: str | None = None,
    requirements: str = REQUIREMENTS,
    progress: Bytes = no_bytes,
    again: Callable[[], Transport] | None = None,
) -> Deployed:
    """Make `release` the current one on the box, with its Python environment. Idempotent; one round
    trip when nothing changed.

    `shared`: where `<root>/shared` points to instead of being a folder. A lost connection is made
    anew, and nothing that arrived is sent again; `again` is asked before each new try for the way
    to go, and raises where it is in vain. Raises PreflightFailed (no Python), JobFailed (disk full,
    an environment that cannot be made), BoxUnreachable, LaptopError (a file that changes while it
    is sent).
    """
    before, arrived, has_answered = transport.bytes_sent, set[int](), transport.round_trips > 0
    place, ways, tries = Place(box_root, shared or "", requirements), [transport], count()

    def attempt() -> Deployed:
        if next(tries) and again is not None and (way := again()) is not ways[-1]:
            ways.append(way)
        try:
            return push(ways[-1], place, release, on_line, progress, arrived.add)
        except BoxUnreachable as error:
            if has_answered or arrived:
                raise
            raise _NeverAnswered(error) from None

    kept = "what arrived is kept, and not sent again; the release that was current still is"
    try:
        deployed = retry_while_unreachable(
            attempt, progress=lambda: len(arrived), notice=on_line, kept=kept
        )
    except _NeverAnswered as never:
        raise never.error from None
    return replace(deployed, sent_bytes=sum(way.bytes_sent for way in ways) - before)


class _NeverAnswered(Exception):
    """A box that did not answer the first time either: nothing was lost that is worth waiting
    for."""

    def __init__(self, error: BoxUnreachable) -> None:
        super().__init__()
        self.error = error


def _read(member: Member) -> Member:
    """The member with the SHA-256 and the size that it has by now."""
    if member.target:
        return member
    sha, size = hashlib.sha256(), 0
    for piece in _pieces(member.source):
        sha.update(piece)
        size += len(piece)
    return replace(member, sha256=sha.hexdigest(), size=size)


def _pieces(path: Path) -> Iterator[bytes]:
    """A file's content. Raises LaptopError where it cannot be read, or changes meanwhile."""
    with readable(path, lambda: regular_files.opened(path)) as file:
        before, size = os.fstat(file.fileno()), 0
        while size <= before.st_size and (piece := readable(path, lambda: file.read(_PIECE_BYTES))):
            size += len(piece)  # one that grows as fast as it is read has no end
            yield piece
        after = os.fstat(file.fileno())
    if (size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changes(path)


def _unchanged(member: Member, start: int) -> Iterator[bytes]:
    """A member's content from some byte on. Raises LaptopError where it is not what it was."""
    sha, at = hashlib.sha256(), 0
    for piece in _pieces(member.source):
        sha.update(piece)
        at += len(piece)
        if at > member.size:
            break
        if at > start:
            yield piece[max(0, start - at + len(piece)) :]
    if sha.hexdigest() != member.sha256:
        raise _changes(member.source)


def _changes(path: Path) -> LaptopError:
    return LaptopError(
        f"{path} changes while it is read",
        where="this laptop",
        why="what the box would get is neither the old nor the new file",
        remedy="wait until nothing writes to it, then run the same command again",
        kept="the release that was current on the box still is",
    )
