"""The tokens that llama.cpp will make of a text, from tokenizer.model alone: a wrong tokenizer is
found before gigabytes are merged."""

import re
from collections.abc import Mapping
from pathlib import Path

from remote.payload.tokenizer_model import CONTROL, UNKNOWN, USER_DEFINED, read_pieces


class SentencePieceTokens:
    """Tokenises as llama.cpp does with `add_prefix_space: false`: special tokens first, and what
    lies between them by SentencePiece.

    `added` are the tokens that the tokenizer has beside those of the model. Raises ValueError when
    the model is none.
    """

    def __init__(self, model: Path, added: Mapping[str, int]) -> None:
        from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

        special = {
            piece.text: index
            for index, piece in enumerate(read_pieces(model))
            if piece.type in (CONTROL, UNKNOWN, USER_DEFINED)
        }
        self._special = {**special, **added}
        longest_first = sorted(filter(None, self._special), key=len, reverse=True)
        self._between = (
            re.compile(f"({'|'.join(map(re.escape, longest_first))})")
            if longest_first
            else re.compile(r"(?!)()")
        )
        read = sentencepiece_model_pb2.ModelProto()
        read.ParseFromString(model.read_bytes())
        # llama.cpp looks at none of these; it only writes ▁ for a space.
        normalizer = read.normalizer_spec
        normalizer.name, normalizer.precompiled_charsmap = "identity", b""
        normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
        self._processor = SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(read.SerializeToString())

    def of(self, text: str) -> list[int]:
        """The token ids of a rendered prompt."""
        ids: list[int] = []
        for part in filter(None, self._between.split(text)):
            ids += (
                [self._special[part]]
                if part in self._special
                else self._processor.EncodeAsIds(part)
            )
        return ids
