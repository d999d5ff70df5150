"""The base model's folder, whole and damaged in every way."""

import json

import pytest

from remote.contract.job.checks import Verdict
from remote.payload.preflight import model
from remote.payload.preflight.request import Request
from tests.tokenizer_files import sentencepiece, tokenizer_json, words

EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


def _safetensors(path, shapes):
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for width in shape:
            size *= width
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(end))


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral", "vocab_size": 8}))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(sentencepiece(words(8)))
    (folder / "tokenizer.json").write_bytes(tokenizer_json(words(8)))
    _safetensors(folder / "model-1.safetensors", {EMBED: [8, 4], NORM: [4]})
    _safetensors(folder / "model-2.safetensors", {HEAD: [8, 4]})
    index = {EMBED: "model-1.safetensors", NORM: "model-1.safetensors", HEAD: "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def _checks(base):
    return {check.name: check for check in model.checks(Request(inputs={"base": str(base)}))}


def test_a_whole_model(base):
    found = _checks(base)
    assert {check.verdict for check in found.values()} == {Verdict.OK}
    assert "2 files, 3 tensors" in found["base model"].measured
    assert model.embedding_rows(base) == 8


def test_no_base_and_no_folder(tmp_path):
    for inputs in ({}, {"base": str(tmp_path / "absent")}):
        (check,) = model.checks(Request(inputs=inputs))
        assert check.verdict is Verdict.FAIL and check.remedy


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model-2.safetensors").unlink(), "model-2.safetensors"),
        (
            lambda folder: (folder / "model-1.safetensors").write_bytes(
                (folder / "model-1.safetensors").read_bytes()[:-1]
            ),
            "bytes",
        ),
        (lambda folder: (folder / "model-1.safetensors").write_bytes(b"\x05"), "header"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), "index"),
        (lambda folder: _safetensors(folder / "model-1.safetensors", {EMBED: [8, 4]}), NORM),
        (
            lambda folder: (folder / "config.json").write_text('{"quantization_config": {}}'),
            "quantised",
        ),
    ],
)
def test_a_damaged_model_fails_and_says_where(base, damage, words):
    damage(base)
    check = _checks(base)["base model"]
    assert check.verdict is Verdict.FAIL and words in check.measured and check.remedy


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:37f0\nsize 587583\n"


@pytest.mark.parametrize(
    ("damage", "verdict", "words"),
    [
        (
            lambda folder: (folder / "tokenizer.json").unlink(),
            Verdict.FAIL,
            "tokenizer_config.json, tokenizer.model",
        ),
        (
            lambda folder: (folder / "tokenizer_config.json").unlink(),
            Verdict.FAIL,
            "tokenizer.json",
        ),
        (lambda folder: (folder / "tokenizer.model").unlink(), Verdict.WARN, "tokenizer.json"),
        (
            lambda folder: (folder / "tokenizer.model").write_bytes(POINTER),
            Verdict.FAIL,
            "tokenizer.model: it is a Git LFS pointer",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_bytes(POINTER),
            Verdict.FAIL,
            "tokenizer.json: it is a Git LFS pointer",
        ),
        (
            lambda folder: (folder / "tokenizer.model").write_bytes(sentencepiece(words(9))),
            Verdict.FAIL,
            "9 pieces, the model 8",
        ),
    ],
)
def test_tokenizer_files_that_are_missing_or_wrong(base, damage, verdict, words):
    damage(base)
    check = _checks(base)["tokenizer files"]
    assert check.verdict is verdict and words in check.measured and check.remedy


def test_shards_that_were_never_fetched_are_named_as_pointers(base):
    (base / "model-1.safetensors").write_bytes(POINTER)
    assert "model-1.safetensors: it is a Git LFS pointer" in _checks(base)["base model"].measured


def test_another_vocabulary_and_another_architecture(base):
    (base / "config.json").write_text('{"model_type": "llama", "vocab_size": 9}')
    found = _checks(base)
    assert (found["embedding"].verdict, found["architecture"].verdict) == (
        Verdict.FAIL,
        Verdict.WARN,
    )
