"""The embedded Ollama as ollama-python and a plain HTTP client see it: a real process, real
llama.cpp, models whose answers are known."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from remote.control.errors import OllamaError
from remote.control.serving import embedded
from remote.control.serving.ollama import Ollama
from tests.control.serving import small_gguf as small

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("project")))
        yield embedded.endpoint()
        children = runners()
        assert embedded.daemon().stop()
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    patient = {"llama.context_length": 262144}
    return {
        "hello": small.write_small_gguf(folder / "hello.gguf", small.HELLO),
        "endless": small.write_small_gguf(folder / "endless.gguf", small.ENDLESS, **patient),
        "plain": small.write_small_gguf(
            folder / "plain.gguf", {"i": "▁one", "▁one": "</s>"}, template=None
        ),
    }


@pytest.fixture
def api(url: str, files: dict[str, Path]) -> Iterator[ollama.Client]:
    with ollama.Client(url) as client:
        for name, path in files.items():
            client.create(name, files={path.name: client.create_blob(path)})
        yield client
        for model in client.list().models:
            client.delete(str(model.model))


def runners() -> list[int]:
    """The processes that hold a model now."""
    record = embedded.daemon().running()
    assert record
    children = Path(f"/proc/{record['pid']}/task/{record['pid']}/children").read_text()
    return [int(pid) for pid in children.split()]


def until(holds: Any) -> None:
    """Wait for something that is bound to come; a minute means that it never will."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_chat_streamed_one_token_at_a_time(api: ollama.Client) -> None:
    pieces = list(api.chat("hello", HI, stream=True))
    assert [piece.message.content for piece in pieces] == [" hello", " world", ""]
    assert [piece.done for piece in pieces] == [False, False, True]
    last = pieces[-1]
    assert (
        last.done_reason == "stop" and last.prompt_eval_count == 6 and last.eval_count == 3
    )  # <s> once; </s> counts
    assert last.total_duration and last.load_duration is not None and last.eval_duration


def test_chat_and_generate_whole(api: ollama.Client) -> None:
    assert api.chat("hello", HI).message.content == " hello world"
    assert api.generate("hello", "hi").response == " hello world"
    assert api.generate("hello", "<s>[INST] hi[/INST]", raw=True).prompt_eval_count == 6
    assert api.generate("hello", "[INST] hi[/INST]", raw=True).prompt_eval_count == 6


def test_the_prompt_alone(api: ollama.Client, url: str) -> None:
    with Ollama(url) as client:
        assert (
            client.rendered("hello", [{"role": "system", "content": "be kind"}, *HI])
            == "be kind\n\n[INST] hi[/INST]"
        )
        reply = client.generate("hello", "hi", _debug_render_only=True)
    assert reply["_debug_info"] == {"rendered_template": "[INST] hi[/INST]"} and not reply["done"]


def test_options(api: ollama.Client) -> None:
    cut = api.generate("endless", "hi", options={"num_predict": 5, "temperature": 0})
    assert (cut.done_reason, cut.eval_count, cut.response) == (
        "length",
        5,
        " one two three one two",
    )
    stopped = api.generate("endless", "hi", options={"stop": ["three"], "temperature": 0})
    assert (stopped.done_reason, stopped.response.strip()) == ("stop", "one two")
    wild = {"num_predict": 12, "temperature": 50, "top_k": 0, "top_p": 1, "min_p": 0}
    hot = [api.generate("endless", "hi", options={**wild, "seed": seed}) for seed in (1, 1, 2)]
    assert hot[0].response == hot[1].response != hot[2].response


def test_an_answer_of_a_given_shape(api: ollama.Client) -> None:
    reply = api.chat("hello", HI, format={"const": "abc"}, options={"temperature": 0})
    assert reply.message.content == '"abc"' and reply.done_reason == "stop"


NEEDS_JSON = {
    "type": "object",
    "properties": {"b": {"enum": ["c"]}, "a": {"enum": ["d"]}},
    "required": ["b", "a"],
}


@pytest.mark.parametrize("shape", [NEEDS_JSON, "json"])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("chat", {"messages": HI}),
        ("chat", {"messages": HI, "template": "[INST] {{ .Prompt }}[/INST]"}),
        ("generate", {"prompt": "hi"}),
        ("generate", {"prompt": "<s>[INST] hi[/INST]", "raw": True}),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_model_that_would_write_blank_lines_for_ever(
    api: ollama.Client,
    url: str,
    tmp_path: Path,
    path: str,
    asked: dict[str, Any],
    shape: Any,
    streamed: bool,
) -> None:
    chain = {"[/INST]": "{", "{": "<0x0A>", "<0x0A>": "<0x0A>"}
    blob = api.create_blob(small.write_small_gguf(tmp_path / "blank.gguf", chain))
    api.create("blank", files={"blank.gguf": blob})
    body = {
        "model": "blank",
        "format": shape,
        "stream": streamed,
        "options": {"temperature": 0, "num_predict": 200},
        **asked,
    }
    lines = [
        json.loads(line)
        for line in httpx.post(f"{url}/api/{path}", json=body, timeout=60).text.splitlines()
    ]
    text = "".join(
        line["message"]["content"] if path == "chat" else line["response"] for line in lines
    )
    assert list(json.loads(text).items()) == (
        [] if shape == "json" else [("a", "d"), ("b", "c")]
    )  # by the alphabet, as Ollama has them
    assert (
        lines[-1]["done_reason"] == "stop"
        and lines[-1]["prompt_eval_count"] == 6
        and lines[-1]["eval_count"] > 3
    )
    assert lines[-1]["eval_duration"] > 0 and not [line for line in lines[:-1] if line["done"]]


def test_greedy_answers_are_the_same_every_time(api: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 40}
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: api.chat("endless", HI, options=options).message.content, range(8))
        )
    assert len(set(answers)) == 1 and str(answers[0]).startswith(" one two three one")


def test_list_show_ps(api: ollama.Client, files: dict[str, Path]) -> None:
    listed = {str(model.model): model for model in api.list().models}
    assert set(listed) == {"hello:latest", "endless:latest", "plain:latest"}
    assert listed["hello:latest"].size == files["hello"].stat().st_size
    shown = api.show("hello")
    assert (
        shown.modelinfo["general.architecture"] == "llama"
        and shown.modelinfo["tokenizer.ggml.tokens"] is None
    )
    assert (
        shown.template == small.TEMPLATE
        and shown.details.quantization_level == "F16"
        and shown.capabilities == ["completion"]
    )
    api.chat("hello", HI)
    loaded = {model.name: model for model in api.ps().models}
    assert loaded["hello:latest"].context_length == 512 and loaded["hello:latest"].expires_at


def test_create_from_another_model_keeps_and_replaces(api: ollama.Client) -> None:
    api.create(
        "one", from_="hello", system="be kind", parameters={"temperature": 0, "stop": ["x", "y"]}
    )
    api.create("two", from_="one", parameters={"num_predict": 1}, license="MIT")
    shown = api.show("two")
    assert 'stop                           "y"' in str(
        shown.parameters
    ) and "num_predict                    1" in str(shown.parameters)
    assert shown.license == "MIT" and api.chat("two", HI).done_reason == "length"
    assert (
        api.chat("two", HI).prompt_eval_count > api.chat("hello", HI).prompt_eval_count
    )  # the system message came along


def test_a_modelfiles_template_goes_before_the_files(api: ollama.Client, url: str) -> None:
    api.create(
        "mine",
        from_="hello",
        template="{{ if .System }}<{{ .System }}>{{ end }}Q: {{ .Prompt }} A:{{ .Response }}",
    )
    with Ollama(url) as client:
        assert client.rendered("mine", HI) == "Q: hi A:"
        assert client.rendered("plain", HI) == "hi"  # no template anywhere: the prompt itself
    assert api.generate("plain", "hi").response == " one"
    with pytest.raises(ollama.ResponseError, match="does not know") as caught:
        api.create("mine", from_="hello", template="{{ .Prompt | upper }}")
    assert caught.value.status_code == 400


def test_copy_and_delete(api: ollama.Client, files: dict[str, Path]) -> None:
    digest = "sha256:" + hashlib.sha256(files["hello"].read_bytes()).hexdigest()
    api.copy("hello", "ns/other:v1")
    api.delete("hello")
    assert api.chat("ns/other:v1", HI).message.content == " hello world"
    with pytest.raises(ollama.ResponseError, match="'hello' not found") as caught:
        api.chat("hello", HI)
    assert caught.value.status_code == 404
    head = httpx.head(f"{api._client.base_url}/api/blobs/{digest}")
    assert head.status_code == 200
    api.delete("ns/other:v1")
    assert httpx.head(f"{api._client.base_url}/api/blobs/{digest}").status_code == 404


def test_both_shapes_of_errors(api: ollama.Client, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    digest = api.create_blob(tmp_path / "bad.gguf")
    with pytest.raises(ollama.ResponseError, match="invalid GGUF") as caught:
        list(api.create("bad", files={"bad.gguf": digest}, stream=True))
    assert caught.value.status_code == -1  # after a 200
    with pytest.raises(ollama.ResponseError, match="invalid GGUF") as caught:
        api.create("bad", files={"bad.gguf": digest})
    assert caught.value.status_code == 400
    assert "bad:latest" not in [model.model for model in api.list().models]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/api/chat", b"{", 400, "invalid JSON"),
        ("POST", "/api/chat", b"[]", 400, "not an object"),
        ("POST", "/api/chat", b"{}", 400, "model is required"),
        (
            "POST",
            "/api/chat",
            b'{"model": "hello", "messages": [{"role": "robot"}]}',
            400,
            "invalid message",
        ),
        ("POST", "/api/chat", b'{"model": "hello", "messages": 3}', 400, "expected a list"),
        ("POST", "/api/chat", b'{"model": "hello", "tools": [1]}', 400, "does not support 'tools'"),
        (
            "POST",
            "/api/chat",
            b'{"model": "hello", "keep_alive": "soon"}',
            400,
            "invalid keep_alive",
        ),
        (
            "POST",
            "/api/generate",
            b'{"model": "hello", "prompt": "hi", "options": {"temperature": "warm"}}',
            400,
            "",
        ),
        (
            "POST",
            "/api/generate",
            b'{"model": "hello", "prompt": "hi", "format": 3}',
            400,
            "invalid format",
        ),
        (
            "POST",
            "/api/generate",
            b'{"model": "../etc", "prompt": "hi"}',
            400,
            "invalid model name",
        ),
        ("POST", "/api/create", b'{"model": "new"}', 400, "neither 'from' or 'files'"),
        (
            "POST",
            "/api/create",
            b'{"model": "new", "from": "nobody", "stream": false}',
            404,
            "not found",
        ),
        (
            "POST",
            "/api/create",
            b'{"model": "new", "files": {"../x": "sha256:0"}, "stream": false}',
            400,
            "invalid file path",
        ),
        (
            "POST",
            "/api/create",
            b'{"model": "new", "files": {"x": "sha256:0"}, "stream": false}',
            400,
            "invalid digest",
        ),
        (
            "POST",
            "/api/create",
            b'{"model": "new", "from": "hello", "quantize": "q4_k_m", "stream": false}',
            400,
            "does not quantize",
        ),
        (
            "POST",
            "/api/create",
            b'{"model": "new", "from": "hello", "adapters": {"a": "b"}, "stream": false}',
            400,
            "merged models only",
        ),
        ("POST", "/api/copy", b'{"source": "nobody", "destination": "x"}', 404, "not found"),
        ("DELETE", "/api/delete", b'{"model": "nobody"}', 404, "not found"),
        ("POST", f"/api/blobs/sha256:{'0' * 64}", b"x", 400, "digest mismatch"),
        ("POST", "/api/pull", b"{}", 404, "Not Found"),
        ("GET", "/api/chat", b"", 405, "Method Not Allowed"),
    ],
)
def test_what_it_refuses(
    api: ollama.Client, url: str, method: str, path: str, body: bytes, status: int, words: str
) -> None:
    reply = httpx.request(method, url + path, content=body)
    assert reply.status_code == status, reply.text
    assert words in reply.json()["error"]


def test_a_prompt_longer_than_the_context_is_refused(api: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="context") as caught:
        api.chat("hello", [{"role": "user", "content": "x" * 1000}])
    assert caught.value.status_code == 400
    assert api.chat("hello", HI, options={"num_ctx": 256}).message.content == " hello world"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_only_this_machine_may_ask(url: str, headers: dict[str, str]) -> None:
    assert httpx.get(f"{url}/api/tags", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"Host": "localhost:1"}, {"Host": "localhost:1", "Origin": "http://localhost:1"}],
)
def test_this_machine_may(url: str, headers: dict[str, str]) -> None:
    assert httpx.get(f"{url}/api/version", headers=headers).status_code == 200
    assert httpx.get(url, headers=headers).text == "Ollama is running"


def test_loading_and_unloading(api: ollama.Client) -> None:
    assert api.generate("hello", "").done_reason == "load"
    assert "hello:latest" in [model.name for model in api.ps().models]
    assert api.generate("hello", "", keep_alive=0).done_reason == "unload"
    assert "hello:latest" not in [model.name for model in api.ps().models]
    api.chat("hello", HI, keep_alive="100ms")
    until(lambda: "hello:latest" not in [model.name for model in api.ps().models])


def test_the_longest_unused_makes_room(api: ollama.Client) -> None:
    for name in ("hello", "endless", "plain"):
        api.generate(name, "hi", options={"num_predict": 1, "temperature": 0})
    assert sorted(str(model.name) for model in api.ps().models) == [
        "endless:latest",
        "plain:latest",
    ]
    assert len(runners()) == 2


def test_more_models_than_places_at_once(api: ollama.Client) -> None:
    wanted = ["hello", "plain", "endless"] * 4
    with ThreadPoolExecutor(6) as pool:
        replies = list(
            pool.map(
                lambda name: (
                    api.generate(name, "hi", options={"num_predict": 1, "temperature": 0}).response
                ),
                wanted,
            )
        )
    assert replies == [" hello", " one", " one"] * 4


def test_a_crashed_model_is_loaded_again(api: ollama.Client) -> None:
    api.generate("endless", "", keep_alive=0)
    pieces = api.chat("endless", HI, stream=True, options={"num_ctx": 200000})
    next(iter(pieces))
    record = embedded.daemon().running()
    assert record
    for pid in runners():
        os.kill(pid, 9)
    with pytest.raises(ollama.ResponseError, match="runner stopped"):
        list(pieces)
    assert api.chat("endless", HI, options={"num_predict": 1}).message.content == " one"


@pytest.mark.parametrize("streamed", [True, False])
def test_hanging_up_stops_the_work(api: ollama.Client, url: str, streamed: bool) -> None:
    """Left alone, this answer would go on for 200,000 tokens: many minutes. A request after hanging
    up is served at once."""
    body = {"model": "endless", "messages": HI, "stream": streamed, "options": {"num_ctx": 200000}}
    if streamed:
        with httpx.stream("POST", f"{url}/api/chat", json=body, timeout=90) as reply:
            next(reply.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/api/chat", json=body, timeout=0.7)
    after = {**body, "stream": False, "options": {"num_ctx": 200000, "num_predict": 1}}
    assert httpx.post(f"{url}/api/chat", json=after, timeout=60).json()["done_reason"] == "length"


def test_an_upload_that_breaks_off_leaves_nothing(url: str, files: dict[str, Path]) -> None:
    content = files["hello"].read_bytes() + b"more"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()

    async def broken() -> None:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length:"
            f" {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content[:-1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    asyncio.run(broken())
    blobs = embedded.daemon().folder / "blobs"
    until(lambda: not list(blobs.glob("*.partial")) and not list(blobs.glob(".*.partial")))
    assert httpx.head(f"{url}/api/blobs/{digest}").status_code == 404


def test_two_upload_the_same_at_once(url: str, files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "twice.gguf"
    path.write_bytes(files["hello"].read_bytes() + os.urandom(3_000_000))
    with ThreadPoolExecutor(2) as pool:
        digests = set(pool.map(lambda _: Ollama(url).upload(path), range(2)))
    stored = embedded.daemon().folder / "blobs" / digests.pop().replace(":", "-")
    assert stored.read_bytes() == path.read_bytes()


def test_the_client_names_what_is_wrong(url: str) -> None:
    with (
        Ollama("http://127.0.0.1:9") as nobody,
        pytest.raises(OllamaError, match=r"does not answer at http://127\.0\.0\.1:9") as caught,
    ):
        nobody.version()
    assert "model.up" in caught.value.remedy
    with Ollama(f"{url}/elsewhere") as other, pytest.raises(OllamaError, match="refused"):
        other.tags()
    with Ollama(url) as client, pytest.raises(OllamaError) as caught:
        client.create("new", files={"x": f"sha256:{'0' * 64}"})
    assert "not found" in caught.value.why and caught.value.where.startswith("POST /api/create")
