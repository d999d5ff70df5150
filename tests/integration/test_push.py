"""Pushes over a real sshd: what a lost connection costs, what the box holds meanwhile, and the way
back."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unicodedata

import pytest

import tasks
from remote.control.errors import BoxUnreachable, JobFailed, LaptopError, NotFound
from remote.control.project import CODE
from remote.control.retry import retry_while_unreachable
from remote.control.transport.push import release as releases
from remote.control.transport.push.push import Place
from remote.control.transport.push.release import build_release, deploy
from remote.control.transport.push.rollback import chosen, go_back, kept_releases
from tests.integration import boxes
from tests.integration.links import UP, proxied
from tests.integration.typed import in_process

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]
ROOT = "windlass"
MB = 1 << 20


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return tmp_path


@pytest.fixture
def push(sshd, project):
    """Pushes files to a root of the test's own; the environment counts as made."""
    requirements = project / "none.txt"
    requirements.write_text("")
    root = project.name
    with sshd.transport() as box:
        boxes.mark_environment(box, requirements, root)

    def run(*files, transport=None, on_line=lambda line: None, release=None):
        release = release or build_release(files)
        if transport is not None:
            return deploy(transport, root, release, on_line, requirements=str(requirements))
        with sshd.transport() as box:
            return deploy(box, root, release, on_line, requirements=str(requirements))

    run.place, run.folder = Place(root, "", str(requirements)), sshd.home / root
    return run


def noise(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(os.fsencode(path.name)).randbytes(size))
    return path


def whole(folder):
    """The release that is current, seen to be whole: its digest is its manifest's, and each entry
    is there as it says."""
    current = (folder / "current").resolve()
    text = (current / "manifest.json").read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == current.name
    for name, kind, value, size in json.loads(text):
        path = current / name
        if kind == "l":
            assert os.readlink(path) == value and path.exists()
        else:
            assert (
                hashlib.sha256(path.read_bytes()).hexdigest() == value
                and path.stat().st_size == size
            )
            assert bool(path.stat().st_mode & 0o100) == (kind == "x")
    return current


def leftovers(folder):
    return [path.name for name in ("releases", "blobs") for path in (folder / name).glob(".*")]


def test_names_modes_and_links_survive(push, project):
    data = project / "data"
    names = [
        "plain",
        "with space",
        "new\nline",
        "-dash",
        "größe",
        "n" * 255,
        "quo'te\"s",
        "$HOME",
        "*",
    ]
    names += [unicodedata.normalize("NFD", "größe"), os.fsdecode(b"\xff\xfe")]
    for name in names:
        noise(data / name, 100)
    noise(data / "empty", 0)
    (data / "plain").chmod(0o750)
    (data / ("d" * 255)).mkdir()
    noise(data / ("d" * 255) / "deep", 10)
    (data / "link").symlink_to("plain")
    (data / "folder").symlink_to("d" * 255)
    push(data)
    there = whole(push.folder) / "files/data"
    assert sorted(os.listdir(there)) == sorted([*names, "empty", "d" * 255, "link", "folder"])
    assert os.access(there / "plain", os.X_OK) and not os.access(there / "$HOME", os.X_OK)
    assert (there / "folder/deep").read_bytes() == (data / "folder/deep").read_bytes()


def test_only_what_is_new_is_sent(push, project):
    large, small = noise(project / "large", 4 * MB), noise(project / "small", 1000)
    first = push(large, small)
    small.write_bytes(b"other")
    second = push(large, small)
    assert (
        first.lacking > 4 * MB
        and second.lacking == 5
        and second.sent_bytes < 100_000
        and second.round_trips == 2
    )
    (project / "moved").mkdir()
    large.rename(project / "moved/again")
    (project / "twice").write_bytes((project / "moved/again").read_bytes())
    third = push(project / "moved", project / "twice", small)
    assert (third.lacking, third.round_trips) == (0, 1)
    there = whole(push.folder)
    assert (there / "files/twice").stat().st_size == 4 * MB
    assert (there / "files/moved/again").stat().st_ino == (there / "files/twice").stat().st_ino, (
        "one content lies there once"
    )


def test_a_file_that_was_spoilt_on_the_box_is_sent_again(push, project):
    large = noise(project / "large", 2 * MB)
    push(large)
    spoilt = whole(push.folder) / "files/large"
    spoilt.write_bytes(b"\0" + spoilt.read_bytes()[1:])
    assert push(large, noise(project / "more", 10)).lacking == 2 * MB + 10
    whole(push.folder)


def test_a_release_that_lost_files_is_made_whole(push, project):
    large, more = noise(project / "large", MB), noise(project / "more", 10)
    first = push(large, more)
    push(large)
    (push.folder / "releases" / first.digest / "files/more").unlink()
    assert push(large, more).lacking == 0, "its contents are here"
    assert whole(push.folder).name == first.digest and not leftovers(push.folder)


@pytest.mark.parametrize(
    "fault", ["reset", "black_hole", "half_open_down", "box_gone", "laptop_gone"]
)
def test_a_lost_connection_costs_no_byte_that_arrived(sshd, push, project, fault):
    push(noise(project / "first", 10))
    files = [
        noise(project / "large", 8 * MB),
        *(noise(project / f"small-{number}", 1000) for number in range(20)),
    ]
    told = []
    with proxied(sshd) as proxy, proxy.transport_of(sshd, dead_after=2) as box:
        box.exec("true")
        proxy.strike_after(fault, 6 * MB, UP)
        healer = threading.Thread(
            target=lambda: (proxy.struck.wait(20), time.sleep(0.2), proxy.heal())
        )
        healer.start()
        done = push(*files, transport=box, on_line=told.append)
        healer.join()
        assert proxy.passed[UP] < 12 * MB, "the beginning of the large file was not sent again"
    assert not done.was_current and any("connection lost" in line for line in told)
    whole(push.folder)
    boxes.await_true(
        lambda: push(*files).was_current and (push(files[0]), not leftovers(push.folder))[1], 5
    )


def test_cut_anywhere_the_current_release_is_whole(sshd, push, project):
    chance = random.Random(4)
    files = [
        noise(project / f"file-{number}", chance.choice((0, 10, 5000, 300_000)))
        for number in range(60)
    ]
    push(files[0])
    for number in range(6):
        files[0].write_bytes(b"%d" % number)
        release = build_release(files[: 10 * (number + 1)])
        with proxied(sshd) as proxy, proxy.transport_of(sshd) as box:
            box.exec("true")
            proxy.cut_after(chance.randrange(500, 1_500_000), chance.choice((UP, "down")))
            push(transport=box, release=release)
        assert whole(push.folder).name == release.digest


def test_who_never_answers_is_not_waited_for_and_who_did_is(sshd, push, project, monkeypatch):
    release = build_release([noise(project / "a", 10)])
    with proxied(sshd) as proxy, proxy.transport_of(sshd, dead_after=2) as box:
        box.exec("true")
    with proxy.transport_of(sshd) as never, pytest.raises(BoxUnreachable) as caught:
        push(release=release, transport=never)
    assert not caught.value.kept
    monkeypatch.setattr(
        releases,
        "retry_while_unreachable",
        lambda attempt, **more: retry_while_unreachable(
            attempt, **(more | {"patience_seconds": 0.5})
        ),
    )
    with pytest.raises(BoxUnreachable) as caught:
        push(release=release, transport=box)
    assert "still is" in caught.value.kept


def test_killed_on_the_laptop_the_next_push_goes_on(sshd, push, project):
    push(noise(project / "first", 10))
    before = whole(push.folder)
    noise(project / "large", 16 * MB)
    script = f"""
import sys
sys.path.insert(0, {str(CODE)!r})
from pathlib import Path
from remote.control.transport.push.release import build_release, deploy
from remote.control.ssh.connection import Address
from remote.control.transport.over_ssh import SshTransport
address = Address("demo", "i", "127.0.0.1", PORT, {sshd.address().user!r}, Path({str(sshd.key)!r}), "i")
box = SshTransport(address, lambda alias: [{sshd.host_key_line!r}])
print(deploy(box, {push.place.root!r}, build_release([Path({str(project / "large")!r})]), print, requirements={push.place.requirements!r}))
"""
    for number in (1, 2):
        with proxied(sshd) as proxy:
            proxy.bytes_per_second = 30 * MB
            proxy.strike_after("nothing", 5 * MB, UP)
            laptop = subprocess.Popen(
                [sys.executable, "-c", script.replace("PORT", str(proxy.port))],
                stdout=subprocess.DEVNULL,
            )
            assert proxy.struck.wait(20)
            laptop.send_signal(signal.SIGKILL)
            laptop.wait()
        assert whole(push.folder) == before, number
    boxes.await_true(lambda: leftovers(push.folder))
    done = push(project / "large")
    assert done.lacking < 9 * MB and whole(push.folder) != before and not leftovers(push.folder)


def test_a_file_that_changes_while_it_is_sent_is_told(push, project):
    push(noise(project / "first", 10))
    before = whole(push.folder)
    for change in (b"shorter", b"0" * 4 * MB, b"1" * 5 * MB):
        release = build_release([noise(project / "large", 4 * MB)])
        (project / "large").write_bytes(change)
        with pytest.raises(LaptopError, match="large changes while it is read") as caught:
            push(release=release)
        assert "still is" in caught.value.kept and whole(push.folder) == before
    (project / "large").unlink()
    with pytest.raises(LaptopError, match="large cannot be sent"):
        push(release=release)
    boxes.await_true(lambda: not leftovers(push.folder) or push(project / "first").was_current)


def test_two_laptops_push_the_same_and_different_things(push, project):
    shared = noise(project / "large", 3 * MB)
    made = [
        build_release([shared, noise(project / f"own-{number}", 100)]) for number in (0, 0, 1, 2)
    ]
    done = []
    threads = [
        threading.Thread(target=lambda each=each: done.append(push(release=each))) for each in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4 and whole(push.folder).name in {each.digest for each in made}
    assert not leftovers(push.folder)


def test_a_silent_receiver_gives_up_and_holds_nobody_up(sshd, push, project, monkeypatch):
    push(noise(project / "first", 10))
    receiver = (
        (CODE / "remote/payload/transfer/receive.py")
        .read_text()
        .replace("SILENCE_SECONDS = 60", "SILENCE_SECONDS = 1")
    )
    (project / "remote/payload/transfer").mkdir(parents=True)
    (project / "remote/payload/transfer/receive.py").write_text(receiver)
    monkeypatch.setattr("remote.control.transport.push.push.CODE", project)
    large, hold = noise(project / "large", 4 * MB), threading.Event()

    def slow(release, lacking):
        yield b"the beginning"
        hold.wait(20)

    with (
        monkeypatch.context() as patch,
        sshd.transport(dead_after=2) as box,
        pytest.raises(JobFailed, match="broke off") as caught,
    ):
        patch.setattr(releases.Release, "tar", slow)
        push(large, transport=box)
    hold.set()
    assert "nothing came for 1 s" in caught.value.why


def test_back_to_an_older_release_and_forth(sshd, push, project):
    made = [push(noise(project / f"file-{number}", 100)) for number in range(3)]
    with sshd.transport() as box:
        kept = kept_releases(box, push.place.root)
        assert [each.digest for each in kept] == [each.digest for each in reversed(made)]
        assert [each.is_current for each in kept] == [True, False, False]
        for number in (1, 0):
            target = chosen(kept_releases(box, push.place.root), "", "demo")
            assert target.digest == made[number].digest
            assert go_back(box, push.place, target, print) == made[0].environment
            assert whole(push.folder).name == made[number].digest
        with pytest.raises(NotFound, match="no older release"):
            chosen(kept_releases(box, push.place.root), "", "demo")
        kept = kept_releases(box, push.place.root)
        assert chosen(kept, made[2].digest[:8], "demo").digest == made[2].digest
        for to in ("0000000", "", made[0].digest[:3]):
            with pytest.raises(NotFound):
                chosen(kept, to, "demo")
        assert box.exec(f"cat $HOME/{push.place.root}/.ready").text.splitlines()[
            0
        ] == push.place.token(made[0].digest)
    again = push(project / "file-2")
    assert (again.was_current, again.lacking) == (False, 0) and push(project / "file-2").was_current


def test_a_release_whose_environment_cannot_be_made_does_not_become_current(sshd, push, project):
    push(noise(project / "first", 10))
    before = whole(push.folder)
    with sshd.transport() as box, pytest.raises(JobFailed):
        deploy(
            box,
            push.place.root,
            build_release([noise(project / "second", 10)]),
            print,
            requirements=str(project / "absent.txt"),
        )
    assert whole(push.folder) == before and push(project / "first").was_current


def test_typed(sshd, project, capsys):
    (project / "inventory.yaml").write_text(
        "default_box: lab\nboxes:\n  lab:\n    provider: static\n    host: 127.0.0.1\n    port:"
        f" {sshd.port}\n    user: {sshd.address().user}\n    ssh_key: {sshd.key}\n    host_key:"
        f" {' '.join(sshd.host_key_line.split()[:2])}\n    root: typed\npush: {{include:"
        " [extra/**]}\n"
    )
    with sshd.transport() as box:
        boxes.mark_environment(box, CODE / "remote/payload/requirements.txt", "typed")
    noise(project / "extra/a", 100)

    def inv(*words, code=0):
        ended, out, err = in_process(capsys, tasks.ns, " ".join(words))
        assert ended == code, err
        return json.loads(out)

    plan = inv("deploy", "--plan", "--json")
    assert "files/extra/a" in [each["name"] for each in plan["goes"]]
    assert inv("deploy", "--dry-run", "--json")["release"] == plan["release"]
    assert inv("rollback", "--json", code=12)["error"] == "NotFound"
    assert inv("rollback", "--list", "--json") == []
    assert (
        "nothing is deployed on box lab yet; `./inv deploy lab`"
        in in_process(capsys, tasks.ns, "rollback --list")[1]
    )
    first = inv("deploy", "--json")
    assert (first["digest"], first["was_current"]) == (plan["release"], False) and inv(
        "deploy", "--json"
    )["was_current"]
    noise(project / "extra/b", 100)
    second = inv("deploy", "--json")
    assert second["lacking"] == 100
    assert (
        inv("rollback", "--dry-run", "--json")["release"]
        == first["digest"]
        == inv("rollback", "--json")["release"]
    )
    assert [each["is_current"] for each in inv("rollback", "--list", "--json")] == [False, True]
    assert inv("rollback", "--to", second["digest"][:10], "--json")["was"] == first["digest"]
