"""The members of one ZIP or tar, in the order they lie in."""

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from remote.payload.data.archive.safety import Limits, allowed, refusal_of_name

_LOCAL_HEADER = 30


@dataclass(frozen=True)
class Start:
    """Where to begin: with the member of this index; `offset` is where a tar that is not packed has
    it."""

    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Member:
    """A file in an archive, or (without `opened`) what may not be read, and `refusal` why. `size`
    is what the archive says, `most` what it may become. Read it before the next one is asked
    for."""

    index: int
    offset: int
    name: str
    size: int = 0
    most: int = 0
    refusal: str = ""
    opened: Callable[[], IO[bytes]] | None = None


def of_zip(file: IO[bytes], limits: Limits, start: Start) -> Iterator[Member]:
    """The members of a ZIP, which can be read anywhere. Raises what zipfile does for one that has
    no whole table of contents."""
    with zipfile.ZipFile(file) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        if len(infos) > limits.members:
            raise ValueError(f"more than {limits.members:,} members")
        overlapping = _overlapping(infos)
        for index, info in enumerate(infos[start.index :], start.index):
            if info.is_dir():
                continue
            why = "overlaps another member: a bomb" if index in overlapping else _refused(info)
            if why:
                yield Member(index, 0, info.filename, refusal=why)
                continue
            yield Member(
                index,
                0,
                info.filename,
                info.file_size,
                allowed(info.compress_size),
                opened=lambda info=info: archive.open(info),  # type: ignore[misc]
            )


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """The indices of members that share bytes with another."""
    found: set[int] = set()
    reaching, end = 0, -1
    for index, info in enumerate(infos):
        if info.header_offset < end:
            found |= {reaching, index}
        reach = info.header_offset + _LOCAL_HEADER + info.compress_size
        if reach > end:
            reaching, end = index, reach
    return found


def _refused(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG):
        return "is no regular file"
    if info.flag_bits & 1:
        return "is encrypted"
    return refusal_of_name(info.orig_filename)


class _Noting(tarfile.TarInfo):
    """Tells the archive how its headers ended, where tarfile takes damage for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> "_Noting":
        """The next header."""
        try:
            return super().fromtarfile(tarfile)
        except Exception as error:
            tarfile.ended_by = type(error).__name__
            raise


def of_tar(file: IO[bytes], limits: Limits, start: Start, is_stream: bool) -> Iterator[Member]:
    """The members of a tar, unpacked already; a stream is read on to where it starts. Raises what
    tarfile and the packing do, and ValueError for one that is cut off."""
    if not is_stream:
        file.seek(start.offset)
    mode = "r|" if is_stream else "r:"
    opened: Any = tarfile.open
    with opened(fileobj=file, mode=mode, tarinfo=_Noting) as archive:
        index = 0 if is_stream else start.index
        while (info := archive.next()) is not None:
            archive.members = []  # or it keeps all of them
            if index >= limits.members:
                raise ValueError(f"more than {limits.members:,} members")
            if index >= start.index and not info.isdir():
                yield _of_info(archive, info, index)
            index += 1
        if archive.ended_by in ("EmptyHeaderError", "TruncatedHeaderError"):
            raise ValueError("it is cut off: its end is missing")
        if archive.ended_by != "EOFHeaderError":
            raise ValueError("what follows is damaged")


def _of_info(archive: tarfile.TarFile, info: tarfile.TarInfo, index: int) -> Member:
    why = refusal_of_name(info.name)
    if info.issym() or info.islnk():
        why = "is a symbolic link" if info.issym() else "is a hard link"
    elif not info.isreg() or info.issparse():
        why = "is sparse: a bomb" if info.issparse() else "is no regular file"
    if why:
        return Member(index, info.offset, info.name, refusal=why)
    return Member(
        index,
        info.offset,
        info.name,
        info.size,
        info.size,
        opened=lambda: cast("IO[bytes]", archive.extractfile(info)),
    )
