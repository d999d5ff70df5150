"""What a full disk looks like from the outside: from the store up to the words for the user."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MethodType

import httpx
import pytest

from remote.control.errors import OllamaError
from remote.control.serving.ollama import Ollama
from remote.embedded.ollama.app import make_app
from remote.embedded.ollama.engine import Engine
from remote.embedded.ollama.store import Store

DIGEST = "sha256:" + "0" * 64


async def _full(self: Store, name: str, pieces: AsyncIterator[bytes], size: int = 0) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/models/blob")


def test_the_server_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.receive = MethodType(_full, store)  # type: ignore[method-assign]

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(store, Engine(tmp_path), is_own=lambda *_: True))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(f"/api/blobs/{DIGEST}", content=b"x")

    reply = asyncio.run(post())
    assert reply.status_code == 500 and reply.json() == {
        "error": "no space left on device: /models/blob"
    }


class _FullServer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = b'{"error": "write /root/.ollama/models/blobs: no space left on device"}'
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_client_says_what_to_do() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _FullServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(OllamaError, match=f"Ollama at {url} refused") as caught:
            Ollama(url).create("new", files={"x": DIGEST})
        server.shutdown()
        thread.join()
    assert (
        "no space left" in caught.value.why
        and "free disk space" in caught.value.remedy
        and "-> 500" in caught.value.where
    )


def test_start_clears_what_nobody_can_ask_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    half, old, young = (
        tmp_path / "blobs" / name
        for name in (".ab.partial", "sha256-" + "a" * 64, "sha256-" + "b" * 64)
    )
    for path in (half, old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    store.prune()
    assert [path.exists() for path in (half, old, young)] == [False, False, True]
