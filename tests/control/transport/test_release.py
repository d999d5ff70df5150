import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from remote.contract.jobs import Cause, JobSpec, JobState, Status
from remote.contract.paths import BoxPaths
from remote.control.errors import ConfigError, JobFailed, PreflightFailed
from remote.control.project import CODE
from remote.control.transport import release as releases
from remote.control.transport.fake import FakeTransport
from remote.control.transport.release import build_release, deploy
from tests.integration import boxes


@pytest.fixture
def empty(tmp_path):
    """Requirements of nothing: an environment in a second."""
    path = tmp_path / "empty.txt"
    path.write_text("# nothing\n")
    return str(path)


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))


def small(tmp_path, text="a"):
    """A release of two modules and one file, with the real receiver and environment maker."""
    code = tmp_path / f"code-{text}"
    for name in ("remote/contract", "remote/payload"):
        (code / name).mkdir(parents=True)
    (code / "remote/__init__.py").write_text("")
    for name in ("contract/__init__", "contract/atomic", "contract/disk", "contract/paths", "payload/__init__", "payload/environment"):
        (code / f"remote/{name}.py").write_bytes((CODE / f"remote/{name}.py").read_bytes())
    (code / "words.txt").write_text(text)
    return build_release([code / "words.txt"], code)


def names(release):
    return [member.name for member in release.members]


def test_a_release_is_the_box_side_and_the_files(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text("{}\n")
    release = build_release([tmp_path / "data/rows.jsonl"])
    assert "files/data/rows.jsonl" in names(release) and "remote/__init__.py" in names(release)
    assert "remote/payload/supervise.py" in names(release) and "remote/contract/jobs.py" in names(release)
    assert not [name for name in names(release) if "__pycache__" in name or "control" in name]


def test_the_archive_is_the_same_bytes_each_time_whatever_times_and_owners(tmp_path):
    first = small(tmp_path)
    before = first.archive()
    for member in first.members:
        os.utime(member.source, (1, 1))
    again = build_release([tmp_path / "code-a/words.txt"], tmp_path / "code-a")
    assert (again.digest, again.archive()) == (first.digest, before)
    with tarfile.open(fileobj=io.BytesIO(before)) as archive:
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in archive} == {(0, 0, 0, "")}


def test_the_digest_is_of_content_names_and_executable_bits(tmp_path):
    release = small(tmp_path)
    assert small(tmp_path, "b").digest != release.digest
    words = tmp_path / "code-a/words.txt"
    words.chmod(0o755)
    assert build_release([words], tmp_path / "code-a").digest != release.digest


def test_files_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="1 finding"):
        build_release([tmp_path / "absent"])


def test_folders_travel_whole_and_files_from_elsewhere_keep_their_path(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "project"))
    (tmp_path / "corpus/deep").mkdir(parents=True)
    (tmp_path / "corpus/deep/a.txt").write_text("a")
    release = build_release([tmp_path / "corpus", CODE / "tasks.py"])
    assert {f"files/elsewhere{tmp_path}/corpus/deep/a.txt", "files/tasks.py"} <= set(names(release))


def test_every_module_of_the_real_release_imports_from_its_archive_alone(tmp_path):
    release = build_release([])
    with tarfile.open(fileobj=io.BytesIO(release.archive())) as archive:
        archive.extractall(tmp_path, filter="data")
    modules = sorted(name[:-3].replace("/", ".").removesuffix(".__init__") for name in names(release) if name.endswith(".py"))
    assert {"remote.payload.stages.train", "remote.payload.gguf.merge", "remote.contract.rows"} <= set(modules)
    # -I and -S: no site-packages, so that whatever is not of the standard library or not of the release is found out.
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib; found = map(importlib.import_module, {modules!r}); "
        "print(*(module.__file__ for module in found), sep='\\n')"
    )
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, check=False, text=True)
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.splitlines()) == len(modules) and all(line.startswith(str(tmp_path)) for line in answer.stdout.splitlines())


def test_deploy_then_nothing_is_sent(box, tmp_path, empty):
    lines = []
    release = small(tmp_path)
    first = deploy(box, "windlass", release, lines.append, requirements=empty)
    assert (first.was_current, first.round_trips) == (False, 2)
    assert os.access(first.environment, os.X_OK) and any("venv" in line for line in lines)
    root = box.home / "windlass"
    assert (root / "current/files/code-a/words.txt").read_text() == "a"
    assert os.readlink(root / "current") == f"releases/{release.digest}"
    box.round_trips = box.bytes_sent = 0
    again = deploy(box, "windlass", release, lines.append, requirements=empty)
    assert again.was_current and again.round_trips == box.round_trips == 1
    assert again.environment == first.environment and again.sent_bytes < 1500


def test_going_back_sends_no_archive(box, tmp_path, empty):
    boxes.mark_environment(box, Path(empty))
    one, two = small(tmp_path, "a"), small(tmp_path, "b")
    for release in (one, two):
        deploy(box, "windlass", release, print, requirements=empty)
    back = deploy(box, "windlass", one, print, requirements=empty)
    assert back.sent_bytes < len(one.archive()) + (CODE / "remote/payload/receive.py").stat().st_size
    assert (box.home / "windlass/current/files/code-a/words.txt").read_text() == "a"


def test_an_absolute_root_and_a_shared_folder_elsewhere(box, tmp_path, empty):
    root, disk, other = tmp_path / "root here", tmp_path / "fast disk", tmp_path / "other disk"
    for place in (disk, other):
        pretend = tmp_path / f"pretend {place.name}"
        boxes.mark_environment(box, Path(empty), str(pretend))
        (pretend / "shared").rename(place)
    release = small(tmp_path)
    done = deploy(box, str(root), release, print, shared=str(disk), requirements=empty)
    assert os.readlink(root / "shared") == str(disk) and list((disk / "environments").iterdir())
    assert deploy(box, str(root), release, print, shared=str(disk), requirements=empty).round_trips == 1
    assert done.environment.startswith(str(disk)) or done.environment.startswith(str(root))
    moved = deploy(box, str(root), release, print, shared=str(other), requirements=empty)
    assert moved.round_trips == 2 and os.readlink(root / "shared") == str(other)


def test_a_shared_folder_that_holds_things_is_not_replaced(box, tmp_path, empty):
    kept = box.home / "windlass/shared/models/base"
    kept.mkdir(parents=True)
    with pytest.raises(JobFailed, match="already holds things") as caught:
        deploy(box, "windlass", small(tmp_path), print, shared=str(tmp_path / "disk"), requirements=empty)
    assert kept.exists() and "mv " in caught.value.remedy


def test_a_damaged_archive_activates_nothing(box, tmp_path, empty, monkeypatch):
    boxes.mark_environment(box, Path(empty))
    one, two = small(tmp_path, "a"), small(tmp_path, "b")
    deploy(box, "windlass", one, print, requirements=empty)
    whole = two.archive()
    for bad in (whole[:-200], gzip.compress(b"no tar" * 200), b"garbage", one.archive()):
        monkeypatch.setattr(releases.Release, "write_archive", lambda self, file, bad=bad: file.write(bad))
        with pytest.raises(JobFailed) as caught:
            deploy(box, "windlass", two, print, requirements=empty)
        assert caught.value.cause is Cause.ARTIFACT and "still is" in caught.value.kept
        assert os.readlink(box.home / "windlass/current").endswith(one.digest)
        assert os.listdir(box.home / "windlass/releases") == [one.digest]


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out"])
def test_names_that_lead_out_are_refused(box, tmp_path, empty, monkeypatch, name):
    hostile(box, tmp_path, empty, monkeypatch, tarfile.TarInfo(name))


def test_links_and_devices_are_refused(box, tmp_path, empty, monkeypatch):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        hostile(box, tmp_path, empty, monkeypatch, entry)


def hostile(box, tmp_path, empty, monkeypatch, entry):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(entry)
    release = releases.Release("f" * 64, ())
    monkeypatch.setattr(releases.Release, "write_archive", lambda self, file: file.write(packed.getvalue()))
    with pytest.raises(JobFailed) as caught:
        deploy(box, "windlass", release, print, requirements=empty)
    assert caught.value.cause is Cause.ARTIFACT
    assert not (box.home / "windlass/releases" / release.digest).exists() and not (tmp_path / "out").exists()


def test_old_releases_go_except_those_in_use(box, tmp_path, empty):
    boxes.mark_environment(box, Path(empty))
    made = []
    for text in "abcdef":
        release = small(tmp_path, text)
        deploy(box, "windlass", release, print, requirements=empty)
        os.utime(box.home / "windlass/releases" / release.digest, (100 + ord(text), 100 + ord(text)))
        made.append(release.digest)
        if text == "a":
            job = BoxPaths(box.home / "windlass").job("busy")
            job.folder.mkdir(parents=True)
            job.spec.write_text(JobSpec("busy", "train", release.digest).to_json())
            job.state.write_text(JobState("busy", "train", Status.RUNNING).to_json())
    assert set(os.listdir(box.home / "windlass/releases")) == {made[0], *made[-3:]}


def test_two_deploys_at_once_both_end_well(tmp_path, empty):
    home = tmp_path / "home"
    release, done = small(tmp_path), []

    def one():
        done.append(deploy(boxes.folder_box(home), "windlass", release, print, requirements=empty))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item.environment for item in done}) == 1 and len(done) == 3
    assert os.listdir(home / "windlass/releases") == [release.digest]


def test_old_python_on_the_box(tmp_path, empty, monkeypatch):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/python3"
    fake.write_text("#!/bin/sh\necho this is Python 3.8.10 >&2; exit 1\n")
    fake.chmod(0o755)
    box = FakeTransport(tmp_path / "home", environment={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    with pytest.raises(PreflightFailed) as caught:
        deploy(box, "windlass", small(tmp_path), print, requirements=empty)
    assert "3.8.10" in caught.value.why and "apt-get install -y python3" in caught.value.remedy


def test_a_root_that_cannot_be_made(box, tmp_path, empty):
    (box.home / "windlass").write_text("a file")
    with pytest.raises(JobFailed) as caught:
        deploy(box, "windlass", small(tmp_path), print, requirements=empty)
    assert "root:" in caught.value.remedy


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, empty):
    box = boxes.folder_box(tmp_path / "home")
    release = small(tmp_path)
    probe = releases.receive_command("windlass", release.digest, "", empty)
    receiver = (CODE / "remote/payload/receive.py").read_bytes()
    end = b'if __name__ == "__main__":'
    script = receiver.replace(end, b"def _write(*_):\n    raise OSError(errno.ENOSPC, 'No space left on device', 'x')\n" + end)
    assert script != receiver
    answer = box.exec(probe, b"%d\n" % len(script) + script + release.archive())
    error = json.loads(answer.stdout)["error"]
    assert error["cause"] == "disk_full" and "df -h" in error["remedy"]
    assert os.listdir(box.home / "windlass/releases") == []


def test_stages_of_tests_deploy(box, code):
    assert len(boxes.deploy_stages(box, code)) == 64
