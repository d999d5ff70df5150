"""Near duplicates: pairs of texts that share most of their shingles (runs of words).

MinHash signatures (rensa) are parted into bands; texts that agree in a whole band are candidates,
and the true Jaccard index of their shingles decides. A pair above the limit is missed with a
chance of at most 1 in 1,000; none below it is ever called one. What is kept of a text lies in two
files, not in memory: 512 bytes of signature, and four bytes a shingle.
"""

import hashlib
import itertools
import os
import re
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PERMUTATIONS = 128
_MISSED = 1e-3
_CROWD = 16
"""Of texts that agree in a band each is held against the first and so many before it: of thousands
that share a template all pairs would take days."""
_BATCH = 256
_WORD = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\\W_]+")
_ASCII_WORD = re.compile("[a-z0-9]+")  # the same there, and quicker
_WORDS_KEPT = 200_000


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; each Chinese and Japanese character
    is one. What has none is taken as it is."""
    pattern = _ASCII_WORD if text.isascii() else _WORD
    return pattern.findall(text.lower()) or [text.strip()]


class _Hashes(dict[str, int]):
    """64 bits a word, the same each time."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _WORDS_KEPT:
            self.clear()
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
        self[word] = int.from_bytes(digest, "little")
        return self[word]


_HASHES = _Hashes()


def shingles_of(text: str, size: int) -> Any:
    """The runs of `size` words as an array of numbers of 32 bits, in order, without repetition. Of
    fewer words the one run they are."""
    import numpy

    words = numpy.array(list(map(_HASHES.__getitem__, words_of(text))), dtype=numpy.uint64)
    size = min(size, len(words))
    runs = numpy.zeros(len(words) - size + 1, dtype=numpy.uint64)
    for at in range(size):
        runs = mixed(runs + words[at : at + len(runs)])
    return numpy.unique((runs >> 32).astype(numpy.uint32))


def mixed(numbers: Any) -> Any:
    """Numbers of 64 bits well mixed (splitmix64)."""
    import numpy

    numbers = numbers + numpy.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> 30)) * numpy.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> 27)) * numpy.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> 31)


def jaccard(one: Any, other: Any) -> float:
    """What two arrays of shingles share among all of both: 0 to 1."""
    import numpy

    shared = len(numpy.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def bands_for(near: float) -> tuple[int, int]:
    """How many bands of how many signature slots: the longest bands that miss a pair of exactly
    that likeness with a chance of at most 1 in 1,000."""
    for rows in range(PERMUTATIONS // 2, 0, -1):
        bands = PERMUTATIONS // rows
        if (1 - near**rows) ** bands <= _MISSED:
            return bands, rows
    return PERMUTATIONS, 1


class Index:
    """Texts by number, in the order they were added. Its files lie in `folder` and have no name:
    they go with the process."""

    def __init__(self, folder: Path, near: float, size: int) -> None:
        self.near, self._size = near, size
        folder.mkdir(parents=True, exist_ok=True)
        self._signatures = _nameless(folder / "signatures")
        self._shingles = _nameless(folder / "shingles")
        self.close = weakref.finalize(self, _close, self._signatures, self._shingles)
        self._ends = array("Q", [0])
        self._waiting: list[Any] = []

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, text: str) -> None:
        """Take a text in."""
        found = shingles_of(text, self._size)
        self._shingles.write(found.tobytes())
        self._ends.append(self._ends[-1] + len(found))
        self._waiting.append(found)
        if len(self._waiting) >= _BATCH:
            self._sign()

    def shingles(self, number: int) -> Any:
        """Those of a text, once all are in."""
        import numpy

        start, end = self._ends[number], self._ends[number + 1]
        content = os.pread(self._shingles.fileno(), 4 * (end - start), 4 * start)
        return numpy.frombuffer(content, dtype=numpy.uint32)

    def likeness_of(self, shingles: Any, number: int) -> float:
        """The true Jaccard index of these shingles and a text's."""
        return jaccard(shingles, self.shingles(number))

    def candidates(self) -> Iterator[tuple[int, list[int]]]:
        """Each text that agrees with earlier ones in a band, in order, with those: the ones that
        agree most first."""
        import numpy

        self._sign()
        self._shingles.flush()
        count = len(self)
        if not count:
            return
        matrix = numpy.memmap(
            self._signatures, dtype=numpy.uint32, mode="r", shape=(count, PERMUTATIONS)
        )
        pairs = _banded(numpy, matrix, *bands_for(self.near))
        later = pairs & 0xFFFFFFFF  # sorted by the later one below
        order = numpy.lexsort((pairs >> 32, later))
        pairs, later = pairs[order], later[order]
        borders = numpy.flatnonzero(numpy.diff(later, prepend=count, append=count)).tolist()
        for at, end in itertools.pairwise(borders):
            yield int(later[at]), self._likeliest(numpy, matrix, later[at], pairs[at:end] >> 32)

    def _likeliest(self, numpy: Any, matrix: Any, number: Any, earlier: Any) -> list[int]:
        """Those whose signature does not speak against it (five standard deviations), likeliest
        first."""
        guesses = (matrix[earlier] == matrix[number]).mean(axis=1)
        slack = 5 * (self.near * (1 - self.near) / PERMUTATIONS) ** 0.5
        order = numpy.argsort(-guesses, kind="stable")
        return [int(earlier[at]) for at in order if guesses[at] >= self.near - slack]

    def _sign(self) -> None:
        """Write the signatures of what waits."""
        if not self._waiting:
            return
        import numpy
        from rensa import RMinHash

        tokens = mixed(numpy.concatenate(self._waiting).astype(numpy.uint64))
        lengths = [len(found) for found in self._waiting]
        offsets = numpy.cumsum([0, *lengths], dtype=numpy.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(tokens, offsets, PERMUTATIONS, 42)
        numpy.asarray(matrix.to_rows(), dtype=numpy.uint32).tofile(self._signatures)
        self._signatures.flush()
        self._waiting.clear()


def _banded(numpy: Any, matrix: Any, bands: int, rows: int) -> Any:
    """The pairs that agree in a band, as earlier << 32 | later, without repetition."""
    found = numpy.empty(0, dtype=numpy.uint64)
    for band in range(bands):
        part = numpy.ascontiguousarray(matrix[:, band * rows : (band + 1) * rows])
        pairs = _in_one_band(numpy, _marks(numpy, part))
        found = numpy.union1d(found, pairs)
    return found


def _marks(numpy: Any, part: Any) -> Any:
    """64 bits for each row of a band: equal where the band is. Those that are equal by chance are
    candidates too many, nothing worse."""
    marks = numpy.zeros(len(part), dtype=numpy.uint64)
    for column in part.T:
        marks = mixed(marks + column)
    return marks


def _in_one_band(numpy: Any, marks: Any) -> Any:
    """The pairs of texts with one mark: each with the first and with those just before it."""
    order = numpy.argsort(marks, kind="stable")
    ranked = marks[order]
    is_new = numpy.r_[True, ranked[1:] != ranked[:-1]]
    firsts = numpy.maximum.accumulate(numpy.where(is_new, numpy.arange(len(order)), 0))
    found = [_pairs(numpy, order[firsts[~is_new]], order[~is_new])]
    for back in range(1, min(_CROWD, len(order) - 1) + 1):
        is_pair = ranked[back:] == ranked[:-back]
        if not is_pair.any():
            break
        found.append(_pairs(numpy, order[:-back][is_pair], order[back:][is_pair]))
    return numpy.unique(numpy.concatenate(found))


def _pairs(numpy: Any, earlier: Any, later: Any) -> Any:
    return (earlier.astype(numpy.uint64) << numpy.uint64(32)) | later.astype(numpy.uint64)


def _close(*files: IO[bytes]) -> None:
    for file in files:
        file.close()


def _nameless(path: Path) -> IO[bytes]:
    file = path.open("w+b")
    path.unlink()
    return file
