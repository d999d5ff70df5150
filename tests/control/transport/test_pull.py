import errno
import os
import shutil

import pytest

from remote.contract import digest as digests
from remote.contract.jobs import Artifact, Cause
from remote.control.errors import ArtifactCorrupt, BoxUnreachable, JobFailed
from remote.control.transport import pull as pulling
from remote.control.transport.pull import pull
from tests.contract.safetensors_files import write_safetensors
from tests.integration import boxes

ROOT = "windlass"
CONTENT = os.urandom(3_000_000)


@pytest.fixture
def box(box, code):
    boxes.deploy_stages(box, code)
    return box


def made(box, name, content=CONTENT):
    """An artifact on the box: a file, or a folder when `content` is a dict."""
    path = box.home / ROOT / "jobs/j/artifacts" / name
    for part, part_content in (content if isinstance(content, dict) else {"": content}).items():
        target = path / part if part else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(part_content)
    return Artifact(f"jobs/j/artifacts/{name}", digests.size_of(path), digests.of_path(path), path.is_dir())


class Cut:
    """The box, with a connection that is lost after some bytes."""

    def __init__(self, inner, size):
        self.inner, self.size, self.where = inner, size, inner.where

    def open(self, *words, **options):
        from tests.control.jobs.cut import CutStream

        return CutStream(self.inner.open(*words, **options), self.size)


def test_a_file_arrives(box, tmp_path):
    artifact = made(box, "a.bin")
    seen = []
    assert pull(box, ROOT, artifact, tmp_path / "new/here.bin", seen.append) == tmp_path / "new/here.bin"
    assert (tmp_path / "new/here.bin").read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT) and seen == sorted(seen) and len(seen) > 3
    assert os.listdir(tmp_path / "new") == ["here.bin"]


def test_a_file_goes_into_a_folder_under_its_own_name(box, tmp_path):
    assert pull(box, ROOT, made(box, "a.bin"), tmp_path) == tmp_path / "a.bin"


def test_a_folder_arrives(box, tmp_path):
    content = {"x/one": b"1" * 100_000, "two": b"", "x/y/drei ü": b"\n\n"}
    pull(box, ROOT, made(box, "adapter", content), tmp_path / "adapter")
    files = digests.files_in(tmp_path / "adapter")
    assert {path.relative_to(tmp_path / "adapter").as_posix(): path.read_bytes() for path in files} == content


def test_what_is_whole_is_not_sent_again(box, tmp_path):
    artifact = made(box, "a.bin")
    pull(box, ROOT, artifact, tmp_path / "a")
    before = box.round_trips
    pull(box, ROOT, artifact, tmp_path / "a")
    assert box.round_trips == before


def test_other_content_of_that_name_is_replaced(box, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/old").write_bytes(b"old")
    assert pull(box, ROOT, made(box, "a.bin"), tmp_path / "a").read_bytes() == CONTENT
    pull(box, ROOT, made(box, "f", {"new": b"n"}), tmp_path / "f")
    assert os.listdir(tmp_path / "f") == ["new"] and sorted(set(os.listdir(tmp_path)) - {"home"}) == ["a", "f"]


@pytest.mark.parametrize("content", [CONTENT, {"a": CONTENT[:1_000_000], "b/c": CONTENT}], ids=["file", "folder"])
def test_a_lost_connection_keeps_the_part_and_goes_on(box, tmp_path, content):
    artifact = made(box, "it", content)
    with pytest.raises(BoxUnreachable) as caught:
        pull(Cut(box, 1_500_000), ROOT, artifact, tmp_path / "it")
    assert not (tmp_path / "it").exists() and "bytes are kept" in caught.value.kept
    kept = [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    assert len(kept) == 1 and digests.size_of(kept[0]) > 1_000_000
    before, seen = digests.size_of(kept[0]), []
    pull(box, ROOT, artifact, tmp_path / "it", seen.append)
    assert digests.of_path(tmp_path / "it") == artifact.sha256 and min(seen) > min(before, 1_000_000)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_a_damaged_part_is_fetched_anew(box, tmp_path):
    artifact = made(box, "a.bin")
    (tmp_path / f".a.{artifact.sha256[:12]}.partial").write_bytes(b"\0" * 1000)
    assert pull(box, ROOT, artifact, tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_fetched_anew(box, tmp_path):
    artifact = made(box, "a.bin", b"short")
    (tmp_path / f".a.{artifact.sha256[:12]}.partial").write_bytes(b"\0" * 1000)
    assert pull(box, ROOT, artifact, tmp_path / "a").read_bytes() == b"short"


def test_what_changed_on_the_box_is_refused(box, tmp_path):
    artifact = made(box, "a.bin")
    made(box, "a.bin", CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(ArtifactCorrupt, match="does not verify"):
        pull(box, ROOT, artifact, tmp_path / "a")
    made(box, "a.bin", CONTENT + b"more")
    with pytest.raises(ArtifactCorrupt, match="does not verify"):
        pull(box, ROOT, artifact, tmp_path / "a")
    assert os.listdir(tmp_path) == ["home"]


def test_safetensors_headers_are_proved(box, tmp_path):
    path = tmp_path / "t"
    write_safetensors(path, {"a": ("F32", [2], b"12345678")})
    whole, cut = path.read_bytes(), path.read_bytes()[:-1]
    path.unlink()
    pull(box, ROOT, made(box, "good/adapter_model.safetensors", whole), tmp_path / "good")
    for name, content in (("m.safetensors", cut), ("folder", {"m.safetensors": cut})):
        with pytest.raises(ArtifactCorrupt) as caught:
            pull(box, ROOT, made(box, name, content), tmp_path / "bad")
        assert "its header speaks of" in caught.value.why
    assert not (tmp_path / "bad").exists()


def test_an_artifact_that_is_gone(box, tmp_path):
    with pytest.raises(ArtifactCorrupt, match="not on the box any more") as caught:
        pull(box, ROOT, Artifact("jobs/j/artifacts/gone", 1, "0" * 64), tmp_path / "a")
    assert "resume" in caught.value.remedy


@pytest.mark.parametrize("name", ["../../out", "/etc/out"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    hostile = HostileBox(f'{{"name": "{name}", "offset": 0, "size": 1}}\nx{{"end": true}}\n'.encode())
    with pytest.raises(ArtifactCorrupt, match="leads out"):
        pull(hostile, ROOT, Artifact("jobs/j/artifacts/f", 1, "0" * 64, is_folder=True), tmp_path / "deep/er/f")


class HostileBox:
    where, exit_code, stderr = "box hostile", 0, b""

    def __init__(self, content):
        self.content = content

    def open(self, *words, **options):
        return self

    def __iter__(self):
        yield self.content

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def test_a_full_laptop_is_told_before_and_during(box, tmp_path, monkeypatch):
    artifact = made(box, "a.bin")
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(JobFailed, match="laptop's disk is full") as caught:
            pull(box, ROOT, artifact, tmp_path / "a")
        assert caught.value.cause is Cause.DISK_FULL

    def full(*words):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield 0

    monkeypatch.setattr(pulling, "_write", full)
    with pytest.raises(JobFailed, match="laptop's disk is full"):
        pull(box, ROOT, artifact, tmp_path / "a")
