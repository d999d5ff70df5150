"""Other people's libraries: moto is changed in one file, which knows the moto that it changes, and
no other at all."""

import ast
import subprocess
import sys

import moto
import pytest

from remote.control.project import CODE
from remote.embedded.cloud import moto_changes

LIBRARIES = ("moto", "botocore", "boto3", "paramiko", "fabric", "invoke", "asyncssh")
FILES = [path for path in sorted((CODE / "remote").rglob("*.py")) if path.name != "moto_changes.py"]
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def test_it_was_tried_with_the_moto_that_is_installed():
    assert moto.__version__ in moto_changes.TRIED, (
        "try the embedded cloud's tests with it, and add it to TRIED"
    )


@pytest.mark.parametrize(
    "change",
    [
        "Instance.start = lambda self, later: None",
        "del Ami.block_device_mappings",
        "EC2Backend.create_image = EC2Backend.run_instances",
    ],
)
def test_a_moto_that_is_not_as_it_was_is_refused_by_its_version_when_it_is_imported(change):
    code = f"""
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance
{change}
import remote.embedded.cloud.server
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=CODE, capture_output=True, text=True)
    name = change.removeprefix("del ").partition(" ")[0]
    assert (
        done.returncode
        and f"the embedded cloud does not work with moto {moto.__version__}: {name} is ("
        in done.stderr
    )


def test_only_what_is_listed_can_be_replaced():
    with pytest.raises(KeyError, match=r"Ami.__init__"):
        moto_changes.replace(moto_changes.Ami, "__init__", lambda original, self: None)


def test_nothing_else_changes_a_library():
    assert [place for path, tree in TREES.items() for place in changed(path, tree)] == []


def changed(path, tree):
    """Where an attribute of what was imported from one of the libraries is set."""
    names = {
        (name.asname or name.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
        if (node.module or "" if isinstance(node, ast.ImportFrom) else name.name).partition(".")[0]
        in LIBRARIES
    }
    for node in ast.walk(tree):
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AugAssign)
            else []
        )
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "setattr"
        ):
            targets = [ast.Attribute(node.args[0], "")]
        if any(
            isinstance(each, ast.Attribute)
            and isinstance(each.value, ast.Name)
            and each.value.id in names
            for each in targets
        ):
            yield f"{path}:{node.lineno}"


DOCUMENTED = ("_exit", "_replace")
"""Of os, and of named tuples."""


def test_no_private_name_of_others_is_used():
    own = {
        name
        for tree in TREES.values()
        for node in ast.walk(tree)
        for name in private_names_made(node)
    }
    used = [
        f"{path.relative_to(CODE)}:{node.lineno}: {node.attr}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own
    ]
    assert [each for each in used if each.rpartition(" ")[2] not in DOCUMENTED] == []


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_names_made(node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_private(
        node.name
    ):
        yield node.name
    if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        if is_private(name):
            yield name
