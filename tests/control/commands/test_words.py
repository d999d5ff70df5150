"""Words that may be left out, against Invoke itself."""

import os
import subprocess

import pytest
from invoke import Collection, Program

from remote.contract.exits import Exit
from remote.control.commands.verb import verb
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
    CALLS.clear()
    Program(namespace=Collection(launch, send, stop, demo)).run(f"inv {words}".strip(), exit=False)
    return list(CALLS)


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
        ("stop", [("stop", (), False)]),
        ("stop a", [("stop", ("a",), False)]),
        ("stop a b --yes c", [("stop", ("a", "b", "c"), True)]),
        ("stop --yes a demo stop", [("stop", ("a", "demo", "stop"), True)]),
        ("stop --names a --names b", [("stop", ("a", "b"), False)]),
        ("demo stop a", [("demo",), ("stop", ("a",), False)]),
    ],
)
def test_words_find_their_place(words, calls):
    assert run(words) == calls


def test_a_word_without_a_default_is_needed(capsys):
    run("send")
    assert "required positional arguments: 'what'" in capsys.readouterr().err


def test_words_in_excess_are_told(capsys):
    assert run("launch trainer nonsense") == []
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["nonsense", "launch --nme trainer", "launch --size many", "launch --size", "send --whta it", "send", "stop a --bogus"]
)
def test_a_command_line_that_is_off_is_refused_in_words(words, capsys):
    CALLS.clear()
    with pytest.raises(SystemExit) as left:
        Program(namespace=Collection(launch, send, stop, demo)).run(f"inv {words}")
    assert left.value.code == Exit.USAGE and CALLS == []
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "--list" in told and "Traceback" not in told


@pytest.mark.parametrize("verb", ["launch", "send", "stop"])
def test_help_may_stand_behind_the_verb(verb, capsys):
    assert run(f"{verb} --help") == []
    assert "[other tasks here ...]" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--list"], ["--help", "launch"]])
def test_what_nobody_reads_to_its_end_is_no_failure(words):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(command_of(*words), stdout=closed, stderr=subprocess.PIPE, env=environment(), cwd=CODE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
