"""Models on disk: what is proven before it is used, how much may be sent, and what a damaged file
takes with it: itself."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remote.embedded.ollama import store as module
from remote.embedded.ollama.store import Manifest, Store, verify
from remote.embedded.ollama.wire import Refusal
from tests.control.serving import small_gguf as small


def keep(store: Store, content: bytes, size: int = 0) -> str:
    """Send a blob; its digest."""
    name = f"sha256:{hashlib.sha256(content).hexdigest()}"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 100_000):
            yield content[at : at + 100_000]

    asyncio.run(store.receive(name, pieces(), size))
    return name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "ollama")


@pytest.fixture
def gguf(tmp_path: Path) -> bytes:
    return small.write_small_gguf(tmp_path / "small.gguf", small.HELLO).read_bytes()


def test_a_model_whose_bytes_were_changed_is_refused(store: Store, gguf: bytes) -> None:
    store.put("a", Manifest(keep(store, gguf)))
    stored = store.get("a")
    verify(stored)
    stored.path.write_bytes(gguf[:-1] + b"\x01")
    with pytest.raises(Refusal, match="changed or is damaged") as caught:
        verify(stored)
    assert caught.value.status == 400
    stored.path.write_bytes(gguf)
    verify(stored)


def test_what_is_no_gguf_is_refused_though_its_digest_is_right(store: Store) -> None:
    store.put("a", Manifest(keep(store, b"#!/bin/sh\n" * 100)))
    with pytest.raises(Refusal, match="invalid GGUF"):
        verify(store.get("a"))


def test_uploads_leave_room_on_the_disk(
    store: Store, gguf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda _: usage._replace(free=module._DISK_RESERVE + 1000)
    )
    with pytest.raises(Refusal, match="no space left") as caught:
        keep(store, gguf, len(gguf))
    assert caught.value.status == 507
    frees = iter([module._DISK_RESERVE + 1, module._DISK_RESERVE - 1])
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=next(frees)))
    monkeypatch.setattr(module, "_LOOK_EVERY", 200_000)
    with pytest.raises(Refusal, match="no space left"):  # a sender that does not say how much comes
        keep(store, gguf)
    assert not list((tmp_path / "ollama" / "blobs").iterdir())


BAD = [
    "",
    "{",
    "[]",
    "[" * 100_000,
    '{"model": 3}',
    '{"model": "x"}',
    '{"model": "../../etc/passwd"}',
    '{"strange": 1}',
    "\xff",
]


@pytest.mark.parametrize(
    "content", [*BAD, json.dumps({"model": f"sha256:{'0' * 64}", "messages": {}})]
)
def test_a_damaged_manifest_is_no_manifest(
    store: Store, gguf: bytes, tmp_path: Path, content: str
) -> None:
    store.put("good", Manifest(keep(store, gguf)))
    (tmp_path / "ollama" / "manifests" / "bad%3Alatest.json").write_text(content)
    assert [stored.name for stored in store.all()] == ["good:latest"]
    with pytest.raises(Refusal, match="not found"):
        store.get("bad")
    store.prune()
    verify(store.get("good"))


def test_start_keeps_blobs_while_a_manifest_is_damaged(
    store: Store, gguf: bytes, tmp_path: Path
) -> None:
    blob = store.blob(keep(store, gguf))
    os.utime(blob, (0, 0))
    bad = tmp_path / "ollama" / "manifests" / "bad%3Alatest.json"
    bad.write_text("{")
    store.prune()
    assert blob.exists()
    bad.unlink()
    store.prune()
    assert not blob.exists()


@pytest.mark.parametrize(
    "more",
    [
        {"llama.context_length": "many"},
        {"tokenizer.ggml.tokens": 3},
        {"general.file_type": [1]},
        {"tokenizer.ggml.bos_token_id": "x"},
        {"general.alignment": "x"},
        {"llama.context_length": -0.5e30},
    ],
)
def test_a_head_whose_values_are_of_a_wrong_type(
    store: Store, tmp_path: Path, more: dict[str, object]
) -> None:
    content = small.write_small_gguf(tmp_path / "odd.gguf", small.HELLO, **more).read_bytes()
    store.put("odd", Manifest(keep(store, content)))
    with pytest.raises(Refusal, match="invalid GGUF") as caught:
        verify(store.get("odd"))
    assert caught.value.status == 400
