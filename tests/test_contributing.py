"""CONTRIBUTING.md as a newcomer follows it: its stage and its backend, added to a copy of this
checkout by the text's own code, run."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from remote.control.project import CODE

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def block(begins: str, language: str = "python") -> str:
    """The block of CONTRIBUTING.md that begins so."""
    found = [
        code
        for kind, code in BLOCK.findall((CODE / "CONTRIBUTING.md").read_text())
        if kind == language and code.lstrip().startswith(begins)
    ]
    assert len(found) == 1, begins
    return found[0]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy with both."""
    folder = tmp_path_factory.mktemp("newcomer") / "windlass"
    for name in ("remote", "templates", "playbooks", "data", "tests/conftest.py"):
        copy = shutil.copytree if (CODE / name).is_dir() else shutil.copy2
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(CODE / name, folder / name)
    for name in ("pyproject.toml", "README.md", "inventory.yaml"):
        shutil.copy2(CODE / name, folder / name)

    def edit(name, old, new):
        text = (folder / name).read_text()
        assert text.count(old) == 1, (name, old)
        (folder / name).write_text(text.replace(old, new))

    stages = "remote/contract/job/stages.py"
    edit(stages, "    for stage in (\n", f"    for stage in (\n{block('Stage(').rstrip()},\n")
    (folder / "remote/payload/stages/count.py").write_text(block('"""Counts the words'))
    (folder / "playbooks/toy.yaml").write_text(block("name: toy", "yaml"))
    (folder / "tests/payload").mkdir()
    (folder / "tests/payload/test_count.py").write_text(block("import json"))

    inventory = "remote/control/config/inventory.py"
    union = "InventoryEntry = CloudEntry | StaticEntry\n"
    entry = block("class ChildEntry")
    edit(inventory, union, f"{entry}\n\n{union.rstrip()} | ChildEntry\n")
    (folder / "remote/control/backends/child.py").write_text(block('"""This machine, plainly'))
    chosen = block("from remote.control.backends.child import")
    edit("remote/control/backends/__init__.py", "    place = ", f"{chosen}\n    place = ")
    edit(
        "remote/control/backends/__init__.py", "import LocalEntry", "import ChildEntry, LocalEntry"
    )
    edit("inventory.yaml", "\nboxes:\n", f"\nboxes:\n{block('here:', 'yaml')}")
    return folder


def typed(checkout, *words):
    surroundings = {name: value for name, value in os.environ.items() if "WINDLASS" not in name}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env={**surroundings, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_stage_and_the_backend_of_the_text_run(checkout):
    inv = ("-P", "-m", "remote.control.commands")
    assert "toy" in typed(checkout, *inv, "check")
    assert "words" in typed(checkout, *inv, "run", "toy", "--on", "here")
    assert " words" in typed(checkout, *inv, "logs")
    assert "here" in typed(checkout, *inv, "status", "here")
    (made,) = (checkout / "runs").glob("*/artifacts/count/counts.json")
    assert json.loads(made.read_text())["words"] > 100


def test_the_test_of_the_text_passes(checkout):
    typed(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/payload/test_count.py")
