"""The wrapper: what it hands to Invoke, when it makes .venv, and what it says where it can't."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """The wrapper and a lock file, with an interpreter in .venv that prints its arguments."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/laptop.lock").write_text("# nothing\n")
    shutil.copy(ROOT / "inv", tmp_path / "inv")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    python.chmod(0o755)
    shutil.copy(tmp_path / "requirements/laptop.lock", tmp_path / ".venv/installed.lock")
    return tmp_path


def call(checkout: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([checkout / "inv", *words], env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("typed", "handed_on"),
    [
        (["demo"], ["demo"]),
        (["cloud", "down"], ["cloud.down"]),
        (["box", "ssh-config", "gpu"], ["box.ssh-config", "gpu"]),
        (["logs", "--help"], ["--help", "logs"]),
        (["model", "ask", "-h"], ["--help", "model.ask"]),
        (["model.ask", "m", "two words; $(rm)"], ["model.ask", "m", "two words; $(rm)"]),
        (["--list"], ["--list"]),
    ],
)
def test_words(checkout, typed, handed_on):
    for dont_write, flags in (("1", []), ("", ["--write-pyc"])):
        done = call(checkout, *typed, PYTHONDONTWRITEBYTECODE=dont_write)
        assert done.stdout.split("|")[:-1] == ["-m", "invoke", "--search-root", str(checkout), *flags, *handed_on]


def test_collections_are_the_trees(monkeypatch):
    from importlib import util

    spec = util.spec_from_file_location("tasks", ROOT / "tasks.py")
    tasks = util.module_from_spec(spec)
    spec.loader.exec_module(tasks)
    named = (ROOT / "inv").read_text().split("=~ ^(")[1].split(")")[0].split("|")
    assert set(named) == set(tasks.ns.collections)


def test_what_cannot_be_installed_is_told_and_leaves_no_stamp(checkout):
    shutil.rmtree(checkout / ".venv")
    (checkout / "requirements/laptop.lock").write_text("no-such-package-of-windlass==1 --hash=sha256:00\n")
    done = call(checkout, "demo", PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin", PIP_INDEX_URL="file:///nowhere", PIP_NO_INDEX="1")
    assert done.returncode != 0
    assert "making .venv" in done.stderr and "mend:" in done.stderr
    assert not (checkout / ".venv/installed.lock").exists()


def test_a_python_without_venv_is_told_with_the_apt_command(checkout, tmp_path):
    python = tmp_path / "python-without-venv"
    python.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (checkout / ".venv/installed.lock").unlink()
    done = call(checkout, "demo", PYTHON=str(python), PATH="/usr/bin:/bin")
    assert (done.returncode, "sudo apt-get install python3-venv" in done.stderr) == (2, True)
