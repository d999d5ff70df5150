"""What is too much, and what a member may not be called."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

RATIO = 200
"""So many times its packed size a member, or a stream, may become: a PDF packs to a half."""
_FREE_BYTES = 16 << 20
"""What is smaller than this is no bomb, however well it packs."""


@dataclass(frozen=True)
class Limits:
    """Bytes of one document, of an archive in an archive that has to lie on the disk to be read,
    and of all that an archive unpacks to; members of an archive; archives in archives."""

    document_bytes: int = 512 << 20
    nested_bytes: int = 8 << 30
    archive_bytes: int = 4 << 40
    members: int = 1_000_000
    depth: int = 3


LIMITS = Limits()
"""Those that hold."""


class TooMuch(Exception):
    """More comes out than may; says what."""


class NotTheArchive(Exception):
    """The machine's own trouble, such as a full disk: no reason to call an archive damaged."""


class Budget:
    """So many bytes, for all that is unpacked of one archive."""

    def __init__(self, packed: int, limits: Limits) -> None:
        self._allowed = self._left = min(allowed(packed), limits.archive_bytes)

    def take(self, count: int) -> None:
        """Count bytes. Raises TooMuch."""
        self._left -= count
        if self._left < 0:
            raise TooMuch(f"a bomb: it unpacks to more than {self._allowed:,} bytes")


class Counted(io.RawIOBase):
    """A stream whose bytes are counted by `take` as they are read."""

    def __init__(self, stream: IO[bytes], take: Callable[[int], None]) -> None:
        super().__init__()
        self._stream, self._take = stream, take

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        """Some bytes."""
        content = self._stream.read(len(buffer))
        self._take(len(content))
        buffer[: len(content)] = content
        return len(content)


def allowed(packed: int) -> int:
    """The most bytes that so many packed ones may become."""
    return max(_FREE_BYTES, RATIO * packed)


def refusal_of_name(name: str) -> str:
    """Why a member's name is that of an attack; empty where it is not."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        return "its name is an absolute path"
    if ".." in plain.split("/"):
        return "its name climbs out of the archive (zip-slip)"
    if "\0" in name:
        return "its name holds NUL"
    return ""


def shown(name: str) -> str:
    """A member's name as text that can be stored and printed."""
    cleaned = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cleaned)
