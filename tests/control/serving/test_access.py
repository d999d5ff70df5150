"""Who may ask the embedded Ollama: its own user, by its own name, and no web page that was not
admitted."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from remote.embedded.ollama.access import Access

HOST = (b"host", b"127.0.0.1:5000")
OWN = (b"origin", b"http://127.0.0.1:5000")


def status(
    headers: Sequence[tuple[bytes, bytes]],
    origins: Sequence[str] = (),
    is_own: bool = True,
    **more: object,
) -> int:
    """The status of the answer to a request with these headers."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "headers": list(headers),
        "client": ("127.0.0.1", 9),
        "server": ("127.0.0.1", 5000),
    }
    access = Access(PlainTextResponse("in"), origins, lambda *_: is_own)
    asyncio.run(access({**scope, **more}, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5000", "localhost", "localhost:1", "[::1]:5000", "127.0.0.1"]
)
def test_its_own_names(host: str) -> None:
    assert status([(b"host", host.encode())]) == 200


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["evil.example"],
        ["evil.example:5000"],
        ["127.0.0.1.evil.example"],
        ["evil@localhost"],
        ["localhost/x"],
        ["localhost:5000:1"],
        ["localhost "],
        ["localhost\n"],
        ["127.0.0.1", "evil.example"],
        ["LOCALHOST.evil"],
        ["0.0.0.0:5000"],
        ["127.0.0.2"],
        ["localhost:"],
    ],
)
def test_any_other_name(hosts: list[str]) -> None:
    assert status([(b"host", host.encode()) for host in hosts]) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "http://127.0.0.1:5001",
        "https://127.0.0.1:5000",
        "null",
        "app://x",
        "http://127.0.0.1",
        "",
        "file://",
        "http://localhost:5000",
    ],
)
def test_no_other_origin(origin: str) -> None:
    assert status([HOST, (b"origin", origin.encode())]) == 403


def test_its_own_origin_and_those_that_are_named() -> None:
    named = (b"origin", b"app://obsidian.md")
    assert (
        status([HOST, OWN]) == 200
        and status([HOST, named]) == 403
        and status([HOST, named], ["app://obsidian.md"]) == 200
    )
    assert status([HOST, (b"origin", b"app://obsidian.md.evil")], ["app://obsidian.md"]) == 403
    assert status([HOST, named, (b"origin", b"http://evil.example")], ["app://obsidian.md"]) == 403


@pytest.mark.parametrize(
    ("site", "expected"),
    [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)],
)
def test_a_page_that_sends_no_origin(site: str, expected: int) -> None:
    assert status([HOST, (b"sec-fetch-site", site.encode())]) == expected


def test_another_user() -> None:
    assert status([HOST], is_own=False) == 403
    assert status([HOST], client=None) == 403 and status([HOST], server=None) == 403
