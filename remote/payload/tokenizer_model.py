"""The SentencePiece model of a tokenizer (`tokenizer.model`), read and held against the base's
other files. Standard library only.

Training reads tokenizer.json, llama.cpp's converter tokenizer.model. Where the two differ the GGUF
answers nonsense, and nothing but the comparison at the end of an export would say so. The format is
protobuf: https://github.com/google/sentencepiece, sentencepiece_model.proto.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.files.file_kind import kind_of

NAME = "tokenizer.model"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""SentencePiece's piece types."""

MAX_BYTES = 64 << 20
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_PIECES, _TEXT, _SCORE, _TYPE = 1, 1, 2, 3
_MOST_DIFFERING = 0.01
"""Share of pieces that may stand elsewhere in tokenizer.json: fine-tunes rename some that were
reserved."""


@dataclass(frozen=True)
class Piece:
    """One piece of the vocabulary; its place in the list is its id."""

    text: str
    score: float
    type: int


def read_pieces(path: Path) -> list[Piece]:
    """The vocabulary in a file. Raises ValueError, saying what the file is instead, and OSError
    where it cannot be read."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if kind := kind_of(raw):
        raise ValueError(f"it is {kind}, not a SentencePiece model")
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        pieces = [_piece(value) for number, value in _fields(memoryview(raw)) if number == _PIECES]
    except (ValueError, TypeError, IndexError, struct.error):
        raise ValueError("it is damaged, or no SentencePiece model") from None
    if not pieces:
        raise ValueError(
            "it is empty" if not raw else "it holds no pieces, so it is no SentencePiece model"
        )
    return pieces


def check_pieces(
    pieces: list[Piece], vocab_size: int | None, vocabulary: Mapping[str, int] | None
) -> None:
    """Raises ValueError unless the pieces have scores, fit the model's `vocab_size`, and stand
    where tokenizer.json's `vocabulary` says."""
    if len({piece.score for piece in pieces if piece.type == NORMAL}) < 2:
        raise ValueError("its pieces all have the same score, so that the order of merges is lost")
    if vocab_size is not None and (
        len(pieces) > vocab_size or (vocabulary is None and len(pieces) < vocab_size)
    ):
        raise ValueError(
            f"it has {len(pieces):,} pieces, the model {vocab_size:,} (`vocab_size` in"
            " config.json): it is of another model"
        )
    if vocabulary is None:
        return
    ordinary = [
        (index, piece.text) for index, piece in enumerate(pieces) if piece.type in (NORMAL, BYTE)
    ]
    differing = [(index, text) for index, text in ordinary if vocabulary.get(text) != index]
    if len(differing) > _MOST_DIFFERING * len(ordinary):
        index, text = differing[0]
        there = f"at {vocabulary[text]}" if text in vocabulary else "absent"
        why = (
            f"{len(differing):,} of {len(ordinary):,} pieces, such as {text!r}: {index} here,"
            f" {there} in tokenizer.json"
        )
        raise ValueError(f"it is of another tokenizer than tokenizer.json ({why})")


def vocabulary_of(tokenizer_json: Path) -> dict[str, int]:
    """Token -> id, with the added ones. Raises ValueError, saying what the file is instead, and
    OSError where it cannot be read."""
    with tokenizer_json.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if (kind := kind_of(raw)) and not raw.lstrip().startswith(b"{"):
        raise ValueError(f"it is {kind}")
    whole = untrusted_json.loads_object(raw, max_bytes=MAX_BYTES)
    model, added = whole.get("model"), whole.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # Unigram: pairs of piece and score
        vocabulary = {
            str(pair[0]): index
            for index, pair in enumerate(vocabulary)
            if isinstance(pair, list) and pair
        }
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        raise ValueError("it holds no vocabulary")
    return {
        **vocabulary,
        **{
            str(token.get("content")): token.get("id") for token in added if isinstance(token, dict)
        },
    }


def check_folder(folder: Path, vocab_size: int | None, model: Path | None = None) -> None:
    """Hold `model` (else the folder's own tokenizer.model) against the folder's tokenizer.json,
    where each is there.

    Raises ValueError that names the file and says what is wrong with it.
    """
    vocabulary = _named(folder / "tokenizer.json", vocabulary_of)
    pieces = _named(model or folder / NAME, read_pieces)
    if pieces is not None:
        try:
            check_pieces(pieces, vocab_size, vocabulary)
        except ValueError as error:
            raise ValueError(f"{(model or folder / NAME).name}: {error}") from None


def _named(path: Path, read: Any) -> Any:
    try:
        return read(path) if path.is_file() else None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def _piece(raw: Any) -> Piece:
    found = dict(_fields(raw))
    (score,) = struct.unpack("<f", found.get(_SCORE, bytes(4)))
    return Piece(bytes(found.get(_TEXT, b"")).decode(), score, int(found.get(_TYPE, NORMAL)))


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message: a number for a varint, bytes for the
    others."""
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(view, at)
            yield key >> 3, value
            continue
        if wire == _LENGTH:
            size, at = _varint(view, at)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if size < 0 or at + size > len(view):
            raise ValueError("a field runs past the end")
        yield key >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
