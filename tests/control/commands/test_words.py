"""Words without a flag, from what is typed to what Invoke calls."""

import os
import shlex
import subprocess
from copy import deepcopy

import pytest
from invoke import Collection, Exit

from remote.contract.job.exits import Exit as Code
from remote.control.commands.program import program
from remote.control.commands.program.verb import verb
from remote.control.project import CODE
from tests.integration.typed import command_of, environment

CALLS = []


@verb(positional=["name"])
def launch(_context, name="", yes=False, size=0):
    CALLS.append(("launch", name, yes, size))


@verb(positional=["what", "where"])
def send(_context, what, where="here"):
    CALLS.append(("send", what, where))


@verb(positional=["names"])
def stop(_context, names=(), yes=False):
    CALLS.append(("stop", names, yes))


@verb
def demo(_context):
    CALLS.append(("demo",))


def run(words):
    """What was called, and the exit code."""
    CALLS.clear()
    code = 0
    try:
        program.run(shlex.split(words), deepcopy(Collection(launch, send, stop, demo)))
    except (SystemExit, Exit) as left:
        code = int(left.code or 0)
    return list(CALLS), code


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        ("launch", [("launch", "", False, 0)]),
        ("launch trainer", [("launch", "trainer", False, 0)]),
        ("launch demo", [("launch", "demo", False, 0)]),
        ("launch --yes", [("launch", "", True, 0)]),
        ("launch --yes trainer", [("launch", "trainer", True, 0)]),
        ("launch trainer --yes --size 3", [("launch", "trainer", True, 3)]),
        ("launch --name trainer", [("launch", "trainer", False, 0)]),
        ("launch trainer demo", [("launch", "trainer", False, 0), ("demo",)]),
        ("launch a launch b", [("launch", "a", False, 0), ("launch", "b", False, 0)]),
        ("send it", [("send", "it", "here")]),
        ("send it there", [("send", "it", "there")]),
        ("stop", [("stop", [], False)]),
        ("stop a", [("stop", ["a"], False)]),
        ("stop a b --yes c", [("stop", ["a", "b", "c"], True)]),
        ("stop --yes a demo stop", [("stop", ["a", "demo", "stop"], True)]),
        ("stop --names a --names b", [("stop", ["a", "b"], False)]),
        ("demo stop a", [("demo",), ("stop", ["a"], False)]),
    ],
)
def test_words_find_their_place(words, calls):
    assert run(words) == (calls, 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("send", "`send` needs WHAT"),
        ("launch trainer nonsense", "what is `nonsense`"),
        ("nonsense", "no command `nonsense`"),
        ("launch --nme trainer", "did you mean `--name`"),
        ("launch --size many", "a whole number, not `many`"),
        ("launch --size=many", "a whole number, not `many`"),
        ("launch --size", "needs a value"),
        ("send --whta it", "`--what`"),
        ("stop a --bogus", "no flag --bogus"),
    ],
)
def test_a_command_line_that_is_off_is_refused_in_words(words, told, capsys):
    assert run(words) == ([], Code.USAGE)
    said = capsys.readouterr().err
    assert said.startswith("error: ") and told in said and "Traceback" not in said


@pytest.mark.parametrize("verb", ["launch", "send", "stop"])
def test_help_may_stand_behind_the_verb(verb, capsys):
    assert run(f"{verb} --help") == ([], 0)
    assert f"Usage: ./inv {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--list"], ["--help", "launch"]])
def test_what_nobody_reads_to_its_end_is_no_failure(words):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            command_of(*words),
            stdout=closed,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=CODE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
