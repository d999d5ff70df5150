"""The pinned Ollama: never without its checksum, unpacked whole or not at all; over real HTTP, from
a real archive."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile

import pytest

from remote.control import text
from remote.payload import ollama
from remote.payload.job import StageFailed
from remote.payload.transfer import download
from tests.hub_server import serving

BINARY = b"#!/bin/sh\necho serving on $OLLAMA_HOST\n"


def archive(kind):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("bin/ollama")
        entry.size, entry.mode = len(BINARY), 0o755
        tar.addfile(entry, io.BytesIO(BINARY))
    if kind == "tar":
        return packed.getvalue()
    return subprocess.run(
        ["zstd", "-q", "-c"], input=packed.getvalue(), capture_output=True, check=True
    ).stdout


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(download, "_FIRST_PAUSE_SECONDS", 0.001)
    with serving() as hub:
        yield hub


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch, tmp_path):
    monkeypatch.setattr(ollama, "SYSTEMD", tmp_path / "no-systemd")


def release(hub, kind="tar"):
    content = archive(kind)
    hub.repos["releases/v1"] = {f"ollama.{'tar.zst' if kind == 'zstd' else 'tar'}": content}
    (name,) = hub.repos["releases/v1"]
    return ollama.Release(
        "1.2.3", f"{hub.store}/releases/v1/{name}", hashlib.sha256(content).hexdigest()
    )


@pytest.mark.parametrize(
    "kind",
    [
        "tar",
        pytest.param(
            "zstd", marks=pytest.mark.skipif(not shutil.which("zstd"), reason="needs zstd")
        ),
    ],
)
def test_it_is_installed_once(hub, tmp_path, kind):
    wanted = release(hub, kind)
    done = ollama.install(wanted, tmp_path, "", lambda line: None)
    binary = tmp_path / "shared/ollama/current/bin/ollama"
    assert binary.read_bytes() == BINARY and os.access(binary, os.X_OK)
    assert (done["version"], done["was_there"]) == ("1.2.3", False)
    assert "not started" in done["state"]
    hub.requests.clear()
    assert ollama.install(wanted, tmp_path, "", lambda line: None)["was_there"]
    assert hub.requests == []
    assert sorted(path.name for path in (tmp_path / "shared/ollama").iterdir()) == [
        "1.2.3",
        "current",
        "models",
    ]


def test_another_archive_than_the_pinned_one_is_not_unpacked(hub, tmp_path):
    hub.damaged = {"ollama.tar"}
    with pytest.raises(StageFailed, match="not what its source says"):
        ollama.install(release(hub), tmp_path, "", lambda line: None)
    assert not (tmp_path / "shared/ollama/1.2.3").exists()


def test_a_release_without_a_checksum_is_refused(hub, tmp_path):
    with pytest.raises(StageFailed, match="no checksum"):
        ollama.install(
            ollama.Release("1.2.3", f"{hub.store}/releases/v1/ollama.tar", ""),
            tmp_path,
            "",
            lambda line: None,
        )
    assert hub.requests == []


def test_a_newer_pin_takes_the_link(hub, tmp_path):
    first = release(hub)
    ollama.install(first, tmp_path, "", lambda line: None)
    ollama.install(
        ollama.Release("1.2.4", first.url, first.sha256), tmp_path, "", lambda line: None
    )
    assert (tmp_path / "shared/ollama/current").readlink().name == "1.2.4"


def test_every_pinned_release_has_its_checksum():
    for pinned in ollama.RELEASES.values():
        assert re.fullmatch(r"[0-9a-f]{64}", pinned.sha256)
        assert f"/v{pinned.version}/" in pinned.url


def test_the_unit_listens_on_loopback_and_runs_as_the_boxs_user(tmp_path):
    unit = text.render("windlass-ollama.service.j2", root="@ROOT@", user="ubuntu")
    assert "Environment=OLLAMA_HOST=127.0.0.1:11434\n" in unit
    assert "User=ubuntu\n" in unit
    assert "ExecStart=@ROOT@/shared/ollama/current/bin/ollama serve\n" in unit
    if shutil.which("systemd-analyze"):
        path = tmp_path / ollama.UNIT
        binary = tmp_path / "shared/ollama/current/bin/ollama"
        binary.parent.mkdir(parents=True)
        binary.write_bytes(BINARY)
        binary.chmod(0o755)
        path.write_text(unit.replace("@ROOT@", str(tmp_path)).replace("User=ubuntu", "User=root"))
        done = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
