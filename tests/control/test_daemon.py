"""A background process that does not come up is ended: nobody would find it again."""

import contextlib
import json
from pathlib import Path

import pytest

from remote.contract.job import surroundings
from remote.control.daemon import Daemon, start_time_of
from remote.control.errors import LaptopError
from tests.contract.hostile import FILES


def test_one_that_never_announces_itself_is_ended(tmp_path, monkeypatch):
    (tmp_path / "mute.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], 'pid').write_text(str(os.getpid()))\n"
        "print('thinking', flush=True)\n"
        "time.sleep(120)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = Daemon("the mute one", "mute", tmp_path / "folder")
    with pytest.raises(LaptopError, match="did not start") as caught:
        daemon.start(patience_seconds=4)
    assert caught.value.why == "thinking"
    assert start_time_of(int((tmp_path / "folder" / "pid").read_text())) is None
    assert daemon.running() is None


def test_one_that_ends_while_it_is_looked_at_counts_as_none(monkeypatch):
    def gone(path):
        raise ProcessLookupError(3, "No such process", str(path))

    monkeypatch.setattr(Path, "read_text", gone)
    assert start_time_of(1) is None


TOKENS = {
    name: f"secret-{name}"
    for name in (
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "MY_OWN_VARIABLE",
        "UV_PUBLISH_TOKEN",
        "WINDLASS_API_TOKEN",
        "OPENAI_API_KEY",
    )
}


@pytest.fixture
def with_tokens(tmp_path, monkeypatch):
    """A caller with tokens in its environment."""
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def environment_of(pid: int) -> dict[str, str]:
    items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(item.decode(errors="replace").partition("=")[::2] for item in items if item)


def children_of(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found += [int(folder.name), *children_of(int(folder.name))]
    return found


def assert_clean(pid: int) -> None:
    told = environment_of(pid)
    assert told.get("PATH"), pid
    assert TOKENS.keys() & told.keys() == set() and "secret" not in " ".join(told.values()), Path(
        f"/proc/{pid}/cmdline"
    ).read_bytes()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_embedded_cloud_its_servers_and_its_guests_have_none_of_the_callers_tokens(with_tokens):
    (with_tokens / "inventory.yaml").write_text(
        "default_box: demo\nboxes:\n  demo: {provider: embedded}\n"
    )
    from remote.control.cloud import boxes, embedded
    from remote.control.config.inventory import load_inventory
    from remote.control.transport.connect import connect

    try:
        box = boxes.ready(load_inventory().box(), lambda line: None)
        pids = [embedded.running()["pid"], *children_of(embedded.running()["pid"])]
        with connect(box) as transport, transport.open("env; exec sleep 30") as session:
            said = b""
            for chunk in session:
                said += chunk
                if b"PATH=" in said:
                    break
            pids += children_of(embedded.running()["pid"])
            assert len(set(pids)) > 2
            for pid in set(pids):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    assert_clean_unless_titled(pid)
            assert b"secret" not in said
    finally:
        embedded.down()


def assert_clean_unless_titled(pid: int) -> None:
    """OpenSSH writes its title over its environment: there is none to read."""
    if b"sshd" in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    elif Path(f"/proc/{pid}/environ").read_bytes():
        assert_clean(pid)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_embedded_ollama_has_none_of_the_callers_tokens(with_tokens):
    from remote.control.serving import embedded

    try:
        pid = embedded.daemon().start()["pid"]
        assert_clean(pid)
    finally:
        embedded.daemon().stop()


@pytest.mark.parametrize(
    "group", [(), (surroundings.PACKAGES,), (surroundings.COMPUTE, surroundings.AWS_PLACES)]
)
def test_what_is_passed_on_is_named_and_never_a_secret(group):
    given = {
        **TOKENS,
        "PATH": "/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "WINDLASS_PROJECT": "/p",
        "PIP_INDEX_URL": "u",
        "CUDA_HOME": "/c",
    }
    told = surroundings.passed_on(
        {**given, "AWS_PROFILE": "p", "AWS_SHARED_CREDENTIALS_FILE": "/f"}, *group
    )
    assert (
        TOKENS.keys() & told.keys() == set()
        and {"PATH", "HOME", "LC_ALL", "WINDLASS_PROJECT"} <= told.keys()
    )
    assert ("PIP_INDEX_URL" in told) == (surroundings.PACKAGES in group)
    assert ({"AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"} <= told.keys()) == (
        surroundings.AWS_PLACES in group
    )


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_record_is_none_and_a_daemon_starts_over_it(kind, tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(
        "import pathlib, sys, time\nfrom remote.control import daemon\n"
        "daemon.announce(pathlib.Path(sys.argv[1]), url='http://127.0.0.1:1')\ntime.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = Daemon("the one with a bad record", "server", tmp_path / "folder")
    daemon.folder.mkdir()
    FILES[kind](daemon.folder / "record.json")
    assert daemon.running() is None and daemon.stop() is False
    if kind in ("a folder", "a named pipe", "random bytes"):
        assert daemon.start()["url"] and daemon.stop()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["without keys", "another's pid", "random bytes", "gone"])
def test_a_daemon_whose_record_is_damaged_is_ended_all_the_same(kind, tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(
        "import pathlib, sys, time\nfrom remote.control import daemon\n"
        "daemon.announce(pathlib.Path(sys.argv[1]), url='http://127.0.0.1:1')\ntime.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    one = Daemon("the one with a damaged record", "server", tmp_path / "folder")
    record = one.folder / "record.json"

    def damage():
        record.unlink()
        if kind != "gone":
            record.write_bytes(
                {
                    "without keys": b"{}",
                    "another's pid": b'{"pid":1}',
                    "random bytes": b"\x00\xff{",
                }[kind]
            )

    first = one.start()["pid"]
    damage()
    second = one.start()["pid"]
    assert second != first and start_time_of(first) is None, "never two at once on the same files"
    damage()
    assert one.stop() is True and start_time_of(second) is None
    assert one.stop() is False


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"pid": "1"},
        {"pid": -1},
        {"pid": 1, "url": "x"},
        {"pid": 2**70, "url": "x", "start_time": None},
    ],
)
def test_a_record_that_lacks_a_key_names_no_process(record, tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(record))
    daemon = Daemon("none", "none", tmp_path)
    assert daemon.running() is None and daemon.stop() is False
