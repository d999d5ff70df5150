"""The model verbs as they are typed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import Collection

from remote.contract.job.exits import Exit
from remote.control.commands import model
from remote.control.serving import embedded
from tests.control.serving import small_gguf as small
from tests.integration.typed import ended

INVENTORY = "default_box: demo\nboxes:\n  demo: {provider: embedded}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "inventory.yaml").write_text(INVENTORY)
    small.write_small_gguf(folder / "hello.gguf", small.HELLO)
    prompt = {
        "messages": [{"role": "user", "content": "hi"}],
        "rendered": small.rendered("hi"),
        "base_answer": "?",
    }
    (folder / "parity.json").write_text(json.dumps({"prompts": [prompt]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(folder))
        patch.delenv("OLLAMA_HOST", raising=False)
        yield folder
        embedded.daemon().stop()


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> object:
    """Runs one command line; its exit code, standard output and standard error."""
    tree = Collection()
    tree.add_task(model.install)
    tree.add_collection(model.collection, "model")

    def run(*words: str) -> tuple[int, str, str]:
        code = ended(tree, *words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_from_nothing_to_an_answer_and_back(typed: object, folder: Path) -> None:
    assert callable(typed)
    assert "not running; `./inv model.up` starts it" in typed("model.status")[1]
    code, out, _ = typed("model.up", "--json")
    url = json.loads(out)["url"]
    code, out, _ = typed(
        "install", "--gguf", "hello.gguf", "--parity", "parity.json", "--name", "haul", "--dry-run"
    )
    assert code == 0 and "would install" in out
    assert json.loads(typed("model.list", "--json")[1]) == {"url": url, "models": []}
    code, out, _ = typed(
        "install", "--gguf", "hello.gguf", "--parity", "parity.json", "--name", "haul"
    )
    assert (
        code == 0
        and "haul:latest is installed" in out
        and "answered: hello world" in out
        and (folder / "Modelfile").exists()
    )
    assert typed("model.ask", "haul", "hi")[1] == " hello world\n"
    assert json.loads(typed("model.ask", "haul", "hi", "--json")[1])["done_reason"] == "stop"
    assert "haul:latest" in typed("model.list")[1] and "in memory" in typed("model.status")[1]
    assert typed("model.rollback", "haul")[0] == Exit.OLLAMA
    assert "would remove haul:latest" in typed("model.remove", "haul", "--dry-run")[1]
    assert (
        typed("model.remove", "haul")[0] == 0
        and json.loads(typed("model.list", "--json")[1])["models"] == []
    )
    assert "has ended" in typed("model.down")[1] and "was not running" in typed("model.down")[1]


def test_what_is_wrong_is_said(typed: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(typed)
    assert typed("install", "--gguf", "hello.gguf")[0] == Exit.USAGE
    code, _, err = typed("install", "--gguf", "nowhere.gguf", "--parity", "parity.json")
    assert code == Exit.ARTIFACT and "nowhere.gguf" in err
    code, out, err = typed("model.ask", "nobody", "hi", "--json")
    assert (
        code == Exit.OLLAMA
        and json.loads(out)["error"] == "OllamaError"
        and "'nobody' not found" in err
    )
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    code, _, err = typed("model.list")
    assert (
        code == Exit.OLLAMA
        and "does not answer at http://127.0.0.1:9" in err
        and "fix" in err
        and "Traceback" not in err
    )
