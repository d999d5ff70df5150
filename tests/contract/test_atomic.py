"""A file is whole or absent."""

import json
import subprocess
import sys

import pytest

from remote.contract.files import atomic, digest


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path):
    path = tmp_path / "state.json"
    atomic.write_json(path, {"step": 1})
    with pytest.raises(RuntimeError), atomic.writing(path) as file:
        file.write(b"half")
        raise RuntimeError("killed")
    assert json.loads(path.read_text()) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_private_file_is_private_from_its_first_byte(tmp_path):
    atomic.write_text(tmp_path / "key", "secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_folder_digest_sees_names_and_bytes_but_not_times(tmp_path):
    import os

    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_text("1")
    first = digest.of_path(tmp_path / "a")
    os.utime(tmp_path / "a" / "deep" / "x", (0, 0))
    assert digest.of_path(tmp_path / "a") == first
    (tmp_path / "a" / "deep" / "x").rename(tmp_path / "a" / "deep" / "y")
    assert digest.of_path(tmp_path / "a") != first


def test_a_folder_is_whole_or_absent_and_replaces_an_older_one(tmp_path):
    with atomic.making(tmp_path / "model") as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "x").write_text("1")
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "left by a killed one").write_text("")
    with pytest.raises(RuntimeError), atomic.making(tmp_path / "model") as partial:
        assert not list(partial.iterdir())
        raise RuntimeError("killed")
    assert (tmp_path / "model" / "deep" / "x").read_text() == "1"
    with atomic.making(tmp_path / "model") as partial:
        (partial / "y").write_text("2")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "y"]


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [
        tmp_path / f".state.json.{ended.pid}.7.partial",
        tmp_path / ".a.b.partial",
        tmp_path / ".x.partial",
    ]
    for path in left:
        path.write_text("half")
    with atomic.writing(tmp_path / "state.json") as file:
        file.write(b"whole")
        atomic.remove_abandoned(tmp_path)
    assert [path.exists() for path in left] == [False, True, True] and (
        tmp_path / "state.json"
    ).read_bytes() == b"whole"
