"""The checks that need torch, on a real tiny Mistral."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from remote.contract.job.checks import Verdict
from remote.contract.job.paths import BoxPaths
from remote.payload import environment as environments
from remote.payload.preflight import model, probe
from remote.payload.preflight.environment import locked
from tests.payload.box.conftest import RECIPE, write_rows

CODE = Path(__file__).parents[3]
REQUIREMENTS = environments.requirements_file("requirements.txt")


def _asked(base, train=None, **recipe):
    inputs = {"base": str(base), **({"train": str(train)} if train else {})}
    return {
        "recipe": {**RECIPE, **recipe},
        "inputs": inputs,
        "embedding_rows": model.embedding_rows(Path(base)),
        "locked": locked(REQUIREMENTS),
    }


def _verdicts(checks):
    return {check.name: check.verdict for check in checks}


def _copy(base, folder, **changes):
    """A base with another tokenizer configuration."""
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_real_4_bit_product_there_and_back(dtype):
    asked = {
        "recipe": {
            "device": "cpu",
            "quantization": {"type": "nf4", "double": True, "compute_dtype": dtype},
        }
    }
    (check,) = probe.matmul(asked)
    assert check.verdict is Verdict.OK, check


def test_a_product_in_full_precision_is_no_4_bit_product(monkeypatch):
    monkeypatch.setattr(probe, "product_error", lambda recipe: (0.0, 0.0))
    (check,) = probe.matmul({"recipe": {}})
    assert check.verdict is Verdict.FAIL


def test_versions():
    assert set(_verdicts(probe.versions(_asked("/")))) == {
        "torch",
        "transformers",
        "peft",
        "bitsandbytes",
    }
    found = _verdicts(probe.versions({"locked": {"torch": "0.1", "no-such-thing": "1"}}))
    assert found == {"torch": Verdict.FAIL, "no-such-thing": Verdict.FAIL}


def test_a_good_tokenizer_and_good_rows(tiny_base, tmp_path):
    asked = _asked(tiny_base, write_rows(tmp_path / "train.jsonl", 20))
    checks = [*probe.tokenizer(asked), *probe.tokens(asked)]
    assert {check.verdict for check in checks} == {Verdict.OK}, checks
    assert set(_verdicts(checks)) >= {
        "tokenizer size",
        "padding",
        "chat template",
        "token lengths",
        "beginning of sequence",
        "end of sequence",
    }


def test_rows_that_are_cut_and_rows_without_an_answer(tiny_base, tmp_path):
    rows = write_rows(tmp_path / "train.jsonl", 20)
    whole = {check.name: check for check in probe.tokens(_asked(tiny_base, rows))}["token lengths"]
    longest = int(whole.measured.split("longest ")[1].split(";")[0])
    for limit, verdict in ((longest - 1, Verdict.WARN), (5, Verdict.FAIL)):
        asked = _asked(tiny_base, rows, training={**RECIPE["training"], "max_length": limit})
        assert _verdicts(probe.tokens(asked))["token lengths"] is verdict


def test_a_template_with_two_beginnings(tiny_base, tmp_path):
    answer = "{% if messages|length > 1 %} {{ messages[1].content }}{{ eos_token }}{% endif %}"
    doubled = "{{ bos_token }}{{ bos_token }}[INST] {{ messages[0].content }}[/INST]" + answer
    base = _copy(tiny_base, tmp_path / "base")
    (base / "chat_template.jinja").write_text(doubled)
    found = {
        check.name: check
        for check in probe.tokens(_asked(base, write_rows(tmp_path / "train.jsonl", 4)))
    }
    assert (
        found["beginning of sequence"].verdict is Verdict.FAIL
        and "2 in each" in found["beginning of sequence"].measured
    )


def test_a_tokenizer_without_a_template_and_one_with_too_many_words(tiny_base, tmp_path):
    base = _copy(tiny_base, tmp_path / "base", chat_template=None)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    asked = {**_asked(base, write_rows(tmp_path / "train.jsonl", 4)), "embedding_rows": 10}
    found = _verdicts(probe.tokenizer(asked))
    assert (found["chat template"], found["tokenizer size"]) == (Verdict.FAIL, Verdict.FAIL)
    assert probe.tokens(asked)[0].verdict is Verdict.SKIP


def test_a_template_out_of_the_recipe_is_as_good(tiny_base, tmp_path):
    base = _copy(tiny_base, tmp_path / "base", chat_template=None)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    asked = _asked(base, write_rows(tmp_path / "train.jsonl", 4))
    asked["recipe"]["base"] = {"name": "x", "chat_template": "mistral-v3"}
    found = _verdicts([*probe.tokenizer(asked), *probe.tokens(asked)])
    assert {
        found[name] for name in ("chat template", "beginning of sequence", "end of sequence")
    } == {Verdict.OK}


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"pad_token": "</s>"}, Verdict.OK, "training pads with <unk>"),
        ({"pad_token": "</s>", "unk_token": "</s>"}, Verdict.FAIL, "</s>"),
    ],
)
def test_padding(tiny_base, tmp_path, changes, verdict, words):
    base = _copy(tiny_base, tmp_path / "base", **changes)
    check = {check.name: check for check in probe.tokenizer(_asked(base))}["padding"]
    assert check.verdict is verdict and words in check.measured


def test_no_base_is_skipped(tmp_path):
    asked = _asked(tmp_path)
    assert [probe.tokenizer(asked)[0].verdict, probe.tokens(asked)[0].verdict] == [
        Verdict.SKIP,
        Verdict.SKIP,
    ]


def test_the_whole_of_it_on_a_box(tiny_base, tmp_path, monkeypatch):
    """`python3 -m remote.payload.preflight` with an environment made as `deploy` makes it: no
    failing check."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = BoxPaths.of_release().environments / environments.key_of(
        REQUIREMENTS, environments.flavour()
    )
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / environments.MARKER).write_text("{}")
    train, val = (
        write_rows(tmp_path / "train.jsonl", 20),
        write_rows(tmp_path / "val.jsonl", 5, 100),
    )
    inputs = {"base": str(tiny_base), "train": str(train), "val": str(val)}
    request = {"recipe": RECIPE, "thresholds": {"disk_gb": 0.1, "host_gb": 0.1}, "inputs": inputs}
    answer = subprocess.run(
        [sys.executable, "-m", "remote.payload.preflight"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=CODE,
        env={**os.environ, "PYTHONPATH": str(CODE)},
        check=True,
    )
    report = json.loads(answer.stdout)["done"]
    by_verdict = {
        verdict: [check for check in report["checks"] if check["verdict"] == verdict]
        for verdict in ("fail", "warn", "ok")
    }
    assert by_verdict["fail"] == []
    assert {check["name"] for check in by_verdict["ok"]} >= {
        "torch",
        "4-bit matmul",
        "base model",
        "dataset",
        "token lengths",
        "end of sequence",
    }
    golden = [check["verdict"] for check in report["checks"] if check["name"].startswith("golden")]
    assert golden == ["skip"], "its values are for its own base alone"


def test_every_locked_package_installs_on_the_oldest_python():
    names = re.findall(r"^([a-z-]+)==", REQUIREMENTS.read_text(), re.MULTILINE)
    wanted = [
        re.search(r">=3\.(\d+)", str(metadata.metadata(name)["Requires-Python"])) for name in names
    ]
    assert (
        len(names) > 8
        and max(int(found[1]) for found in wanted if found) == environments.OLDEST_PYTHON[1]
    )
