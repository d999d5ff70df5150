"""Every `./inv ...` that a person is told to type exists: in the code, the templates, the docs, with its words and flags."""

import copy
import re
from pathlib import Path

import pytest
from invoke.program import Program

import tasks

ROOT = Path(tasks.__file__).parent
PLACES = ("remote/**/*.py", "templates/*", "docs/*.md", "*.md", "benchmarks/*.md", "data/*.md", "playbooks/**/*.yaml", "inventory.yaml")
COMMAND = re.compile(r"\./inv +([^`\"'\n#|;]+)")
PLACEHOLDER = re.compile(r"\[?[A-Z]+\]?|\{.*")


def flags_of(arguments) -> set[str]:
    """The flags as they are typed: `--dry-run`, `-d`."""
    names = [name.replace("_", "-") for argument in arguments for name in argument.names]
    return {f"--{name}" if len(name) > 1 else f"-{name}" for name in names}


def words_of(text: str) -> list[str]:
    """The words of one command, up to where its sentence goes on: after a comma, a full stop, a bracket, a wide gap."""
    words = []
    for word in re.split(r" {2,}", text.strip())[0].split():
        bare = word.rstrip(",.:)")
        words.append(bare)
        if bare != word:
            break
    return [word for word in words if word]


def told() -> list[tuple[str, list[str]]]:
    """Every command with the place where it stands."""
    paths = sorted({path for pattern in PLACES for path in ROOT.glob(pattern) if path.is_file()})
    lines = [(f"{path.relative_to(ROOT)}:{number}", line) for path in paths for number, line in enumerate(path.read_text().splitlines(), 1)]
    return [(where, words) for where, line in lines for found in COMMAND.findall(line) if (words := words_of(found))]


def problem_of(words: list[str]) -> str:
    """What is wrong with a command; empty when nothing is."""
    verb, *rest = words
    if verb.startswith("-"):
        return "" if verb in flags_of(Program().core_args()) | flags_of(Program().task_args()) else f"Invoke has no flag {verb}"
    if PLACEHOLDER.fullmatch(verb):
        return ""
    if verb not in tasks.ns.task_names:
        return f"there is no command {verb}"
    task = copy.copy(tasks.ns[verb])
    task.help = dict(task.help)  # Invoke takes the helps out as it reads them
    arguments = task.get_arguments()
    if unknown := [word for word in rest if re.match(r"--?[a-z]", word) and word not in flags_of(arguments) | {"--help"}]:
        return f"{verb} has no {', '.join(unknown)}"
    if rest and PLACEHOLDER.fullmatch(rest[0]) and not any(argument.positional for argument in arguments):
        return f"{verb} takes no word, such as {rest[0]}"
    return ""


COMMANDS = told()


def test_they_were_found():
    assert len(COMMANDS) > 100
    assert {"docs/aws.md", "remote/control/cloud/boxes.py", "README.md"} <= {where.split(":")[0] for where, _ in COMMANDS}


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[f"{where} {words[0]}" for where, words in COMMANDS])
def test_the_command_exists(where, words):
    assert not (problem := problem_of(words)), f"{where}: ./inv {' '.join(words)}: {problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("start demo", ""),
        ("start {box.name} --dry-run", ""),
        ("logs RUN -f", ""),
        ("begin demo", "there is no command begin"),
        ("start demo --force", "start has no --force"),
        ("demo RUN", "demo takes no word, such as RUN"),
        ("--lost", "Invoke has no flag --lost"),
    ],
)
def test_what_does_not_exist_is_noticed(text, problem):
    assert problem_of(words_of(text)) == problem
