"""What an adapter's files say, and what the merge refuses."""

import json
import math
import re
import shlex
import sys

import pytest

from remote.contract.job.jobs import Cause
from remote.payload.fingerprint import entries_of
from remote.payload.gguf import adapter
from remote.payload.gguf.tensor_file import header_bytes
from remote.payload.job import StageFailed

MODULE = "model.layers.0.self_attn.q_proj"
CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def write(folder, config=(), names=None, rank=4):
    folder.mkdir(exist_ok=True)
    (folder / adapter.CONFIG).write_text(json.dumps({**CONFIG, **dict(config)}))
    if names is None:
        names = [
            f"base_model.model.{MODULE}.lora_A.weight",
            f"base_model.model.{MODULE}.lora_B.weight",
        ]
    shapes = {name: ("F32", [rank, 6] if "lora_A" in name else [10, rank]) for name in names}
    (folder / adapter.WEIGHTS).write_bytes(
        header_bytes(shapes) + bytes(sum(4 * a * b for _, (a, b) in shapes.values()))
    )
    return folder


def test_pairs_are_keyed_by_the_base_tensor(tmp_path):
    read = adapter.read_adapter(write(tmp_path / "a"))
    assert set(read.pairs) == {f"{MODULE}.weight"}
    assert read.pairs[f"{MODULE}.weight"].scale == 2.0
    assert read.pairs[f"{MODULE}.weight"].lora_b.endswith("q_proj.lora_B.weight")


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 8 / 2),
        ({"alpha_pattern": {"q_proj": 16}}, 4.0),
        ({"alpha_pattern": {"k_proj": 16}}, 2.0),
        ({"alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 16}}, 2.0),
        ({"alpha_pattern": {r"layers\.\d\.self_attn\.q_proj": 16, "q_proj": 1}}, 4.0),
        ({"alpha_pattern": {"proj": 16}}, 2.0),
        ({"rank_pattern": {"q_proj": 2}, "r": 4}, 4.0),
        ({"rank_pattern": {"q_proj": 2}, "r": 4, "use_rslora": True}, 8 / math.sqrt(2)),
    ],
)
def test_scale_follows_the_patterns(settings, scale):
    assert adapter.scale_of({**CONFIG, **settings}, MODULE) == pytest.approx(scale)


@pytest.mark.parametrize("name", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("key", ["(", "(a+)+", "(q|q)*_proj", ".*.*.*.*x", "(?:.*a){20}"])
def test_a_pattern_that_could_be_searched_for_ever_is_refused(tmp_path, name, key):
    with pytest.raises(StageFailed) as failure:
        adapter.read_adapter(write(tmp_path / "a", {name: {key: 4}}))
    assert "regular expression" in failure.value.why or "repeats" in failure.value.why


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"peft_type": "LOHA"},
        {"lora_bias": True},
        {"init_lora_weights": "pissa_niter_16"},
        {"trainable_token_indices": [1]},
    ],
)
def test_what_is_more_than_a_plain_lora_is_refused_by_name(tmp_path, settings):
    with pytest.raises(StageFailed) as failure:
        adapter.read_adapter(write(tmp_path / "a", settings))
    assert failure.value.cause is Cause.CONFIG
    assert next(iter(settings)) in failure.value.why


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "no tensors"),
        ([f"base_model.model.{MODULE}.lora_A.weight"], "without both factors"),
        ([f"base_model.model.{MODULE}.lora_embedding_A"], "no LoRA factors"),
    ],
)
def test_an_adapter_that_is_not_whole_is_named_so(tmp_path, names, why):
    with pytest.raises(StageFailed) as failure:
        adapter.read_adapter(write(tmp_path / "a", names=names))
    assert failure.value.cause in (Cause.ARTIFACT, Cause.CONFIG)
    assert why in failure.value.why


def test_rank_of_the_file_must_be_that_of_the_config(tmp_path):
    with pytest.raises(StageFailed, match="damaged") as failure:
        adapter.read_adapter(write(tmp_path / "a", rank=8))
    assert "rank 4" in failure.value.why


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:5], lambda raw: b""])
def test_a_file_cut_short_is_damaged(tmp_path, damage):
    folder = write(tmp_path / "a")
    path = folder / adapter.WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StageFailed) as failure:
        adapter.read_adapter(folder)
    assert failure.value.cause is Cause.ARTIFACT


@pytest.mark.parametrize("text", ["", "[]", '{"r": "x", "lora_alpha": 1}', '{"lora_alpha": 1}'])
def test_a_broken_config_is_damage(tmp_path, text):
    folder = write(tmp_path / "a")
    (folder / adapter.CONFIG).write_text(text)
    with pytest.raises(StageFailed) as failure:
        adapter.read_adapter(folder)
    assert failure.value.cause is Cause.ARTIFACT


def test_headers_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(header_bytes({"a": ("F16", [2, 3]), "b": ("F32", [2])}) + bytes(12 + 8))
    assert entries_of(path) == {
        "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
    }


NAMES = [f"base_model.model.{MODULE}.lora_{half}.weight" for half in "AB"]


def refusal(folder):
    with pytest.raises(StageFailed) as failure:
        adapter.read_adapter(folder)
    return failure.value


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("adapter_model.bin", "adapter_model.bin, a pickle"),
        ("adapters.safetensors", "MLX"),
        ("model.safetensors", "a whole model"),
        ("pytorch_model.bin", "a whole model"),
    ],
)
def test_weights_of_another_format_are_named(tmp_path, name, says):
    folder = write(tmp_path / "a")
    (folder / adapter.WEIGHTS).rename(folder / name)
    failure = refusal(folder)
    assert failure.what == f"the adapter in {folder} is of another format"
    assert says in failure.why and adapter.WEIGHTS in failure.remedy


def test_a_pickle_comes_with_the_command_that_converts_it_without_running_it(tmp_path):
    folder = write(tmp_path / "it's a folder")
    (folder / adapter.WEIGHTS).rename(folder / adapter.PICKLED)
    command = re.search("`(.*)`, then", refusal(folder).remedy)[1]
    program, option, code = shlex.split(command)
    assert (program, option) == (sys.executable, "-c") and "weights_only=True" in code
    compile(code, "remedy", "exec")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer",
        ),
        (b"<!doctype html><html></html>", "an HTML page"),
        (b"\x80\x02}q\x00.", "a pickle"),
        (
            b"PK\x03\x04" + bytes(22) + b"\x16\x00\x00\x00adapter_model/data.pkl",
            "a PyTorch checkpoint",
        ),
    ],
)
def test_a_file_that_only_has_the_name_is_named_by_its_first_bytes(tmp_path, content, says):
    folder = write(tmp_path / "a")
    (folder / adapter.WEIGHTS).write_bytes(content)
    failure = refusal(folder)
    assert f"{adapter.WEIGHTS} is {says}" in failure.why and failure.remedy


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            [name.replace(".weight", ".default.weight") for name in NAMES],
            "the adapter's name in them",
        ),
        (
            [name.replace(".weight", ".my_adapter.weight") for name in NAMES],
            "the adapter's name in them",
        ),
        ([f"lora_unet_{half}.lora_{half}.weight" for half in ("down", "up")], "kohya"),
        ([f"model.layers.0.self_attn.q_proj.lora_{half}" for half in "ab"], "MLX"),
    ],
)
def test_tensor_names_of_other_programs_are_named(tmp_path, names, says):
    folder = write(tmp_path / "a", names=names)
    failure = refusal(folder)
    assert (
        "of another format" in failure.what
        and says in failure.why
        and names[0] in failure.why
        and failure.remedy
    )


@pytest.mark.parametrize(
    "content",
    [
        "[" * 50_000,
        "[]",
        "{",
        "{}",
        "version https://git-lfs.github.com/spec/v1",
        json.dumps({**CONFIG, "r": None}),
        json.dumps({**CONFIG, "r": 0, "rank_pattern": {"(": 4}}),
        json.dumps({**CONFIG, "rank_pattern": ["q_proj"]}),
        json.dumps({**CONFIG, "alpha_pattern": {"q_proj": "8"}}),
    ],
)
def test_a_config_that_is_wrong_is_damaged_and_nothing_else(tmp_path, content):
    folder = write(tmp_path / "a")
    (folder / adapter.CONFIG).write_text(content)
    failure = refusal(folder)
    assert adapter.CONFIG in failure.why and failure.cause is Cause.ARTIFACT
