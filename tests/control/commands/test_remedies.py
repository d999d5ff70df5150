"""Every `./inv ...` that a person is told to type: in the code, the templates, the docs. Each is
understood as it stands, with its words, flags and values; those that only tell something are typed,
in a fresh project."""

import re
import shlex
from pathlib import Path

import pytest

import tasks
from remote.contract.job.exits import Exit
from remote.control.commands.program import command_line
from tests.integration.typed import typed

ROOT = Path(tasks.__file__).parent
PLACES = (
    "remote/**/*.py",
    "templates/*",
    "docs/*.md",
    "*.md",
    "benchmarks/*.md",
    "data/*.md",
    "playbooks/**/*.yaml",
    "inventory.yaml",
)
COMMAND = re.compile(r"(?:\./|[`(])inv +((?:\{[^}]*\}|'[^'\n]*'|\"[^\"\n`]+\"|[^`\"'\n#|;&>])+)")
PLACEHOLDER = re.compile(r"\[?[A-Z][A-Z,_]*\]?|NAME-\d")
TREE = command_line.commands_of(tasks.ns)

CHEAP = {"check", "config", "--list", "--help", "--version", "runs", "help"}
"""Commands that are typed for real wherever they stand: they read files alone. (Those of a box or a
run need one.)"""


def words_of(text: str) -> list[str]:
    """The words of one command, up to where its sentence goes on: after a comma, a full stop, a
    bracket, a wide gap. Quotes keep words together; in code, so do the braces of an f-string."""
    text = re.sub(
        r"\{[^}]*\}",
        lambda found: found[0].replace(" ", "").replace("'", "").replace('"', ""),
        text,
    )
    words = []
    for word in re.findall(
        r"(?:\{[^}]*\}|\"[^\"]*\"|'[^']*'|\S)+", re.split(r" {2,}", text.strip())[0]
    ):
        bare = word.rstrip(",.:)\\") if word != "..." else ""
        words.append(bare.strip("'\""))
        if bare != word:
            break
    return [word for word in words if word]


def typed_as(words: list[str]) -> list[str]:
    """A real word for each placeholder: `[RUN or BOX ...]` and `[NAME]` may be left out, and
    are."""
    text = re.sub(
        r"\[[^]]*\]", "", " ".join(f"'{word}'" if " " in word else word for word in words)
    )
    return [
        re.sub(r"\{[^}]*\}", "some", PLACEHOLDER.sub("some", word))
        for word in shlex.split(text.replace("[", "").replace("]", ""))
    ]


def told() -> list[tuple[str, list[str]]]:
    """Every command with the file where it stands; a text in several literals is one."""
    paths = sorted({path for pattern in PLACES for path in ROOT.glob(pattern) if path.is_file()})
    lines = [
        (str(path.relative_to(ROOT)), line)
        for path in paths
        for line in re.sub(r'"\n *f?"', "", path.read_text()).splitlines()
    ]
    return [
        (where, words)
        for where, line in lines
        for found in COMMAND.findall(line)
        if (words := words_of(found))
    ]


def problem_of(words: list[str]) -> str:
    """What is wrong with a command; empty when nothing is."""
    invokes_own = words[0] in ("--list", "--print-completion-script")
    # (`{` stands for what code fills in.)
    if PLACEHOLDER.fullmatch(words[0]) or words[0].startswith("{") or invokes_own:
        return ""
    try:
        command_line.understood(typed_as(words), TREE)
    except command_line.CommandLineError as error:
        # A sentence names a command, `./inv train`, without all that it needs; with one word of it,
        # it must have all.
        return (
            "" if " needs " in error.what and len(words) == 1 else f"{error.what} ({error.remedy})"
        )
    return ""


COMMANDS = told()
TYPED = sorted(
    {
        tuple(typed_as(words))
        for _, words in COMMANDS
        if words[0] in CHEAP and "{" not in " ".join(words)
    }
)


def test_they_were_found():
    assert len(COMMANDS) > 250
    assert {"docs/aws.md", "remote/control/cloud/boxes.py", "README.md"} <= {
        where.split(":")[0] for where, _ in COMMANDS
    }


@pytest.mark.parametrize(
    ("where", "words"), COMMANDS, ids=[f"{where} {words[0]}" for where, words in COMMANDS]
)
def test_the_command_exists(where, words):
    assert not (problem := problem_of(words)), f"{where}: ./inv {' '.join(words)}: {problem}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A fresh one, with the box of README.md."""
    folder = tmp_path_factory.mktemp("project")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder / "inventory.yaml").write_text(
        f"default_box: demo\n{yaml}  demo: {{provider: embedded}}\n"
    )
    return folder


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_what_only_tells_is_typed(project, words):
    done = typed(
        *(
            "demo" if word == "some" and words[0] in ("check", "--help", "help") else word
            for word in words
        ),
        project=project,
    )
    assert done.returncode in (0, Exit.CONFIG if "some" in words else 0), done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("start demo", ""),
        ("start {box.name} --dry-run", ""),
        ("logs RUN -f", ""),
        ("logs [RUN or BOX ...] -f", ""),
        ("train", ""),
        ("begin demo", "there is no command `begin`"),
        ("start demo --force", "`start` has no flag --force"),
        ("demo RUN", "`demo` takes no word"),
        ("start NAME --wait", "--wait of `start` needs a value"),
        ("train --recipe demo", "`train` needs DATA"),
        ("--lost", "there is no flag --lost"),
    ],
)
def test_what_does_not_exist_is_noticed(text, problem):
    assert problem_of(words_of(text)).startswith(problem) and bool(
        problem_of(words_of(text))
    ) == bool(problem)
