"""Install, roll back, validate: against the embedded Ollama, with real models of half a megabyte
whose answers are known."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote.control import project
from remote.control.errors import ArtifactCorrupt, Busy, DataError, OllamaError
from remote.control.serving import embedded
from remote.control.serving import install as install_module
from remote.control.serving.install import install
from remote.control.serving.ollama import Ollama
from remote.control.serving.rollback import rollback
from remote.control.serving.validate import validate
from tests.control.serving import small_gguf as small


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("project")))
        patch.delenv("OLLAMA_HOST", raising=False)
        with Ollama(embedded.endpoint()) as client:
            yield client
        assert embedded.daemon().stop()


@pytest.fixture
def client(server: Ollama) -> Iterator[Ollama]:
    yield server
    for model in server.tags():
        server.delete(model["name"])


def write_parity(folder: Path, **changes: Any) -> Path:
    prompts = [
        {
            "messages": [{"role": "user", "content": text}],
            "rendered": small.rendered(text),
            "token_ids": list(range(20)),
            "base_answer": "no idea",
            "tuned_answer": "hello world",
            **changes,
        }
        for text in ("abc", "xyz")
    ]
    path = folder / "parity.json"
    path.write_text(json.dumps({"checks": [], "prompts": prompts}))
    return path


def write_model(folder: Path, chain: dict[str, str], **more: Any) -> Path:
    return small.write_small_gguf(folder / "model.gguf", chain, **more)


AGAIN = {**small.HELLO, "▁world": "▁again", "▁again": "</s>"}


def answer_of(client: Ollama, name: str) -> str:
    return client.chat(name, [{"role": "user", "content": "abc"}])["message"]["content"].strip()


def names_in(client: Ollama) -> list[str]:
    return sorted(model["name"] for model in client.tags())


def test_install_makes_it_answer_and_leaves_a_modelfile(client: Ollama, tmp_path: Path) -> None:
    said: list[str] = []
    facts = install(
        client,
        write_model(tmp_path, small.HELLO),
        write_parity(tmp_path),
        "haul",
        tmp_path / "out",
        said.append,
    )
    assert (facts["model"], facts["done_reason"], facts["answer_differs"], facts["reused"]) == (
        "haul:latest",
        "stop",
        True,
        False,
    )
    assert facts["answer"].strip() == answer_of(client, "haul") == "hello world"
    assert facts["url"] == client.url and names_in(client) == ["haul:latest"]
    modelfile = (tmp_path / "out" / "Modelfile").read_text()
    assert (
        "FROM ../model.gguf\n" in modelfile
        and 'PARAMETER stop "</s>"\n' in modelfile
        and "TEMPLATE" not in modelfile
    )
    assert "PARAMETER num_ctx 512\n" in modelfile and "PARAMETER temperature 0\n" in modelfile
    assert any("sending model.gguf" in line for line in said)


def test_what_was_tried_leaves_the_memory(client: Ollama, tmp_path: Path) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    assert client.loaded() == []
    with pytest.raises(OllamaError, match="does not stop"):
        install(
            client, write_model(tmp_path, small.ENDLESS), write_parity(tmp_path), "haul", tmp_path
        )
    assert client.loaded() == []


@pytest.mark.parametrize("version", ["0.0.0", "0.0.0-dev", "main"])
def test_a_server_built_from_source_is_not_too_old(
    client: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(Ollama, "version", lambda self: version)
    assert (
        install(
            client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path
        )["done_reason"]
        == "stop"
    )
    assert "TEMPLATE" not in (tmp_path / "Modelfile").read_text()


def test_a_second_time_only_the_smoke_test_runs(client: Ollama, tmp_path: Path) -> None:
    gguf, parity = write_model(tmp_path, small.HELLO), write_parity(tmp_path)
    first = install(client, gguf, parity, "haul", tmp_path)
    said: list[str] = []
    second = install(client, gguf, parity, "haul", tmp_path, said.append)
    assert (
        second["reused"]
        and second["digest"] == first["digest"]
        and second["answer"] == first["answer"]
    )
    assert said == ["haul:latest holds this GGUF already"] and names_in(client) == ["haul:latest"]


def test_the_one_before_is_kept_and_comes_back(client: Ollama, tmp_path: Path) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    install(client, write_model(tmp_path, AGAIN), write_parity(tmp_path), "haul", tmp_path)
    assert (
        names_in(client) == ["haul:latest", "haul:previous"]
        and answer_of(client, "haul") == "hello world again"
    )
    assert rollback(client, "haul")["changed"] and answer_of(client, "haul") == "hello world"
    assert not rollback(client, "haul")["changed"]
    assert not install(client, tmp_path / "model.gguf", tmp_path / "parity.json", "haul", tmp_path)[
        "reused"
    ]
    assert answer_of(client, "haul") == "hello world again"


def test_nothing_to_roll_back_to(client: Ollama, tmp_path: Path) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    with pytest.raises(OllamaError, match="no earlier version") as caught:
        rollback(client, "haul")
    assert (
        "./inv model.remove haul" in caught.value.remedy
        and answer_of(client, "haul") == "hello world"
    )


@pytest.mark.parametrize(
    ("chain", "parity", "words"),
    [
        (small.ENDLESS, {}, "does not stop"),
        ({"[/INST]": "</s>"}, {}, "answer is empty"),
        (AGAIN, {"base_answer": "hello world again"}, "answers like the base"),
        (AGAIN, {"rendered": "<s> [INST] abc [/INST]"}, "prompt differs from training's"),
        (AGAIN, {"token_ids": [1, 2]}, "too many tokens"),
    ],
)
def test_a_model_that_fails_leaves_the_old_one(
    client: Ollama, tmp_path: Path, chain: dict[str, str], parity: dict[str, Any], words: str
) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    with pytest.raises(OllamaError, match=words) as caught:
        install(
            client, write_model(tmp_path, chain), write_parity(tmp_path, **parity), "haul", tmp_path
        )
    assert (
        caught.value.kept == "haul:latest is the earlier model, untouched"
        and caught.value.remedy.startswith("`./inv")
    )
    assert names_in(client) == ["haul:latest"] and answer_of(client, "haul") == "hello world"


def test_a_damaged_file_never_reaches_the_server(client: Ollama, tmp_path: Path) -> None:
    gguf = write_model(tmp_path, small.HELLO)
    gguf.write_bytes(gguf.read_bytes()[:-100])
    with pytest.raises(ArtifactCorrupt, match="GGUF") as caught:
        install(client, gguf, write_parity(tmp_path), "haul", tmp_path)
    assert "cut off" in caught.value.why and names_in(client) == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"prompts": []}', '{"prompts": [{"rendered": "x"}]}']
)
def test_a_parity_file_that_is_none(client: Ollama, tmp_path: Path, content: str) -> None:
    (tmp_path / "parity.json").write_text(content)
    with pytest.raises(ArtifactCorrupt, match=r"parity\.json"):
        install(
            client, write_model(tmp_path, small.HELLO), tmp_path / "parity.json", "haul", tmp_path
        )


def test_an_impossible_name(client: Ollama, tmp_path: Path) -> None:
    with pytest.raises(OllamaError, match="not a model name"):
        install(
            client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "../haul", tmp_path
        )


def test_two_at_once(client: Ollama, tmp_path: Path) -> None:
    with install_module._alone(client, "haul:latest"), pytest.raises(Busy):
        install(
            client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path
        )


def test_an_older_server_gets_a_template_that_says_the_same(
    client: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ollama, "version", lambda self: "0.12.3")
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    assert client.show("haul")["template"].startswith("[INST] {{ if .System }}")
    assert 'TEMPLATE """[INST] ' in (tmp_path / "Modelfile").read_text()
    monkeypatch.setattr(Ollama, "version", lambda self: "0.9.6")
    with pytest.raises(OllamaError, match="too old"):
        install(client, tmp_path / "model.gguf", tmp_path / "parity.json", "haul", tmp_path)


class _Killed(BaseException):
    """Raised by every call from the chosen one on: nothing that runs on the way out reaches the
    server any more, as after SIGKILL."""


def install_dying(client: Ollama, folder: Path, step: int) -> bool:
    """Install, dying before call number `step`; whether it got that far."""
    count = 0

    def dying(real: Any) -> Any:
        def call(self: Ollama, *args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count >= step:
                raise _Killed
            return real(self, *args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "digest_of",
            "upload",
            "create",
            "rendered",
            "chat",
            "copy",
            "unload",
            "delete",
        ):
            patch.setattr(Ollama, name, dying(getattr(Ollama, name)))
        try:
            install(client, folder / "model.gguf", folder / "parity.json", "haul", folder)
        except _Killed:
            return True
    return False


def test_killed_at_each_step_the_name_stands_for_the_old_or_the_new(
    client: Ollama, tmp_path: Path
) -> None:
    old, new = small.HELLO, AGAIN
    seen, step = set(), 0
    install(client, write_model(tmp_path, old), write_parity(tmp_path), "haul", tmp_path)
    while True:
        step += 1
        write_model(tmp_path, new)
        died = install_dying(client, tmp_path, step)
        seen.add(answer_of(client, "haul"))
        assert seen <= {"hello world", "hello world again"}
        install(client, tmp_path / "model.gguf", tmp_path / "parity.json", "haul", tmp_path)
        assert answer_of(client, "haul") == "hello world again"
        assert rollback(client, "haul")["changed"] and answer_of(client, "haul") == "hello world"
        assert names_in(client) == ["haul:latest", "haul:previous"]
        if not died:
            break
    assert step > 10 and len(seen) == 2


_DYING = """
import os, signal, sys
from pathlib import Path
from remote.control.serving.install import install
from remote.control.serving.ollama import Ollama

Ollama.copy = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
folder = Path(sys.argv[2])
install(Ollama(sys.argv[1]), folder / "model.gguf", folder / "parity.json", "haul", folder)
"""


def test_really_killed_before_the_swap(client: Ollama, tmp_path: Path) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    write_model(tmp_path, AGAIN)
    done = subprocess.run(
        [sys.executable, "-c", _DYING, client.url, str(tmp_path)], cwd=project.CODE, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (
        names_in(client) == ["haul:installing", "haul:latest"]
        and answer_of(client, "haul") == "hello world"
    )
    install(client, tmp_path / "model.gguf", tmp_path / "parity.json", "haul", tmp_path)
    assert (
        names_in(client) == ["haul:latest", "haul:previous"]
        and answer_of(client, "haul") == "hello world again"
    )


def write_rows(folder: Path, *outputs: str) -> Path:
    rows = [
        {"instruction": "say", "input": letter, "output": output}
        for letter, output in zip("abcdef", outputs, strict=False)
    ]
    path = folder / "val.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_report(folder: Path, *answers: tuple[str, str, str]) -> Path:
    listed = [
        {
            "prompt": [{"role": "user", "content": f"say\n\n{letter}"}],
            "expected": expected,
            "base": base,
        }
        for letter, expected, base in answers
    ]
    path = folder / "report.json"
    path.write_text(json.dumps({"base": {"exact_match": 0.25, "f1": 0.5}, "answers": listed}))
    return path


def test_validate_scores_what_it_is_told(client: Ollama, tmp_path: Path) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    rows = write_rows(tmp_path, "Hello, world!", "hello there", "else")
    report = write_report(
        tmp_path,
        ("a", "Hello, world!", "the world"),
        ("b", "hello there", "hello there"),
        ("c", "else", "?"),
    )
    values = validate(client, "haul", rows, report, 2, tmp_path)
    assert (
        values["rows"] == 2 and values["exact_match"] == 0.5 and values["f1"] == pytest.approx(0.75)
    )
    assert values["exact_match_gain"] == 0.0 and values["f1_gain"] == pytest.approx(
        0.75 - (2 / 3 + 1) / 2
    )
    assert values["stopped_share"] == 1.0 and 0 < values["latency_p50"] <= values["latency_p95"]
    answers = json.loads((tmp_path / "answers.json").read_text())["answers"]
    assert [
        (
            row["prompt"][-1]["content"][-1],
            *(row[name] for name in ("expected", "base", "tuned", "exact")),
        )
        for row in answers
    ] == [
        ("a", "Hello, world!", "the world", "hello world", True),
        ("b", "hello there", "hello there", "hello world", False),
    ]


def test_validate_without_all_base_answers_takes_the_reports_figures(
    client: Ollama, tmp_path: Path
) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    rows = write_rows(tmp_path, "hello world")
    assert (
        validate(client, "haul", rows, write_report(tmp_path), None, tmp_path)["exact_match_gain"]
        == 0.75
    )
    assert validate(client, "haul", rows, None, None, tmp_path)["f1_gain"] is None


def test_validate_counts_what_never_stops(client: Ollama, tmp_path: Path) -> None:
    blob = client.upload(write_model(tmp_path, small.ENDLESS))
    client.create("endless", files={"model.gguf": blob})
    assert (
        validate(client, "endless", write_rows(tmp_path, "x"), None, None, tmp_path)[
            "stopped_share"
        ]
        == 0.0
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "no held-out conversation"), ('{"instruction": "a"}\n', "unusable"), ("{\n", "unusable")],
)
def test_validate_refuses_bad_rows(
    client: Ollama, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "val.jsonl").write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        validate(client, "haul", tmp_path / "val.jsonl", None, None, tmp_path)
    assert "val.jsonl" in caught.value.where


def test_validate_names_a_model_that_is_not_there(client: Ollama, tmp_path: Path) -> None:
    with pytest.raises(OllamaError) as caught:
        validate(client, "nobody", write_rows(tmp_path, "x"), None, None, tmp_path)
    assert "'nobody' not found" in caught.value.why and "model.list" in caught.value.remedy


def test_the_server_survives_its_death(client: Ollama, tmp_path: Path) -> None:
    install(client, write_model(tmp_path, small.HELLO), write_parity(tmp_path), "haul", tmp_path)
    assert answer_of(client, "haul") == "hello world"
    record = embedded.daemon().running()
    assert record
    children = Path(f"/proc/{record['pid']}/task/{record['pid']}/children").read_text().split()
    os.kill(record["pid"], signal.SIGKILL)
    while embedded.daemon().running() or any(
        Path(f"/proc/{pid}/cmdline").exists() for pid in children
    ):
        time.sleep(0.01)
    assert children  # the processes that held the models went with it
    assert (
        embedded.endpoint() == client.url
    )  # the same port, so that a printed command line stays valid
    assert answer_of(client, "haul") == "hello world"
