"""The GGUF reader: what it tells, and what it refuses."""

import struct
from pathlib import Path

import pytest
import small_gguf as small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.control.errors import ArtifactCorrupt
from remote.control.serving.gguf import read_gguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small.write_small_gguf(
        tmp_path_factory.mktemp("gguf") / "whole.gguf", small.HELLO
    ).read_bytes()


def test_what_it_tells(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(whole)
    gguf = read_gguf(tmp_path / "a.gguf")
    assert (gguf.architecture, gguf.quantization, gguf.context_length, gguf.tensors) == (
        "llama",
        "F16",
        512,
        12,
    )
    assert (gguf.special("bos"), gguf.special("eos"), gguf.special("pad")) == ("<s>", "</s>", "")
    assert (
        gguf.chat_template == small.TEMPLATE
        and gguf.metadata["tokenizer.ggml.tokens"][3] == "[INST]"
    )
    assert gguf.parameters == 2 * 331 * 352 + 3 * 352 + 7 * 352 * 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: b"", "empty"),
        (lambda content: b"GGML" + content[4:], "not with GGUF"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (lambda content: content[:4] + struct.pack("<I", 9) + content[8:], "version 9"),
        (lambda content: content[:8] + struct.pack("<Q", 0) + content[16:], "0 tensors"),
        (lambda content: content[:8] + struct.pack("<Q", 1 << 60) + content[16:], "tensors"),
        (lambda content: content[:300], "breaks off"),
        (lambda content: content[:-1], "cut off"),
        (lambda content: content[:24] + struct.pack("<Q", 1 << 60) + content[32:], "breaks off"),
    ],
)
def test_what_it_refuses(tmp_path: Path, whole: bytes, change: object, words: str) -> None:
    (tmp_path / "a.gguf").write_bytes(change(whole))  # type: ignore[operator]
    with pytest.raises(ArtifactCorrupt) as caught:
        read_gguf(tmp_path / "a.gguf")
    assert (
        words in caught.value.why
        and "a.gguf" in caught.value.where
        and "./inv" in caught.value.remedy
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
@given(at=st.integers(0, 9000), value=st.integers(0, 255))
def test_one_wrong_byte_is_never_a_traceback(
    tmp_path: Path, whole: bytes, at: int, value: int
) -> None:
    (tmp_path / "a.gguf").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
    try:
        read_gguf(tmp_path / "a.gguf")
    except ArtifactCorrupt as error:
        assert error.why
