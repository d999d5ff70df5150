"""Whatever a client sends, the embedded Ollama answers it: with what was asked for, or with a
refusal in JSON. No request is its fault."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.embedded.ollama.app import MAX_BODY, make_app
from remote.embedded.ollama.engine import Engine, Runner
from remote.embedded.ollama.store import Manifest, Store, Stored, verify
from remote.embedded.ollama.wire import Refusal
from tests.control.serving import small_gguf as small

ODD = [
    "small",
    "a/../b",
    "..",
    "x:y:z",
    "\x00",
    "\ud800",
    "{{ .Prompt }}",
    "{{ range .Messages }}",
    "\x01{ x }\x01",
]
TEXT = st.text(max_size=12) | st.sampled_from(ODD)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGE = (
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool"])},
        optional={"content": TEXT},
    )
    | ANYTHING
)
FIELDS = {
    "model": st.just("small") | TEXT,
    "name": TEXT,
    "messages": st.lists(MESSAGE, max_size=3) | ANYTHING,
    "prompt": TEXT | ANYTHING,
    "system": TEXT | ANYTHING,
    "template": TEXT | ANYTHING,
    "options": ANYTHING,
    "parameters": ANYTHING,
    "format": ANYTHING,
    "keep_alive": ANYTHING,
    "raw": ANYTHING,
    "stream": st.just(False),
    "license": ANYTHING,
    "quantize": ANYTHING,
    "adapters": ANYTHING,
    "from": st.just("small") | ANYTHING,
    "files": ANYTHING,
    "source": st.just("small") | ANYTHING,
    "destination": TEXT | ANYTHING,
    "_debug_render_only": st.booleans(),
}
BODY = st.fixed_dictionaries({}, optional=FIELDS) | ANYTHING
PATHS = st.sampled_from(
    [
        "POST /api/chat",
        "POST /api/generate",
        "POST /api/create",
        "POST /api/copy",
        "DELETE /api/delete",
        "POST /api/show",
        "GET /api/tags",
    ]
)


class _NoEngine(Engine):
    """Checks a model as the engine does, and has no process to give."""

    @contextlib.asynccontextmanager
    async def using(
        self, stored: Stored, context: int = 0, keep_seconds: float | None = None
    ) -> AsyncIterator[Runner]:
        verify(stored)
        raise Refusal(503, "no runner here")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ollama")
    content = small.write_small_gguf(
        folder / "small.gguf", small.HELLO, **{"x.nan": float("nan")}
    ).read_bytes()
    store, digest = Store(folder), hashlib.sha256(content).hexdigest()
    store.blob(f"sha256:{digest}").write_bytes(content)
    store.put("small", Manifest(f"sha256:{digest}"))
    return folder


def ask(folder: Path, method: str, path: str, content: bytes) -> httpx.Response:
    """One request to a server over that folder."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(
            make_app(Store(folder), _NoEngine(folder), is_own=lambda *_: True),
            raise_app_exceptions=False,
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(asked())


@settings(max_examples=600, deadline=None)
@given(PATHS, BODY)
def test_any_body(folder: Path, path: str, body: Any) -> None:
    if (
        path == "DELETE /api/delete"
        and isinstance(body, dict)
        and "small" in (body.get("model"), body.get("name"))
    ):
        return
    reply = ask(folder, *path.split(), json.dumps(body).encode())
    assert reply.status_code in (200, 400, 404, 503), reply.text
    assert all(isinstance(json.loads(line), dict) for line in reply.content.splitlines())


@settings(max_examples=300, deadline=None)
@given(
    PATHS,
    st.binary(max_size=60)
    | st.text('[]{}",:0123456789.eE+-\\u truefalsn', max_size=60).map(str.encode),
)
def test_any_bytes(folder: Path, path: str, content: bytes) -> None:
    assert ask(folder, *path.split(), content).status_code in (200, 400, 404)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=80))
def test_any_digest(folder: Path, name: str) -> None:
    path = f"/api/blobs/{quote(name, safe='', errors='replace')}"
    assert ask(folder, "POST", path, b"x").status_code in (400, 404, 405, 307)


DEEP_FORMAT = b'{"model": "small", "format": ' + b'{"a":' * 100 + b"1" + b"}" * 101


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, DEEP_FORMAT])
def test_deep_nesting_is_refused(folder: Path, content: bytes) -> None:
    assert ask(folder, "POST", "/api/chat", content).status_code == 400


def test_a_body_too_large_is_refused(folder: Path) -> None:
    reply = ask(folder, "POST", "/api/chat", b'{"model": "' + b"x" * MAX_BODY + b'"}')
    assert reply.status_code == 413 and "bytes" in reply.json()["error"]


def test_a_number_that_json_has_no_word_for(folder: Path) -> None:
    assert (
        ask(folder, "POST", "/api/show", b'{"model": "small"}').json()["model_info"]["x.nan"]
        is None
    )
    assert (
        ask(
            folder, "POST", "/api/chat", b'{"model": "small", "format": {"minimum": NaN}}'
        ).status_code
        == 400
    )


def test_a_model_whose_file_is_gone_takes_nothing_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("gone", Manifest(f"sha256:{'0' * 64}"))
    assert ask(tmp_path, "GET", "/api/tags", b"").json() == {"models": []}
    assert ask(tmp_path, "POST", "/api/show", b'{"model": "gone"}').status_code == 400
    assert ask(tmp_path, "DELETE", "/api/delete", b'{"model": "gone"}').status_code == 200
