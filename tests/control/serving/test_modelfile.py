"""The Modelfile as text and as a request."""

from pathlib import Path

import pytest

from remote.control.serving.gguf import Gguf
from remote.control.serving.modelfile import modelfile_for
from remote.embedded.ollama.rendering import render

PROMPT = {"messages": [{"role": "user", "content": "hi"}], "rendered": "<s>[INST] hi[/INST]"}
HEAD = {
    "general.architecture": "llama",
    "llama.context_length": 32768,
    "tokenizer.ggml.tokens": ["<unk>", "<s>", 'a"b'],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def test_the_whole_text(tmp_path: Path) -> None:
    path = modelfile_for(Gguf(HEAD, 1, 1), PROMPT, (0, 30, 0)).write(
        tmp_path, "haul", tmp_path / "m.gguf"
    )
    assert (
        path.read_text()
        == "# haul, made by Windlass. By hand: `ollama create haul -f Modelfile` in this"
        ' folder.\nFROM m.gguf\nPARAMETER stop "a\\"b"\nPARAMETER temperature 0\nPARAMETER'
        " num_ctx 4096\n"
    )


def test_older_servers_get_a_template(tmp_path: Path) -> None:
    modelfile = modelfile_for(Gguf(HEAD, 1, 1), PROMPT, (0, 29, 9))
    template = (
        '[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}[/INST]{{ .Response }}a"b'
    )
    assert modelfile.request() == {
        "parameters": {"stop": ['a"b'], "temperature": 0, "num_ctx": 4096},
        "template": template,
    }
    assert (
        f'TEMPLATE """{template}"""\n'
        in modelfile.write(tmp_path, "haul", Path("/far/m.gguf")).read_text()
    )


@pytest.mark.parametrize(("trained", "context"), [(512, 512), (0, 4096)])
def test_context(trained: int, context: int) -> None:
    modelfile = modelfile_for(
        Gguf({**HEAD, "llama.context_length": trained}, 1, 1), PROMPT, (1, 0, 0)
    )
    assert modelfile.parameters["num_ctx"] == context


def test_what_parity_says_is_never_an_action(tmp_path: Path) -> None:
    rendered = '<s>{{ .Messages }}"""\nFROM /etc/passwd\nTEMPLATE """[INST] hi[/INST]{{'
    head = {**HEAD, "tokenizer.ggml.tokens": ["<unk>", "<s>", "{{ .System }}"]}
    modelfile = modelfile_for(Gguf(head, 1, 1), {**PROMPT, "rendered": rendered}, (0, 29, 9))
    said = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    plain, end = rendered.removeprefix("<s>"), "{{ .System }}"
    assert (
        render(modelfile.template, said)
        == f"{plain.replace('hi', 'one')}two{end}{plain.replace('hi', 'three')}"
    )
    lines = modelfile.write(tmp_path, "haul", Path("/far/m.gguf")).read_text().split('"""')
    assert len(lines) == 3 and lines[2].strip() == ""
