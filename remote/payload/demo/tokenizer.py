"""Mistral's v3 tokenizer as a Hugging Face tokenizer, made from the SentencePiece model that
mistral-common ships.

`LlamaTokenizer.from_pretrained` on a bare `tokenizer.model` orders the merges by id, which is wrong
on runs of spaces; here the merges are ordered by the scores of the model, as SentencePiece applies
them.
"""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from remote.contract.artifacts.chat_templates import MISTRAL_V3
from remote.payload.tokenizer_model import CONTROL, UNKNOWN, USER_DEFINED, Piece, read_pieces

SENTENCEPIECE = "mistral_instruct_tokenizer_240323.model.v3"
"""The file in mistral-common that Mistral-7B-v0.3 ships as its tokenizer.model."""


def sentencepiece_file() -> Path:
    """Where mistral-common keeps the model."""
    return Path(str(files("mistral_common") / "data" / SENTENCEPIECE))


def build() -> Any:
    """The tokenizer, equal to mistral-common's on text and chats; pads with `<unk>`, so that EOS is
    learned."""
    from transformers import AddedToken, LlamaTokenizer

    pieces = read_pieces(sentencepiece_file())
    vocabulary = {piece.text: index for index, piece in enumerate(pieces)}
    tokenizer = LlamaTokenizer(
        vocab=vocabulary,
        merges=_merges(pieces, vocabulary),
        add_bos_token=True,
        legacy=False,
        add_prefix_space=False,
        pad_token="<unk>",  # noqa: S106
        additional_special_tokens=[
            piece.text
            for piece in pieces
            if piece.type == CONTROL and piece.text not in ("<s>", "</s>")
        ],
    )
    # SentencePiece never splits these, wherever a text spells them.
    whole = [
        AddedToken(piece.text, normalized=False, special=False)
        for piece in pieces
        if piece.type == USER_DEFINED
    ]
    tokenizer.add_tokens(whole)
    tokenizer.chat_template = MISTRAL_V3
    return tokenizer


def save(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer, with the SentencePiece model beside it, which converters read and
    transformers leaves out."""
    tokenizer.save_pretrained(folder)
    shutil.copyfile(sentencepiece_file(), folder / "tokenizer.model")


def _merges(pieces: list[Piece], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    # Byte-pair encoding wants pairs; SentencePiece has only the merged pieces with scores. Every
    # split of a piece into two pieces is a merge, tried best score first. SentencePiece takes the
    # leftmost of equals, here all runs of spaces: a run grows from the left, so the split whose
    # left piece is longest is the one that it would take.
    ranked = []
    for piece in pieces:
        if piece.type in (CONTROL, UNKNOWN, USER_DEFINED):
            continue
        splits = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        ranked += [(-piece.score, -len(left), -len(right), left, right) for left, right in known]
    return [(left, right) for *_, left, right in sorted(ranked)]
