"""tokenizer.model: read without a library, and held against tokenizer.json and config.json."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.payload.tokenizer_model import check_folder, read_pieces
from tests.tokenizer_files import BYTE, NORMAL, sentencepiece, tokenizer_json, words

WORDS = words(40)
MODEL, JSON = sentencepiece(WORDS), tokenizer_json(WORDS)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:37f00374\nsize 587583\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(MODEL)
    (tmp_path / "tokenizer.json").write_bytes(JSON)
    return tmp_path


def test_pieces_are_read(folder):
    pieces = read_pieces(folder / "tokenizer.model")
    assert [(piece.text, piece.score, piece.type) for piece in pieces] == WORDS
    check_folder(folder, len(WORDS))


def test_either_file_alone_is_held_against_what_there_is(folder):
    (folder / "tokenizer.json").unlink()
    check_folder(folder, len(WORDS))
    (folder / "tokenizer.model").unlink()
    check_folder(folder, len(WORDS))


def test_added_tokens_beside_the_model_are_no_fault(folder):
    check_folder(folder, len(WORDS) + 2)


SHIFTED = [*WORDS[:3], ("[INST]", 0.0, 3), *WORDS[3:-1]]
FLAT = [(text, -1000.0, kind) for text, _, kind in WORDS]


@pytest.mark.parametrize(
    ("name", "content", "vocab_size", "says"),
    [
        (
            "tokenizer.model",
            POINTER,
            40,
            "tokenizer.model: it is a Git LFS pointer, not a SentencePiece model",
        ),
        ("tokenizer.model", b"<!doctype html><html>", 40, "tokenizer.model: it is an HTML page"),
        ("tokenizer.model", b"\x1f\x8b\x08", 40, "gzip"),
        ("tokenizer.model", b"", 40, "it is empty"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", 40, "no SentencePiece model"),
        ("tokenizer.model", MODEL[: len(MODEL) // 2], 40, "damaged"),
        ("tokenizer.model", sentencepiece(FLAT), 40, "the same score"),
        (
            "tokenizer.model",
            sentencepiece(SHIFTED),
            40,
            "of another tokenizer than tokenizer.json (36 of 36",
        ),
        ("tokenizer.model", sentencepiece(words(41)), 40, "it has 41 pieces, the model 40"),
        ("tokenizer.json", POINTER, 40, "tokenizer.json: it is a Git LFS pointer"),
        ("tokenizer.json", b"{", 40, "tokenizer.json: "),
        ("tokenizer.json", b"[" * 50_000, 40, "tokenizer.json: "),
        ("tokenizer.json", b"{}", 40, "holds no vocabulary"),
        ("tokenizer.json", b'{"model": {"vocab": 7}}', 40, "holds no vocabulary"),
    ],
)
def test_what_is_wrong_is_said_of_the_file_that_it_is_wrong_with(
    folder, name, content, vocab_size, says
):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        check_folder(folder, vocab_size)
    assert says in str(caught.value) and str(caught.value).isprintable()


def test_too_few_pieces_are_found_out_where_no_tokenizer_json_tells_of_more(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="40 pieces, the model 99"):
        check_folder(folder, 99)


def put_in(at, raw):
    return MODEL[:at] + raw + MODEL[at:]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None
)
@given(
    st.binary(max_size=200) | st.builds(put_in, st.integers(0, len(MODEL)), st.binary(max_size=9))
)
def test_any_bytes_are_pieces_or_a_value_error(tmp_path, raw):
    (tmp_path / "tokenizer.model").write_bytes(raw)
    with contextlib.suppress(ValueError):
        assert all(
            isinstance(piece.text, str) for piece in read_pieces(tmp_path / "tokenizer.model")
        )


def test_bytes_are_ordinary_pieces(tmp_path):
    pieces = [*WORDS, *((f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256))]
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece(pieces))
    (tmp_path / "tokenizer.json").write_bytes(
        tokenizer_json(pieces[:3] + pieces[40:] + pieces[3:40])
    )
    assert sum(piece.type == NORMAL for piece in read_pieces(tmp_path / "tokenizer.model")) == 37
    with pytest.raises(ValueError, match="293 of 293"):
        check_folder(tmp_path, None)
