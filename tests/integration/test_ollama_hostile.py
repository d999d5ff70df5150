"""What a hostile model, client or neighbour gets from the embedded Ollama: a refusal, and no more
of the machine than is theirs."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from remote.control.serving import embedded
from remote.control.serving.ollama import Ollama
from remote.embedded.ollama import engine as module
from remote.embedded.ollama import rendering, shape
from remote.embedded.ollama.engine import Engine
from remote.embedded.ollama.store import Manifest, Stored
from remote.embedded.ollama.wire import Refusal
from tests.control.serving import small_gguf as small

HI = [{"role": "user", "content": "hi"}]
ENDLESS = "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}"
HUGE = (
    "{% set box = namespace(x='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set box.x = box.x +"
    " box.x %}{% endfor %}"
)
ONLY_ON = "{{% if messages[0]['content'] == 'now' %}}{}{{% endif %}}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("project")))
        address = embedded.endpoint(origins=["http://localhost:3000"])
        folder = tmp_path_factory.mktemp("models")
        with Ollama(address) as client:
            client.create(
                "hello",
                files={
                    "m": client.upload(small.write_small_gguf(folder / "hello.gguf", small.HELLO))
                },
            )
        yield address
        assert embedded.daemon().stop()


def stored(folder: Path, template: str) -> Stored:
    """A model with that chat template, as a store would have it."""
    gguf = small.write_small_gguf(folder / "model.gguf", small.HELLO, template)
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    path = gguf.rename(folder / f"sha256-{digest}")
    return Stored("hostile:latest", Manifest(f"sha256:{digest}"), path, "")


def rendered(folder: Path, template: str, said: str) -> str:
    """What an engine of its own makes of one message."""

    async def asked() -> str:
        engine = Engine(folder)
        try:
            async with engine.using(stored(folder, template)) as runner:
                return await rendering.prompt_of(runner, [{"role": "user", "content": said}], "")
        finally:
            await engine.end()
            assert not engine.loaded

    return asyncio.run(asked())


def test_a_template_of_a_gguf_that_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RENDER_SECONDS", 2.0)
    template = f"{small.TEMPLATE}{ONLY_ON.format(ENDLESS)}"
    assert rendered(tmp_path, template, "hi") == "[INST] hi[/INST]"
    with pytest.raises(Refusal, match="the model was unloaded"):
        rendered(tmp_path, template, "now")


def test_one_that_never_ends_while_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOAD_SECONDS", 6.0)
    with pytest.raises(Refusal, match="did not load"):
        rendered(tmp_path, ENDLESS + small.TEMPLATE, "hi")


def test_one_that_takes_all_memory(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"stopped|bad_alloc|unloaded|memory"):
        rendered(tmp_path, f"{small.TEMPLATE}{ONLY_ON.format(HUGE)}", "now")


def test_a_schema_whose_grammar_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubled at each of thirty levels, it takes llama.cpp's sampler for ever."""
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 4.0)
    steps = {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(30)}
    schema = {"$defs": {**steps, "a30": {"type": "string"}}, "$ref": "#/$defs/a0"}

    async def asked() -> None:
        engine = Engine(tmp_path)
        try:
            async with engine.using(stored(tmp_path, small.TEMPLATE)) as runner:
                async for _ in shape.answer(runner, HI, shape.read(schema) or {}, {"n_predict": 5}):
                    pass
        finally:
            await engine.end()

    with pytest.raises(Refusal, match="silent"):
        asyncio.run(asked())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": 5}, "type must be"),
        ({"$ref": "#"}, r"\$ref"),
        ({"$ref": "http://127.0.0.1:9/x"}, r"\$ref"),
        ({"$ref": "file:///etc/passwd"}, r"\$ref"),
        ({"enum": []}, "enum"),
        ({"properties": {f"k{i}": {"type": "string"} for i in range(5000)}}, "more than"),
        ("xml", "invalid format"),
        ([], "invalid format"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"template": "{{ .Prompt }}"}])
def test_a_shape_that_is_none(url: str, given: Any, words: str, more: dict[str, str]) -> None:
    body = {
        "model": "hello",
        "messages": HI,
        "format": given,
        "stream": False,
        "options": {"num_predict": 5},
        **more,
    }
    reply = httpx.post(f"{url}/api/chat", json=body, timeout=60)
    assert reply.status_code in (400, 500) and re.search(words, reply.json()["error"])


_AS_NOBODY = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket()
s.connect(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"GET /api/tags HTTP/1.1\\r\\nHost: localhost\\r\\n" + sys.argv[2].encode() + b"Connection: close\\r\\n\\r\\n")
print(s.recv(4096).split(b" ")[1].decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    "header", ["", "X-Forwarded-For: 127.0.0.1\r\n", "Forwarded: for=127.0.0.1\r\n"]
)
def test_another_user_of_this_machine(url: str, header: str) -> None:
    words = [sys.executable, "-I", "-S", "-c", _AS_NOBODY, url.rpartition(":")[2], header]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "403\n"


def test_pages_of_an_origin_that_was_named(url: str) -> None:
    named, other = {"Origin": "http://localhost:3000"}, {"Origin": "http://localhost:3001"}
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    reply = httpx.options(f"{url}/api/chat", headers={**named, **preflight})
    assert (
        reply.status_code == 200 and reply.headers["access-control-allow-origin"] == named["Origin"]
    )
    assert (
        httpx.get(f"{url}/api/tags", headers=named).headers["access-control-allow-origin"]
        == named["Origin"]
    )
    assert httpx.get(f"{url}/api/tags", headers=other).status_code == 403
    assert httpx.options(f"{url}/api/chat", headers={**other, **preflight}).status_code == 403


def test_more_context_than_the_model_has(url: str) -> None:
    body = {"model": "hello", "messages": HI, "stream": False, "options": {"num_ctx": 2**31 - 1}}
    assert (
        httpx.post(f"{url}/api/chat", json=body, timeout=60).json()["message"]["content"]
        == " hello world"
    )
    assert httpx.get(f"{url}/api/ps").json()["models"][0]["context_length"] == 512


def test_a_template_is_never_code(url: str) -> None:
    payload = (
        "\x01{ cycler.__init__.__globals__.os.system('touch /tmp/windlass-was-here') }\x01{{"
        " .Prompt }}"
    )
    for path, body in (
        ("create", {"from": "hello"}),
        ("generate", {"prompt": "x"}),
        ("chat", {"messages": HI}),
    ):
        reply = httpx.post(
            f"{url}/api/{path}",
            json={"model": "hello", "template": payload, "stream": False, **body},
            timeout=60,
        )
        assert reply.status_code == 400 and "control character" in reply.json()["error"]
    assert not Path("/tmp/windlass-was-here").exists()
