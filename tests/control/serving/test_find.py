"""Which Ollama is meant: addresses, and the order of the places asked."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from remote.control.config.inventory import Inventory
from remote.control.errors import OllamaError
from remote.control.serving import find
from remote.control.serving.find import Address, address_of, describe, find_ollama
from remote.control.serving.names import full, is_valid, sibling


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"version": "0.99.1", "models": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def somebodys() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)


def inventory(url: str | None) -> Inventory:
    return Inventory.model_validate(
        {"default_box": "demo", "boxes": {"demo": {"provider": "embedded"}}, "ollama": {"url": url}}
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:11434"),
        ("10.0.0.2:8000", "http://10.0.0.2:8000"),
        ("http://box.example", "http://box.example:80"),
        ("https://box.example/ollama/", "https://box.example:443/ollama"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":9000", "http://127.0.0.1:9000"),
        ("[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_addresses(host: str, url: str) -> None:
    assert address_of(host) == Address(url)


def test_an_address_that_is_none() -> None:
    with pytest.raises(OllamaError, match="not an address"):
        address_of("host:port")


def test_the_environment_goes_before(somebodys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", somebodys.removeprefix("http://"))
    for wish in ("embedded", "auto", "http://127.0.0.1:9", None):
        assert find_ollama(inventory(wish)).url == somebodys


def test_a_url_of_the_inventory(somebodys: str) -> None:
    assert find_ollama(inventory(somebodys)).url == somebodys
    with pytest.raises(OllamaError, match=r"does not answer at http://127\.0\.0\.1:9"):
        find_ollama(inventory("http://127.0.0.1:9"))


def test_auto_takes_a_local_one_that_answers(
    somebodys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "LOCAL", somebodys)
    assert find_ollama(inventory("auto")).url == somebodys
    monkeypatch.setattr(find, "LOCAL", "http://127.0.0.1:9")
    with pytest.raises(OllamaError, match="embedded Ollama is not running"):
        find_ollama(inventory("auto"), start=False)


def test_a_local_one_is_left_alone_unless_asked_for(
    somebodys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "LOCAL", somebodys)
    for choice in (inventory("embedded"), inventory(None), None):
        with pytest.raises(OllamaError, match="embedded Ollama is not running") as caught:
            find_ollama(choice, start=False)
        assert "./inv model.up" in caught.value.remedy


def test_describe(somebodys: str) -> None:
    assert describe(inventory("embedded")) == {
        "kind": "the embedded Ollama",
        "url": None,
        "running": False,
        "version": None,
        "loaded": [],
    }
    assert describe(inventory(somebodys)) == {
        "kind": "Ollama",
        "url": somebodys,
        "running": True,
        "version": "0.99.1",
        "loaded": [],
    }


def test_names() -> None:
    assert (
        full("a") == "a:latest"
        and full("host:5/ns/a:v1") == "host:5/ns/a:v1"
        and full("host:5/a") == "host:5/a:latest"
    )
    assert (
        sibling("a", "previous") == "a:previous" and sibling("a:v1", "previous") == "a:v1-previous"
    )
    assert all(map(is_valid, ("a", "a:b", "ns/a", "host:5/ns/a:v1.2-x_y")))
    assert not any(
        map(is_valid, ("", "../a", "a/../b", "a b", "a:b:c", "/a", "-a", "a/b/c/d", "a\n", "é"))
    )


@pytest.mark.parametrize(
    "host", ["http://us@r:p/w@127.0.0.1:1", "us:geheim/1@h", "http://u:geheim/x@h:1"]
)
def test_nothing_of_a_password_with_a_slash_is_shown(host):
    with pytest.raises(OllamaError) as caught:
        find.address_of(host)
    told = "\n".join(caught.value.lines())
    assert "geheim" not in told and "p/w" not in told and "%2F" in told
