"""Windlass installed: the wheel in an environment of its own, and `windlass` typed in a folder that
is no checkout."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from remote.contract.job.exits import Exit
from remote.control.project import CODE


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this checkout's files."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = shutil.which("uv")
    build = [uv, "build", "--quiet", "--wheel", "--out-dir"] if uv else [
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--wheel-dir"),
    ]  # fmt: skip
    source = _source_tree(tmp_path_factory.mktemp("source") / "windlass")
    done = subprocess.run(
        [*build, str(folder), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def _source_tree(to: Path) -> Path:
    """What git would have of this checkout: a build leaves nothing behind there."""
    names = ["remote", "templates", "playbooks", "data", "pyproject.toml", "README.md", "LICENSE"]
    to.mkdir()
    for name in names:
        if (CODE / name).is_dir():
            shutil.copytree(CODE / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(CODE / name, to / name)
    return to


@pytest.fixture(scope="module")
def windlass(wheel, tmp_path_factory):
    """The `windlass` command of a fresh environment, which borrows what the wheel depends on from
    the tests' own."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    if uv := shutil.which("uv"):
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    done = subprocess.run(
        [*install, "--no-deps", str(wheel)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))

    def typed(*words: str, within: Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if name != "WINDLASS_PROJECT"}
        kept.pop("PYTHONPATH", None)
        done = subprocess.run(
            [folder / "bin/windlass", *words],
            env=kept,
            cwd=within,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    return typed


@pytest.fixture
def project(windlass, tmp_path):
    """A folder with an inventory that `windlass init` wrote."""
    windlass("init", "--provider", "embedded", within=tmp_path)
    yield tmp_path
    windlass("cloud.down", within=tmp_path)


def test_the_wheel_holds_what_is_read_at_run_time(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in ("templates", "playbooks", "data/corpus", "data/profiles"):
        shipped = [path for path in (CODE / part).rglob("*") if path.is_file()]
        inside = {f"remote/shipped/{path.relative_to(CODE).as_posix()}" for path in shipped}
        assert inside <= names
    assert {
        f"remote/payload/{path.name}" for path in (CODE / "remote/payload").glob("requirements*")
    } <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"remote"}


def test_without_an_inventory_it_says_how_to_begin(windlass, tmp_path):
    assert "windlass doctor" in windlass(within=tmp_path).stdout
    listed = windlass("--list", within=tmp_path).stdout
    assert " init " in listed and " dev.lock " not in listed and " test " not in listed
    said = windlass("check", within=tmp_path, code=Exit.CONFIG).stderr
    assert not (tmp_path / "inventory.yaml").exists()
    assert "windlass check" in said and "./inv" not in said


def test_a_project_is_begun_and_checked_from_any_folder_of_it(windlass, project):
    windlass("new", "recipe", "mine", within=project)
    below = project / "deep/er"
    below.mkdir(parents=True)
    made = windlass("new", "playbook", "mine", "--recipe", "mine", within=below).stdout
    assert "windlass check mine" in made and (project / "playbooks/mine.yaml").is_file()
    assert windlass("check", within=below).stdout.startswith("ok: ")
    planned = windlass("run", "demo", "--dry-run", within=below).stdout
    assert "pretrain" in planned and "validate" in planned
    assert not (below / ".windlass").exists()


@pytest.mark.sshd
def test_it_launches_a_box_and_names_what_would_go_there(windlass, project):
    plan = windlass("deploy", "--plan", "--playbook", "demo", within=project).stdout
    assert "data/corpus" in plan and "__pycache__" not in plan
    windlass("launch", "demo", within=project)
    assert "running" in windlass("status", within=project).stdout
