"""What is typed is understood before Invoke sees it: words, flags, and what was meant by those that
are not."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from remote.contract.job.exits import Exit
from remote.control.commands.program import command_line, overview
from remote.control.commands.program.command_line import (
    INVOKE,
    OVERVIEW,
    VERSION,
    CommandLineError,
    understood,
)
from remote.control.project import CODE
from tests.integration.typed import environment, typed

TREE = command_line.commands_of(tasks.ns)


@pytest.mark.parametrize(
    ("words", "handed_on"),
    [
        ("status", "status"),
        ("cloud down", "cloud.down"),
        ("box ssh-config gpu", "box.ssh-config --name gpu"),
        ("logs --help", "--help logs"),
        ("logs a b -h", "--help logs"),
        ("model ask --help", "--help model.ask"),
        ("help model ask", "--help model.ask"),
        ("help train", "--help train"),
        ("cloud", "--list cloud"),
        ("--list", "--list"),
        ("-l model", "-l model"),
        ("logs a b -f --since 10m", "logs --names a --names b -f --since 10m"),
        ("logs --since=10m a", "logs --since=10m --names a"),
        ("launch a b -yn", "launch --names a --names b -yn"),
        ("run demo -b gpu", "run demo -b gpu"),
        ("run demo -bgpu", "run demo -bgpu"),
        ("run --playbook demo", "run --playbook demo"),
        ("why --run r-1", "why --run r-1"),
        ("check demo run demo", "check --playbook demo run demo"),
        ("check demo cloud down", "check --playbook demo cloud.down"),
        ("test --options '-x -k ledger'", "test --options '-x -k ledger'"),
        ("model.ask m 'two words; $(rm)'", "model.ask m 'two words; $(rm)'"),
        ("ssh", "ssh"),
        ("ssh demo", "ssh --name demo"),
        ("ssh demo -- ls", "ssh --name demo --command ls"),
        ("ssh demo -- ls -la", "ssh --name demo --command 'ls -la'"),
        ("ssh demo ls -la --help", "ssh --name demo --command 'ls -la --help'"),
        ("ssh demo -- 'df -h | tail -1'", "ssh --name demo --command 'df -h | tail -1'"),
        (
            "ssh demo cat 'a b' '$HOME'",
            shlex.join(["ssh", "--name", "demo", "--command", "cat 'a b' '$HOME'"]),
        ),
        ("ssh -- uptime", "ssh --command uptime"),
        ("ssh demo --", "ssh --name demo"),
        ("ssh demo --command 'ls; id'", "ssh --name demo --command 'ls; id'"),
        ("ssh demo --help", "--help ssh"),
    ],
)
def test_what_is_right_is_handed_on(words, handed_on):
    assert understood(shlex.split(words), TREE) == command_line.Request(
        INVOKE, shlex.split(handed_on)
    )


@pytest.mark.parametrize("words", ["", "--help", "-h", "help"])
def test_without_a_command_the_overview(words):
    assert understood(words.split(), TREE).kind == OVERVIEW


@pytest.mark.parametrize("words", ["--version", "-V"])
def test_the_version(words):
    assert understood([words], TREE).kind == VERSION


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("statsu", "`status`"),
        ("Status", "`status`"),
        ("recipt", "`receipt`"),
        ("setup", "`box.setup`"),
        ("cloud dwn", "`cloud.down`"),
        ("box.setp demo", "`box.setup`"),
        ("clod down", "`cloud.down`"),
        ("clod", "`cloud`"),
        ("up", "`cloud.up` or `model.up`"),
        ("help statsu", "`status`"),
        ("--lst", "`--list`"),
        ("--list clod", "`cloud`"),
        ("status --quik", "`--quick`"),
        ("status a --quik=1", "`--quick`"),
        ("run demo --dryrun", "`--dry-run`"),
        ("run demo statsu", "`status`"),
    ],
)
def test_a_misspelt_word_is_told_with_what_was_meant(words, meant):
    with pytest.raises(
        CommandLineError, match=re.compile(r"^(there is no|`\w+` (has no flag|takes only))")
    ) as refused:
        understood(words.split(), TREE)
    assert meant in refused.value.remedy and refused.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run", "needs PLAYBOOK"),
        ("model.ask m", "needs TEXT"),
        ("train --recipe demo", "needs DATA"),
        ("runs now", "takes no word"),
        ("run a b", "takes only PLAYBOOK"),
        ("run demo --box", "--box of `run` needs a value"),
        ("run demo --box --json", "--box of `run` needs a value"),
        ("status --json=yes", "takes no value"),
        ("status -x", "no flag -x"),
        ("launch -yx", "no flag -x"),
        ("status --echo", "no flag --echo"),  # Invoke's own, which would be taken anywhere
        ("-e status", "no flag -e before"),
        ("--json status", "--json goes after the command"),
        ("-n cloud down", "-n goes after the command"),
        ("--print-completion-script", "needs a shell"),
        ("--print-completion-script=fish", "no completion for `fish`"),
    ],
)
def test_what_is_off_is_told(words, told):
    with pytest.raises(CommandLineError, match=re.escape(told)):
        understood(words.split(), TREE)


def test_every_letter_has_one_meaning():
    meanings: dict[str, set[str]] = {}
    for name in tasks.ns.task_names:
        task = tasks.ns[name]
        helps = dict(task.help)
        for argument in task.get_arguments():
            for letter in (each for each in argument.names if len(each) == 1):
                meanings.setdefault(letter, set()).add(argument.names[0])
        task.help = helps
    for before in ("help", "list", "version"):  # the letters that stand without a command
        meanings.setdefault({"version": "V"}.get(before, before[0]), set()).add(before)
    assert {letter: names for letter, names in meanings.items() if len(names) != 1} == {}
    assert {letter: next(iter(names)) for letter, names in meanings.items()}["f"] == "follow"


def test_the_overview_is_short_and_true():
    lines = overview.text().splitlines()
    assert len(lines) < 20 and max(map(len, lines)) <= 110
    for command, _ in overview.ROAD:
        assert understood(command.split(), TREE).kind == INVOKE


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ((), 0, "./inv status", ""),
        (("--version",), 0, "Windlass 0.1.0\n", ""),
        (("statsu",), 2, "", "error: there is no command `statsu`\n  fix: did you mean `status`"),
        (("run", "demoo"), 10, "", "did you mean `demo`?"),
        (
            ("train", "--recipe", "demoo", "--data", "data/nothing.jsonl"),
            10,
            "",
            "did you mean `demo`?",
        ),
        (("stop", "demmo"), 10, "", "did you mean `demo`?"),
        (("status", "--jsn"), 2, "", "did you mean `--json`?"),
        (("statsu", "--json"), 2, '"exit_code": 2', "error: "),
        (("logs", "--help"), 0, "Usage: ./inv logs [NAMES ...] [FLAGS]\n", ""),
    ],
)
def test_typed(tmp_path, words, code, out, err):
    done = typed(*words, project=tmp_path)
    assert done.returncode == code and out in done.stdout and err in done.stderr


def test_a_list_is_one_line_a_command_off_a_terminal():
    lines = [line for line in typed("--list").stdout.splitlines() if line]
    assert len(lines) == len(TREE) and all(line.split()[0] in TREE for line in lines)


def test_plain_invoke_works_too():
    for program in (
        [sys.executable, "-m", "invoke"],
        [str(Path(sys.executable).with_name("invoke"))],
    ):
        done = subprocess.run(
            [*program, "check", "demo"],
            cwd=CODE,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout[:3]) == (0, "ok:"), done.stderr
        done = subprocess.run(
            [*program, "statsu"],
            cwd=CODE,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "did you mean `status`" in done.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize("folder", ["docs", "remote/control/runs"])
def test_from_any_subfolder(tmp_path, folder):
    (tmp_path / "inventory.yaml").write_text(
        "default_box: mine\nboxes: {mine: {provider: embedded}}\n"
    )
    program = str(Path(sys.executable).with_name("invoke"))
    # (What `inv` does in the end, without the making of an environment.)
    wrapper = [sys.executable, "-P", "-m", "remote.control.commands"]
    for command in (wrapper, [program]):
        done = subprocess.run(
            [*command, "config", "--json"],
            cwd=CODE / folder,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert list(json.loads(done.stdout)["boxes"]) == ["mine"], done.stderr
