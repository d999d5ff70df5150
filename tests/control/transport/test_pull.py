import errno
import json
import os
import shutil
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract.files import digest as digests
from remote.contract.job.jobs import Artifact, Cause
from remote.control import retry
from remote.control.errors import ArtifactCorrupt, BoxUnreachable, JobFailed
from remote.control.project import CODE
from remote.control.transport.pull import download
from remote.control.transport.pull import pull as pulling
from remote.control.transport.pull.partial import Partial
from remote.control.transport.pull.pull import pull
from tests.contract.safetensors_files import write_safetensors
from tests.control.transport.counted import Counted
from tests.integration import boxes

ROOT = "windlass"
CONTENT = os.urandom(3_000_000)


@pytest.fixture
def box(tmp_path):
    """Nothing is deployed there: the sender comes with its command."""
    return boxes.folder_box(tmp_path / "home")


def made(box, name, content=CONTENT):
    """An artifact on the box: a file, or a folder when `content` is a dict."""
    path = box.home / ROOT / "jobs/j/artifacts" / name
    for part, part_content in (content if isinstance(content, dict) else {"": content}).items():
        target = path / part if part else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(part_content)
    return Artifact(
        f"jobs/j/artifacts/{name}", digests.size_of(path), digests.of_path(path), path.is_dir()
    )


class Cut:
    """The box, with a connection that is lost after some bytes; `calls` times, then it stays
    away."""

    def __init__(self, inner, size, calls=1000):
        self.inner, self.size, self.calls, self.where = inner, size, calls, inner.where

    def open(self, *words, **options):
        from tests.control.jobs.cut import CutStream

        self.calls -= 1
        if self.calls < 0:
            raise BoxUnreachable("nobody answers", where=self.where)
        return CutStream(self.inner.open(*words, **options), self.size)


def parts_in(folder):
    return [path for path in folder.iterdir() if path.name.endswith(".partial")]


def test_a_file_arrives(box, tmp_path):
    artifact = made(box, "a.bin")
    seen = []
    assert (
        pull(box, ROOT, artifact, tmp_path / "new/here.bin", seen.append)
        == tmp_path / "new/here.bin"
    )
    assert (tmp_path / "new/here.bin").read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT) and seen == sorted(seen) and len(seen) > 3
    assert os.listdir(tmp_path / "new") == ["here.bin"]


def test_a_file_goes_into_a_folder_under_its_own_name(box, tmp_path):
    assert pull(box, ROOT, made(box, "a.bin"), tmp_path) == tmp_path / "a.bin"


def test_a_folder_arrives(box, tmp_path):
    content = {"x/one": b"1" * 100_000, "two": b"", "x/y/drei ü": b"\n\n"}
    pull(box, ROOT, made(box, "adapter", content), tmp_path / "adapter")
    files = digests.files_in(tmp_path / "adapter")
    assert {
        path.relative_to(tmp_path / "adapter").as_posix(): path.read_bytes() for path in files
    } == content


@pytest.mark.parametrize("refused", ["EINVAL", "ENOSYS"])
def test_a_kernel_that_does_not_copy_into_a_pipe(box, tmp_path, monkeypatch, refused):
    refusing = (
        f"import errno, os\ndef sendfile(*words): raise OSError(errno.{refused}, 'no')\nos.sendfile"
        " = sendfile\n"
    )
    monkeypatch.setattr(pulling, "CODE", tmp_path / "code")
    sender = tmp_path / "code/remote/payload/transfer/send.py"
    sender.parent.mkdir(parents=True)
    sender.write_text(refusing + (CODE / "remote/payload/transfer/send.py").read_text())
    assert pull(box, ROOT, made(box, "a.bin"), tmp_path / "a").read_bytes() == CONTENT


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
    assert os.listdir(tmp_path / "f") == ["new"] and sorted(
        set(os.listdir(tmp_path)) - {"home"}
    ) == ["a", "f"]


CONTENTS = pytest.mark.parametrize(
    "content", [CONTENT, {"a": CONTENT[:1_000_000], "b/c": CONTENT}], ids=["file", "folder"]
)


@CONTENTS
def test_a_lost_connection_is_nothing_within_one_call(box, tmp_path, content, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    artifact, told, seen, looked = made(box, "it", content), [], [], []
    cut = Cut(box, 700_000)
    pull(
        cut,
        ROOT,
        artifact,
        tmp_path / "it",
        seen.append,
        told.append,
        look=lambda: looked.append(1),
    )
    assert (
        digests.of_path(tmp_path / "it") == artifact.sha256
        and seen == sorted(seen)
        and seen[-1] == artifact.size
    )
    assert (
        1000 - cut.calls > 4
        and "connection lost" in told[0]
        and len(looked) == len(told) == 999 - cut.calls
    )


@CONTENTS
def test_what_came_is_kept_to_the_byte_and_the_next_call_goes_on(box, tmp_path, content):
    artifact = made(box, "it", content)
    with pytest.raises(BoxUnreachable) as caught:
        pull(Cut(box, 1_500_000, calls=1), ROOT, artifact, tmp_path / "it", patience_seconds=0.1)
    (part,) = parts_in(tmp_path)
    partial = Partial(part, artifact)
    partial.close()
    kept = partial.done
    assert not (tmp_path / "it").exists() and kept > 1_400_000
    assert (
        caught.value.kept
        == f"1.5 MB of {artifact.size / 1e6:.1f} MB are kept; the same command goes on there"
    )
    seen, before = [], box.round_trips
    counted = Counted(box)
    pull(counted, ROOT, artifact, tmp_path / "it", seen.append)
    assert (
        digests.of_path(tmp_path / "it") == artifact.sha256
        and min(seen) == kept
        and box.round_trips == before + 1
    )
    assert counted.said < artifact.size - kept + 1000, "no byte came twice"
    assert sorted(os.listdir(tmp_path)) == ["home", "it"]


def test_everything_had_come_when_the_laptop_died(box, tmp_path):
    artifact = made(box, "a.bin")
    partial = Partial(tmp_path / f".a.{artifact.sha256[:12]}.partial", artifact)
    partial.set_files([("", artifact.size)])
    partial.write(0, CONTENT)
    partial.close()
    before = box.round_trips
    assert (
        pull(box, ROOT, artifact, tmp_path / "a").read_bytes() == CONTENT
        and box.round_trips == before
    )


@pytest.mark.parametrize("damage", ["bytes", "cut", "journal", "torn", "strange", "other files"])
def test_a_damaged_part_is_fetched_anew(box, tmp_path, damage):
    artifact = made(box, "a.bin")
    with pytest.raises(BoxUnreachable):
        pull(Cut(box, 1_500_000, calls=1), ROOT, artifact, tmp_path / "a", patience_seconds=0.1)
    part, journal = (
        tmp_path / f".a.{artifact.sha256[:12]}.partial",
        tmp_path / f".a.{artifact.sha256[:12]}.arrived",
    )
    match damage:
        case "bytes":
            with part.open("r+b") as file:
                file.write(b"damage")
        case "cut":
            os.truncate(part, 1000)
        case "journal":
            journal.unlink()
        case "torn":
            journal.write_bytes(journal.read_bytes() + b"99")
        case "strange":
            journal.write_bytes(journal.read_bytes() + b"99 x\n")
        case "other files":
            journal.write_bytes(b'[["", 5]]\n')
    assert pull(box, ROOT, artifact, tmp_path / "a").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path)) == ["a", "home"]


def test_an_empty_file_and_an_empty_folder(box, tmp_path):
    assert pull(box, ROOT, made(box, "nothing", b""), tmp_path / "a").read_bytes() == b""
    (box.home / ROOT / "jobs/j/artifacts/bare").mkdir()
    pull(box, ROOT, made(box, "bare", {}), tmp_path / "f")
    assert (tmp_path / "f").is_dir() and not os.listdir(tmp_path / "f")


def test_what_changes_while_it_is_sent_is_told(box, tmp_path, monkeypatch):
    artifact = made(box, "a.bin")
    monkeypatch.setattr(download, "BLOCK_BYTES", 300_000)

    def shorten(done):
        os.truncate(box.home / ROOT / artifact.path, 100)

    with pytest.raises(ArtifactCorrupt, match="does not verify") as caught:
        pull(box, ROOT, artifact, tmp_path / "a", shorten)
    assert "has changed while it was sent" in caught.value.why and not (tmp_path / "a").exists()


def test_links_in_a_folder_come_as_what_they_mean(box, tmp_path):
    folder = box.home / ROOT / "jobs/j/artifacts/f"
    made(box, "f", {"one": b"1", "deep/two": b"22"})
    (folder / "link").symlink_to("one")
    artifact = made(box, "f", {})
    pull(box, ROOT, artifact, tmp_path / "f")
    assert (
        digests.of_path(tmp_path / "f") == artifact.sha256
        and (tmp_path / "f/link").read_bytes() == b"1"
    )


def test_more_files_than_may_be_open(box, tmp_path):
    content = {f"{number:03}/x": bytes([number]) * 100 for number in range(200)}
    artifact = made(box, "many", content)
    pull(box, ROOT, artifact, tmp_path / "many")
    assert digests.of_path(tmp_path / "many") == artifact.sha256


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


@pytest.mark.parametrize(
    "files",
    [[["../../out", 1]], [["/etc/out", 1]], [["b", 1], ["a", 0]], [["", 1]], [["a", 2], ["b", -1]]],
)
def test_names_that_lead_out_and_other_lies_are_refused(tmp_path, files):
    hostile = HostileBox(json.dumps({"files": files}).encode() + b"\nx")
    with pytest.raises(ArtifactCorrupt, match="does not verify"):
        pull(
            hostile,
            ROOT,
            Artifact("jobs/j/artifacts/f", 1, "0" * 64, is_folder=True),
            tmp_path / "deep/er/f",
        )
    assert not (tmp_path / "deep/er/f").exists()


@pytest.mark.parametrize("said", [b"Welcome!\n", b"[]\n", b'{"odd": 1}\n'])
def test_a_shell_that_talks(tmp_path, said):
    with pytest.raises(JobFailed, match="not understood") as caught:
        pull(HostileBox(said), ROOT, Artifact("jobs/j/artifacts/f", 1, "0" * 64), tmp_path / "f")
    assert ".bashrc" in caught.value.remedy


def test_more_than_was_asked_for_is_no_artifact(tmp_path):
    hostile = HostileBox(b'{"files": [["", 4]]}\nwilder')
    with pytest.raises(ArtifactCorrupt) as caught:
        pull(hostile, ROOT, Artifact("jobs/j/artifacts/f", 4, "0" * 64), tmp_path / "f")
    assert "more than it was asked for" in caught.value.why and not (tmp_path / "f").exists()


def test_a_list_of_files_without_an_end_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LONGEST_LIST_BYTES", 100)
    hostile = HostileBox(b'{"files": [' + b" " * 200)
    with pytest.raises(ArtifactCorrupt) as caught:
        pull(hostile, ROOT, Artifact("jobs/j/artifacts/f", 4, "0" * 64), tmp_path / "f")
    assert "does not end" in caught.value.why


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

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(JobFailed, match="laptop's disk is full"):
        pull(box, ROOT, artifact, tmp_path / "a")


# ---- a box that lies, and what lies beside the part ----


def hostile_pull(content, folder, is_folder=False, size=4, **facts):
    artifact = Artifact(
        **{
            "path": "jobs/j/artifacts/f",
            "size": size,
            "sha256": "0" * 64,
            "is_folder": is_folder,
            **facts,
        }
    )
    with pytest.raises((ArtifactCorrupt, JobFailed)) as caught:
        pull(HostileBox(content), ROOT, artifact, folder / "f")
    assert not (folder / "f").exists()
    return caught.value


@pytest.mark.parametrize(
    "files",
    [
        [["a", 2], ["a/b", 2]],
        [["a/b", 2], ["a/b/c", 2]],
        [["a\0", 4]],
        [["a//b", 4]],
        [["./a", 4]],
        [["x" * 300, 4]],
        [["\ud800", 4]],
        [[7, 4]],
        [["a", "4"]],
        [["a", 4.0]],
        [["a", True]],
        [["a", 1 << 70], ["b", -(1 << 70)]],
        [["a"]],
        [["a", 4, 4]],
        ["ab"],
        [None],
        "ab",
        None,
        7,
        {},
        [["a", 2], ["a", 2]],
    ],
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_list_of_files_that_cannot_be(tmp_path, files, is_folder):
    error = hostile_pull(json.dumps({"files": files}).encode() + b"\nabcd", tmp_path, is_folder)
    assert error.where == "box hostile" and "run the same command again" in error.remedy


@pytest.mark.parametrize("error", [5, [], {}, {"what": 7}, {"what": ["x"], "remedy": None}, None])
def test_an_error_of_a_box_that_is_none(tmp_path, error):
    assert hostile_pull(json.dumps({"error": error}).encode() + b"\n", tmp_path).what


def test_a_list_that_is_deep_or_endless(tmp_path):
    assert "not understood" in hostile_pull(b"[" * 100_000 + b"\n", tmp_path).what
    began = time.monotonic()
    error = hostile_pull(
        b'{"files": [' + b'["a",0],' * (20 << 20 >> 3) + b"\n", tmp_path, is_folder=True, size=0
    )
    assert time.monotonic() - began < 20 and "16.8 MB" in error.why
    many = json.dumps({"files": [[f"{number:07}", 0] for number in range(200_000)]}).encode()
    assert (
        "200,000 files; at most 100,000"
        in hostile_pull(many + b"\n", tmp_path, is_folder=True, size=0).why
    )


@pytest.mark.parametrize("sha256", ["../../../etc/x", "/etc/passwd", "", "A" * 64, "0" * 63])
def test_a_digest_that_is_none_names_no_file(tmp_path, sha256):
    assert "SHA-256" in hostile_pull(b"", tmp_path, sha256=sha256).why
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["", "..", "jobs/..", "/etc/passwd", "a/../../b", "x\0y"])
def test_a_path_that_is_none_names_no_file(tmp_path, path):
    with pytest.raises(ArtifactCorrupt, match="does not verify"):
        pull(HostileBox(b""), ROOT, Artifact(path, 4, "0" * 64), tmp_path)
    assert os.listdir(tmp_path) == []


@given(
    st.binary(max_size=200)
    | st.text('[]{},:"0123456789 filesaerror.-/', max_size=60).map(str.encode)
)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_answer_ends_with_one_error(tmp_path, content):
    for ending in (b"", b"\n"):
        with pytest.raises((ArtifactCorrupt, JobFailed, BoxUnreachable)):
            pull(
                HostileBox(content + ending),
                ROOT,
                Artifact("jobs/j/artifacts/f", 4, "0" * 64),
                tmp_path / "f",
                patience_seconds=0,
            )


numbers = st.integers(-9, 2 << 40) | st.integers(0, 10)
ranges = st.lists(st.tuples(numbers, numbers), max_size=5).map(
    lambda found: "".join(f"{start} {end}\n" for start, end in found).encode()
)


@given(st.binary(max_size=80) | ranges)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_journal_is_gone_on_with_or_begun_anew(tmp_path, lines):
    artifact = Artifact("jobs/j/artifacts/f", 10, "0" * 64)
    for first in (b'[["", 10]]\n', b""):
        (tmp_path / ".f.partial").write_bytes(b"x" * 10)
        (tmp_path / ".f.arrived").write_bytes(first + lines)
        partial = Partial(tmp_path / ".f.partial", artifact)
        assert 0 <= partial.done <= 10 and all(
            0 <= start < end <= 10 for start, end in partial.missing()
        )
        partial.remove()


def test_thousands_of_empty_files_arrive_in_reasonable_time(tmp_path):
    names = [f"{number // 1000:03}/{number:06}" for number in range(20_000)]
    empty = digests.of_bytes(b"")
    sha256 = digests.of_lines([f"{empty}  {name}" for name in names])
    partial, began = (
        Partial(tmp_path / ".f.partial", Artifact("f", 0, sha256, is_folder=True)),
        time.monotonic(),
    )
    partial.set_files([[name, 0] for name in names])
    assert partial.is_complete and partial.digest() == sha256 and time.monotonic() - began < 60
    partial.remove()


def test_names_that_are_no_utf8_come_home(box, tmp_path):
    content = {os.fsdecode(b"caf\xe9"): b"1", "new\nline": b"2", "-dash": b"3"}
    artifact = made(box, "odd", content)
    assert {
        path.name: path.read_bytes()
        for path in pull(box, ROOT, artifact, tmp_path / "odd").iterdir()
    } == content


def test_a_link_stands_where_the_artifact_shall(box, tmp_path):
    """What the link leads to is left alone."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/kept").write_text("mine")
    (tmp_path / "f").symlink_to("theirs")
    pull(box, ROOT, made(box, "f", {"new": b"n"}), tmp_path / "f")
    assert os.listdir(tmp_path / "f") == ["new"] and not (tmp_path / "f").is_symlink()
    assert (tmp_path / "theirs/kept").read_text() == "mine"
    (tmp_path / "one").symlink_to("theirs/kept")
    pull(box, ROOT, made(box, "one", b"new"), tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"new" and (
        tmp_path / "theirs/kept"
    ).read_text() == "mine"


def test_links_on_the_box_come_as_what_they_lead_to(box, tmp_path):
    artifact = made(box, "f", {"a": b"1"})
    folder = (
        box.home / artifact.path
        if (box.home / artifact.path).exists()
        else box.home / ROOT / artifact.path
    )
    (folder / "link").symlink_to("a")
    (folder / "gone").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "around").symlink_to(".")
    os.mkfifo(folder / "pipe")
    artifact = Artifact(
        artifact.path, digests.size_of(folder), digests.of_path(folder), is_folder=True
    )
    pull(box, ROOT, artifact, tmp_path / "f")
    assert {path.name: path.is_symlink() for path in (tmp_path / "f").iterdir()} == {
        "a": False,
        "link": False,
    }
