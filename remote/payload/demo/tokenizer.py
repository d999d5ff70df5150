"""Mistral's v3 tokenizer as a Hugging Face tokenizer, made from the SentencePiece model that mistral-common ships.

`LlamaTokenizer.from_pretrained` on a bare `tokenizer.model` orders the merges by id, which is wrong on runs of spaces;
here the merges are ordered by the scores of the model, as SentencePiece applies them.
"""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from remote.contract.chat_templates import MISTRAL_V3

SENTENCEPIECE = "mistral_instruct_tokenizer_240323.model.v3"
"""The file in mistral-common that Mistral-7B-v0.3 ships as its tokenizer.model."""

CONTROL, UNKNOWN = 3, 2  # SentencePiece's piece types


def sentencepiece_file() -> Path:
    """Where mistral-common keeps the model."""
    return Path(str(files("mistral_common") / "data" / SENTENCEPIECE))


def build() -> Any:
    """The tokenizer, equal to mistral-common's on text and chats; pads with `<unk>`, so that EOS is learned."""
    from transformers import LlamaTokenizer

    pieces = _pieces()
    vocabulary = {piece.piece: index for index, piece in enumerate(pieces)}
    tokenizer = LlamaTokenizer(
        vocab=vocabulary,
        merges=_merges(pieces, vocabulary),
        add_bos_token=True,
        legacy=False,
        add_prefix_space=False,
        pad_token="<unk>",  # noqa: S106
        additional_special_tokens=[piece.piece for piece in pieces if piece.type == CONTROL and piece.piece not in ("<s>", "</s>")],
    )
    tokenizer.chat_template = MISTRAL_V3
    return tokenizer


def save(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer, with the SentencePiece model beside it, which converters read and transformers leaves out."""
    tokenizer.save_pretrained(folder)
    shutil.copyfile(sentencepiece_file(), folder / "tokenizer.model")


def _pieces() -> Any:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(sentencepiece_file().read_bytes())
    return model.pieces


def _merges(pieces: Any, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    # Byte-pair encoding wants pairs; SentencePiece has only the merged pieces with scores. Every split of a piece into two
    # pieces is a merge, tried best score first.
    ranked = []
    for piece in pieces:
        if piece.type in (CONTROL, UNKNOWN):
            continue
        splits = ((piece.piece[:cut], piece.piece[cut:]) for cut in range(1, len(piece.piece)))
        known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        ranked += [(-piece.score, vocabulary[left], vocabulary[right], left, right) for left, right in known]
    return [(left, right) for *_, left, right in sorted(ranked)]
