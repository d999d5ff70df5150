"""The files of a small tokenizer, written without a library: tokenizer.model in SentencePiece's
format, and its tokenizer.json."""

import json
import struct

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def words(count):
    """`count` pieces: unknown, begin, end, and letters with falling scores."""
    special = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    return [
        *special,
        *(
            (chr(ord("▁") + number), -float(number), NORMAL)
            for number in range(count - len(special))
        ),
    ]


def sentencepiece(pieces):
    """The bytes of tokenizer.model with these pieces: text, score, type."""
    return b"".join(_field(1, _piece(*piece)) for piece in pieces) + _field(
        2, b"\x18\x02"
    )  # trainer_spec.model_type: BPE


def tokenizer_json(pieces):
    """tokenizer.json with the same vocabulary."""
    vocabulary = {text: index for index, (text, _, _) in enumerate(pieces)}
    added = [
        {"id": vocabulary[text], "content": text, "special": True}
        for text, _, kind in pieces
        if kind == CONTROL
    ]
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": added,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        }
    ).encode()


def _piece(text, score, kind):
    return (
        _field(1, text.encode())
        + b"\x15"
        + struct.pack("<f", score)
        + (b"" if kind == NORMAL else b"\x18" + bytes([kind]))
    )


def _field(number, raw):
    return bytes([number << 3 | 2]) + _varint(len(raw)) + raw


def _varint(value):
    low = []
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*low, value])
