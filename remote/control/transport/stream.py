"""Many contents as one stream of blocks, deflated where that pays. The other side is `remote/payload/receive.py`."""

import zlib
from collections.abc import Iterable, Iterator

BLOCK_BYTES = 256 * 1024
_PROBE_BYTES = 16 * 1024
_LEVEL = 6
_DEFLATED = 1 << 31
_WORTH_IT = 0.95

END = bytes(4)
"""A block of length 0: nothing more comes."""


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, joined, in blocks of at most BLOCK_BYTES, each ready for the wire; END last."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) >= BLOCK_BYTES:
            yield _block(bytes(rest[:BLOCK_BYTES]))
            del rest[:BLOCK_BYTES]
    if rest:
        yield _block(bytes(rest))
    yield END


def _block(content: bytes) -> bytes:
    # Weights and archives do not shrink: a look at the beginning saves the time to find that out.
    if _shrinks(content[:_PROBE_BYTES], 1):
        deflated = zlib.compress(content, _LEVEL)
        if len(deflated) < len(content) * _WORTH_IT:
            return (_DEFLATED | len(deflated)).to_bytes(4, "big") + deflated
    return len(content).to_bytes(4, "big") + content


def _shrinks(content: bytes, level: int) -> bool:
    return len(zlib.compress(content, level)) < len(content) * _WORTH_IT
