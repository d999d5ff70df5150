import contextlib
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.control.errors import ConfigError, JobFailed, PreflightFailed
from remote.control.progress import no_bytes
from remote.control.project import CODE
from remote.control.transport.push import push
from remote.control.transport.push.push import Place, ask_receiver
from remote.control.transport.push.release import Release, build_release, deploy
from remote.payload.transfer import receive
from tests.integration import boxes
from tests.integration.boxes import FakeTransport


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
    modules = (
        "__init__",
        *(
            f"files/{name}"
            for name in ("__init__", "atomic", "disk", "regular_files", "untrusted_json")
        ),
        *(f"job/{name}" for name in ("__init__", "locks", "paths")),
    )
    for name in (
        *(f"contract/{module}" for module in modules),
        "payload/__init__",
        "payload/environment",
    ):
        (code / f"remote/{name}.py").parent.mkdir(exist_ok=True)
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
    assert "remote/payload/jobs/supervise.py" in names(
        release
    ) and "remote/contract/job/jobs.py" in names(release)
    assert not [name for name in names(release) if "__pycache__" in name or "control" in name]


def test_the_digest_is_the_same_each_time_whatever_times_and_modes_of_others(tmp_path):
    first = small(tmp_path)
    for member in first.members:
        os.utime(member.source, (1, 1))
        member.source.chmod(0o600)
    again = build_release([tmp_path / "code-a/words.txt"], tmp_path / "code-a")
    assert again.digest == first.digest


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


def test_every_module_of_the_real_release_imports_from_the_box_alone(box, tmp_path):
    release = build_release([])
    boxes.mark_environment(box, CODE / "remote/payload/requirements.txt")
    deploy(box, "windlass", release, print)
    tmp_path = (box.home / "windlass/current").resolve()
    modules = sorted(
        name[:-3].replace("/", ".").removesuffix(".__init__")
        for name in names(release)
        if name.endswith(".py")
    )
    assert {
        "remote.payload.stages.train",
        "remote.payload.gguf.merge",
        "remote.contract.artifacts.rows",
    } <= set(modules)
    # -I and -S: no site-packages, so that whatever is not of the standard library or not of the
    # release is found out.
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib; found ="
        f" map(importlib.import_module, {modules!r}); print(*(module.__file__ for module in found),"
        " sep='\\n')"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, check=False, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.splitlines()) == len(modules) and all(
        line.startswith(str(tmp_path)) for line in answer.stdout.splitlines()
    )


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
    assert again.environment == first.environment and again.sent_bytes < 30_000


def test_a_box_whose_contents_lie_in_its_releases_alone_takes_a_push(box, tmp_path, empty):
    """As an older Windlass left it."""
    boxes.mark_environment(box, Path(empty))
    for text in "ab":
        deploy(box, "windlass", small(tmp_path, text), print, requirements=empty)
    shutil.rmtree(box.home / "windlass/blobs")
    back = deploy(
        box,
        "windlass",
        build_release([tmp_path / "code-a/words.txt"], tmp_path / "code-a"),
        print,
        requirements=empty,
    )
    assert (
        not back.was_current
        and (box.home / "windlass/current/files/code-a/words.txt").read_text() == "a"
    )


def test_embedded_boxes_share_the_environments_of_their_laptop(tmp_path, empty):
    common = tmp_path / "laptop's environments"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        receive.COMMON_ENVIRONMENTS: str(common),
    }
    first, second, third = (
        FakeTransport(tmp_path / name, environment=environment)
        for name in ("first", "second", "third")
    )
    said = []
    made = deploy(first, "windlass", small(tmp_path), said.append, requirements=empty).environment
    assert made.startswith(f"{common}/") and any("is whole after" in line for line in said)
    shutil.rmtree(first.home)  # the box is terminated
    said.clear()
    assert (
        deploy(
            second, "elsewhere", small(tmp_path, "b"), said.append, requirements=empty
        ).environment
        == made
        and not said
    )
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/environments").mkdir()  # what stands there already is used on
    own = deploy(
        third,
        "windlass",
        small(tmp_path, "c"),
        said.append,
        shared=str(tmp_path / "disk"),
        requirements=empty,
    ).environment
    assert (
        own.startswith(f"{tmp_path}/disk/environments/")
        and subprocess.run([made, "-c", ""], check=False).returncode == 0
    )


def test_a_box_that_is_no_embedded_one_keeps_its_environments_to_itself(box, tmp_path, empty):
    done = deploy(box, "windlass", small(tmp_path), print, requirements=empty)
    assert done.environment.startswith(f"{box.home}/windlass/shared/environments/")


def test_what_the_box_does_is_shown_by_a_bar_with_a_true_total_until_it_says_a_line():
    shown = []

    @contextlib.contextmanager
    def bar(title, total):
        shown.append(("begins", title, total))
        yield shown.append
        shown.append("ends")

    stream = push.PushStream(Place("windlass"), Release(()), "box demo", bar)
    for done in (0, 500):
        stream.take({"progress": {"title": "installing 72 packages", "done": done, "total": 1000}})
    for strange in (
        {},
        [],
        7,
        {"title": "x", "done": "1", "total": 2},
        {"title": None, "done": 1, "total": 2},
    ):
        stream.take({"progress": strange})
    stream.bar.close()
    stream.take({"progress": {"title": "installing 72 packages", "done": 1000, "total": 1000}})
    stream.bar.close()
    begins = ("begins", "installing 72 packages", 1000)
    assert shown == [begins, 0, 500, "ends", begins, 1000, "ends"]


@pytest.mark.parametrize(
    "lacking", [7, ["0"], [[0]], [[0, 0], [0, 1]], [[99, 0]], [[-1, 0]], [[0, -1]], [[0, 2]]]
)
def test_a_box_that_lacks_what_cannot_lack_is_of_another_windlass(tmp_path, lacking):
    stream = push.PushStream(Place("windlass"), small(tmp_path), "box demo", no_bytes)
    with pytest.raises(PreflightFailed, match="another Windlass"):
        stream.take({"lacking": lacking})
    with pytest.raises(PreflightFailed, match="another Windlass"):
        stream.take({"lacking": []})  # it has answered already


def test_going_back_sends_no_archive(box, tmp_path, empty):
    boxes.mark_environment(box, Path(empty))
    one, two = small(tmp_path, "a"), small(tmp_path, "b")
    for release in (one, two):
        deploy(box, "windlass", release, print, requirements=empty)
    back = deploy(box, "windlass", one, print, requirements=empty)
    assert (back.lacking, back.was_current) == (0, False)
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
    assert (
        deploy(box, str(root), release, print, shared=str(disk), requirements=empty).round_trips
        == 1
    )
    assert done.environment.startswith(str(disk)) or done.environment.startswith(str(root))
    moved = deploy(box, str(root), release, print, shared=str(other), requirements=empty)
    assert moved.lacking == 0 and os.readlink(root / "shared") == str(other)


def test_a_shared_folder_that_holds_things_is_not_replaced(box, tmp_path, empty):
    kept = box.home / "windlass/shared/models/base"
    kept.mkdir(parents=True)
    with pytest.raises(JobFailed, match="already holds things") as caught:
        deploy(
            box,
            "windlass",
            small(tmp_path),
            print,
            shared=str(tmp_path / "disk"),
            requirements=empty,
        )
    assert kept.exists() and "mv " in caught.value.remedy


def damaged(way):
    """A stream that arrives as `way` makes it."""
    whole = push.compressed
    return lambda pieces: iter([way(b"".join(whole(pieces)))])


def tar_of(name="0", content=b"other words", kind=tarfile.REGTYPE):
    """A compressed tar of one member."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
        tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


WAYS = {
    "too short": lambda whole: whole[: len(whole) // 2],
    "a bit": lambda whole: whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],
    "garbage": lambda whole: b"\xff" * len(whole),
    "other content": lambda whole: tar_of(content=b"x" * 100),
    "more content": lambda whole: tar_of(content=b"b" * 101),
    "a link": lambda whole: tar_of(content=b"", kind=tarfile.SYMTYPE),
    "a name that leads out": lambda whole: tar_of("../../out"),
    "a number of no content": lambda whole: tar_of("7"),
    "nothing": lambda whole: b"",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_stream_activates_nothing(box, tmp_path, empty, monkeypatch, way):
    boxes.mark_environment(box, Path(empty))
    one, two = small(tmp_path, "a"), small(tmp_path, "b" * 100)
    deploy(box, "windlass", one, print, requirements=empty)
    with monkeypatch.context() as patch, pytest.raises(JobFailed) as caught:
        patch.setattr(push, "compressed", damaged(WAYS[way]))
        deploy(box, "windlass", two, print, requirements=empty)
    assert caught.value.cause is Cause.ARTIFACT and "still is" in caught.value.kept
    assert os.readlink(box.home / "windlass/current").endswith(one.digest)
    assert two.digest not in os.listdir(box.home / "windlass/releases")
    assert not deploy(box, "windlass", two, print, requirements=empty).was_current
    assert sorted(os.listdir(box.home / "windlass/releases")) == sorted([one.digest, two.digest])


SHA, EMPTY = "a" * 64, hashlib.sha256().hexdigest()
HOSTILE = {
    "above": [["../out", "-", SHA, 1]],
    "absolute": [["/tmp/out", "-", SHA, 1]],
    "above on the way": [["a/../../out", "-", SHA, 1]],
    "empty": [["", "-", SHA, 1]],
    "nul": [["a\0b", "-", SHA, 1]],
    "the manifest's own": [["manifest.json", "-", SHA, 1]],
    "a device": [["a", "c", SHA, 1]],
    "less than nothing": [["a", "-", SHA, -1]],
    "content that is no SHA-256": [["a", "-", "../../out", 1]],
    "twice": [["a", "-", SHA, 1], ["a", "x", SHA, 1]],
    "through a link": [["a", "l", "b", 0], ["a/passwd", "-", SHA, 1]],
    "nul in a link": [["a", "l", "b\0", 0], ["b", "-", SHA, 1]],
    "a link that leads to no name": [["a", "l", "", 0]],
    "a link that hides a folder": [["a", "l", "b", 0], ["a/b/c", "-", SHA, 1], ["b", "-", SHA, 1]],
    "a link and a file": [["a", "l", "b", 0], ["a", "-", SHA, 1], ["b", "-", SHA, 1]],
    "below the manifest": [["manifest.json/a", "-", SHA, 1]],
    "a link alone that leads out": [["a", "l", "..", 0]],
}
LEADING_OUT = {
    "up": [["a/b", "l", "../../out", 0]],
    "up to what is there": [["a/b", "l", "../..", 0]],
    "from the root": [["a", "l", "/etc/passwd", 0]],
    "through a link": [["b", "l", "c/d", 0], ["c/d/e", "-", EMPTY, 0], ["z", "l", "b/../../..", 0]],
    "through a chain": [["a", "l", "b/..", 0], ["b", "l", "c", 0], ["c", "l", ".", 0]],
    "to nothing that may come": [["a", "l", "later/../../out", 0]],
    "to nothing": [["a", "l", "b", 0]],
    "in a circle": [["a", "l", "b", 0], ["b", "l", "a", 0]],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_names_and_links_that_lead_out_are_refused(box, tmp_path, empty, case):
    place = Place("windlass", "", empty)
    with pytest.raises(JobFailed) as caught:
        ask_receiver(box, place.request("receive", "f" * 64, entries=HOSTILE[case]))
    assert caught.value.cause is Cause.ARTIFACT
    assert not list((box.home / "windlass/releases").glob("*")) and not (tmp_path / "out").exists()


def put_together(tmp_path, entries):
    """The folder of a release of links and of empty files."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / EMPTY).touch()
    receive._put_together(
        tmp_path / ".new", receive._checked(entries), receive.Blobs(tmp_path / "blobs", entries)
    )
    return tmp_path / ".new"


@pytest.mark.parametrize("case", LEADING_OUT)
def test_links_that_lead_out_or_nowhere_are_refused(tmp_path, case):
    with pytest.raises(receive.Refused, match="link that leads out of its folder, or nowhere"):
        put_together(tmp_path, LEADING_OUT[case])


def test_links_that_stay_inside_are_taken_whatever_their_letters_say(tmp_path):
    within = [
        ["..foo", "-", EMPTY, 0],
        ["a", "l", "..foo", 0],
        ["b/c", "l", "../..foo", 0],
        ["b/d/e", "-", EMPTY, 0],
        ["f", "l", "b/d", 0],
        ["g", "l", "f/../../a", 0],
        ["h", "l", "f/./e", 0],
        ["i", "l", ".", 0],
        ["j", "l", "i/i/i/h", 0],
    ]
    folder = put_together(tmp_path, within)
    assert [
        name
        for name, kind, value, _ in within
        if kind == "l" and os.readlink(folder / name) != value
    ] == []


def test_a_release_that_lost_a_link_is_not_whole(tmp_path):
    entries = [["a", "-", SHA, 3], ["b", "l", "a", 0]]
    (tmp_path / "a").write_text("abc")
    assert not receive._is_whole(tmp_path, entries)
    (tmp_path / "b").symlink_to("a")
    assert receive._is_whole(tmp_path, entries)


def test_nothing_is_tidied_away_while_the_releases_are_listed(tmp_path, monkeypatch):
    for name in ("releases/a", "releases/b", "blobs"):
        (tmp_path / name).mkdir(parents=True)

    def tidied(release, read=receive._entries_of):
        receive._tidy(tmp_path, 0)
        return read(release)

    monkeypatch.setattr(receive, "_entries_of", tidied)
    assert sorted(each["digest"] for each in receive._list(tmp_path, {}, None)["releases"]) == [
        "a",
        "b",
    ]
    assert receive._list(tmp_path / "nothing", {}, None) == {"releases": []}


IN_USE = {
    "running": lambda job: job.state.write_text(
        JobState("busy", "train", Status.RUNNING).to_json()
    ),
    "in line": lambda job: job.state.write_text(
        JobState("busy", "train", Status.PENDING).to_json()
    ),
    "just being started": lambda job: None,
    "unreadable": lambda job: job.state.write_text('{"status": "RUN'),
}


@pytest.mark.parametrize("how", [*IN_USE, "ended", "never started"])
def test_old_releases_go_except_those_in_use(box, tmp_path, empty, how):
    boxes.mark_environment(box, Path(empty))
    made = []
    for text in "abcdef":
        release = small(tmp_path, text)
        deploy(box, "windlass", release, print, requirements=empty)
        os.utime(
            box.home / "windlass/releases" / release.digest, (100 + ord(text), 100 + ord(text))
        )
        made.append(release.digest)
        if text == "a":
            job = BoxPaths(box.home / "windlass").job("busy")
            job.folder.mkdir(parents=True)
            job.spec.write_text(JobSpec("busy", "train", release.digest).to_json())
            if how == "ended":
                job.state.write_text(JobState("busy", "train", Status.FAILED).to_json())
            elif how == "never started":
                os.utime(job.folder, (1, 1))
            else:
                IN_USE[how](job)
    kept = {made[0]} if how in IN_USE else set()
    assert set(os.listdir(box.home / "windlass/releases")) == {*kept, *made[-3:]}


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


WAIT = """
import time
make_it, gate = make, Path({gate!r})

def make(*arguments):
    while gate.exists():
        gate.with_suffix(".reached").touch()
        time.sleep(0.01)
    return make_it(*arguments)
"""


def waiting(tmp_path, gate):
    """A release whose environment is being made for as long as the file `gate` is there."""
    small(tmp_path, "slow")
    code = tmp_path / "code-slow"
    with (code / "remote/payload/environment.py").open("a") as maker:
        maker.write(WAIT.format(gate=str(gate)))
    return build_release([code / "words.txt"], code)


@pytest.mark.parametrize(
    "how", ["it arrived", "it was there", "another was quicker with it", "gone back to"]
)
def test_others_do_not_tidy_away_what_is_about_to_be_current(box, tmp_path, empty, how):
    boxes.mark_environment(box, Path(empty))
    gate, done = tmp_path / "gate", []
    arriving, is_in = threading.Event(), threading.Event()
    release = waiting(tmp_path, gate)

    class Late(Release):
        def tar(self, lacking):
            arriving.set()
            assert is_in.wait(20)
            yield from super().tar(lacking)

    def slow():
        laptop = boxes.folder_box(box.home)
        if how == "gone back to":
            done.append(
                ask_receiver(
                    laptop,
                    Place("windlass", "", empty).request(
                        "activate", release.digest, to=release.digest
                    ),
                )
            )
        else:
            done.append(
                deploy(laptop, "windlass", Late(release.members), print, requirements=empty)
            )

    def quick(other):
        deploy(box, "windlass", other, print, requirements=empty)

    thread = threading.Thread(target=slow)
    quick(small(tmp_path, "a"))
    if how == "another was quicker with it":
        thread.start()
        assert arriving.wait(20)
    if how != "it arrived":
        quick(release)
        quick(small(tmp_path, "b"))
    gate.touch()
    is_in.set()
    if how != "another was quicker with it":
        thread.start()
    boxes.await_true(gate.with_suffix(".reached").exists)
    for text in "cde":
        quick(small(tmp_path, text))
    gate.unlink()
    thread.join()
    current = (box.home / "windlass/current").resolve()
    assert (
        done
        and current.name == release.digest
        and (current / "files/code-slow/words.txt").read_text() == "slow"
    )
    quick(small(tmp_path, "f"))
    assert len(os.listdir(box.home / "windlass/releases")) == 3, (
        "what is held no more is tidied as before"
    )


@pytest.mark.parametrize("is_alive", [False, True])
def test_a_content_that_was_cut_short_is_gone_on_with(tmp_path, is_alive):
    content = os.urandom(3 << 20)
    name = hashlib.sha256(content).hexdigest()
    for pid, size in ((1, 1 << 20), (2, 2 << 20)):
        (tmp_path / f".{name}.{pid}").write_bytes(content[:size])
    with (tmp_path / f".{name}.2").open("rb") as other:
        if is_alive:  # another push still writes it: it must find its own where it was
            receive._lock(other)
        blobs = receive.Blobs(tmp_path, [["a", "-", name, len(content)], ["b", "l", "a", 0]])
        assert (blobs.lacking, blobs.held(0)) == ([0], 2 << 20)
    archive = tar_of(content=content[2 << 20 :])
    [path] = blobs.received(io.BytesIO(archive))
    assert Path(path).read_bytes() == content and Path(path).name == name
    assert sorted(os.listdir(tmp_path)) == [
        f".{name}.1",
        *([f".{name}.2"] if is_alive else []),
        name,
    ]


def test_a_file_system_without_hard_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert (put_together(tmp_path, [["a/b", "-", EMPTY, 0]]) / "a/b").stat().st_nlink == 1


def test_what_no_release_holds_any_more_goes_and_modes_are_kept(box, tmp_path, empty):
    boxes.mark_environment(box, Path(empty))
    (tmp_path / "plain").write_text("the same")
    (tmp_path / "program").write_text("the same")
    (tmp_path / "program").chmod(0o755)
    small(tmp_path)
    for number in range(5):
        (tmp_path / "plain").write_text(f"{number}")
        files = [tmp_path / "plain", tmp_path / "program"]
        release = build_release(files, tmp_path / "code-a")
        deploy(box, "windlass", release, print, requirements=empty)
    there = box.home / "windlass/current/files"
    assert os.access(there / "program", os.X_OK) and not os.access(there / "plain", os.X_OK)
    kept = [receive._entries_of(path) for path in (box.home / "windlass/releases").iterdir()]
    named = {receive.Blobs.name(kind, value) for entries in kept for _, kind, value, _ in entries}
    assert len(kept) == push.KEPT_RELEASES and set(os.listdir(box.home / "windlass/blobs")) == named


def test_old_python_on_the_box(tmp_path, empty, monkeypatch):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/python3"
    fake.write_text("#!/bin/sh\necho this is Python 3.8.10 >&2; exit 127\n")
    fake.chmod(0o755)
    box = FakeTransport(
        tmp_path / "home", environment={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    )
    with pytest.raises(PreflightFailed) as caught:
        deploy(box, "windlass", small(tmp_path), print, requirements=empty)
    assert "3.8.10" in caught.value.why and "apt-get install -y python3" in caught.value.remedy


def test_a_root_that_cannot_be_made(box, tmp_path, empty):
    (box.home / "windlass").write_text("a file")
    with pytest.raises(JobFailed) as caught:
        deploy(box, "windlass", small(tmp_path), print, requirements=empty)
    assert "root:" in caught.value.remedy


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, empty):
    (tmp_path / "large.bin").write_bytes(os.urandom(4 << 20))
    box = boxes.folder_box(tmp_path / "home")
    boxes.mark_environment(box, Path(empty))
    whole = box.open
    box.open = lambda command, *more, **options: whole(
        f"ulimit -f 2048; trap '' XFSZ; {command}", *more, **options
    )
    with pytest.raises(JobFailed) as caught:
        deploy(box, "windlass", build_release([tmp_path / "large.bin"]), print, requirements=empty)
    assert caught.value.cause is Cause.DISK_FULL and "df -h" in caught.value.remedy
    assert os.listdir(box.home / "windlass/releases") == []


def test_stages_of_tests_deploy(box, code):
    assert len(boxes.deploy_stages(box, code)) == 64
