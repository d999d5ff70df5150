"""What the Tab key offers: by the words alone, and in real shells."""

import shutil
import sys

import pytest

import tasks
from remote.control.commands.completion import candidates, names_of
from remote.control.commands.program import command_line
from remote.control.project import CODE
from tests.integration.typed import environment, typed
from tests.terminal import Terminal

TREE = command_line.commands_of(tasks.ns)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "inventory.yaml").write_text(
        "default_box: demo\nboxes: {demo: {provider: embedded}, lab: {provider: embedded, count: 2}}\n"
    )
    run = tmp_path / "runs/20261121-201254-haul-e598"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text("")
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("st", "start status stop"),
        ("cloud d", "down"),
        ("cloud.d", "cloud.down"),
        ("help wh", "why"),
        ("--l", "--list"),
        ("stop ", "demo lab lab-1 lab-2"),
        ("stop demo lab-", "lab-1 lab-2"),
        ("box setup d", "demo"),
        ("status --j", "--json"),
        ("status --json --j", ""),
        ("status -q", ""),
        ("run ", "demo golden-path"),
        ("run demo --box ", "demo lab lab-1 lab-2"),
        ("run demo -b l", "lab lab-1 lab-2"),
        ("run demo --box=d", "--box=demo"),
        ("run demo --box = d", "demo"),
        ("run demo --box =", "demo lab lab-1 lab-2"),
        ("run demo --b", "--box"),
        ("check demo ", "--playbook --on --box --json"),
        ("check demo --on l", "lab lab-1 lab-2 local"),
        ("check demo run gol", "golden-path"),
        ("why ", "20261121-201254-haul-e598"),
        ("logs 2", "20261121-201254-haul-e598"),
        ("logs --level w", "warning"),
        ("train --recipe mis", "mistral-7b-golden"),
        ("ssh d", "demo"),
        ("ssh demo -- l", ""),
        ("ssh demo ls d", ""),
        ("model.ask ", ""),
        ("statsu ", ""),
        ("statsu --", ""),
    ],
)
def test_what_is_offered(project, words, offered):
    found = candidates(words.split(" "), TREE, names_of)
    assert sorted(found) == sorted(offered.split())


def test_each_command_is_offered():
    assert candidates([""], TREE, names_of) == sorted(TREE)


def test_an_inventory_that_is_off_is_no_error_here(project):
    (project / "inventory.yaml").write_text("boxes: [\n")
    done = typed("--complete", "--", "./inv", "stop", "", project=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "zsh with compinit": ["zsh", "-f", "-i"],
}


@pytest.fixture(params=SHELLS)
def shell(request, project):
    """An interactive one in a subfolder of a project, that has read the script."""
    name = request.param.split()[0]
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    wrapper = project / "inv"  # without the making of an environment
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m remote.control.commands "$@"\n')
    wrapper.chmod(0o755)
    (project / "notes").mkdir()
    (project / "notes/report.md").write_text("")
    terminal = Terminal(
        SHELLS[request.param],
        columns=200,
        folder=project / "notes",
        environment=environment(project) | {"HOME": str(project), "PS1": "> "},
    )
    if request.param != name:
        terminal.type("autoload -Uz compinit; compinit -D -u\n")
    terminal.type(f'eval "$(../inv --print-completion-script {name})"; echo rea""dy\n')
    assert terminal.read_until("ready\n"), terminal.shown
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("typed_so_far", "completed"),
    [
        ("../inv recei\t", "../inv receipt "),
        ("../inv status --js\t", "../inv status --json "),
        ("../inv stop de\t", "../inv stop demo "),
        ("../inv run demo --box de\t", "demo --box demo "),
        ("../inv run demo --box=de\t", "demo --box=demo "),
        ("../inv cloud sta\t", "../inv cloud status "),
        ("~/inv why 2026\t", "why 20261121-201254-haul-e598 "),
        ("../inv ssh demo -- cat rep\t", "cat report.md "),
    ],
)
def test_in_a_real_shell(shell, typed_so_far, completed):
    shell.shown = ""
    shell.type(typed_so_far)
    shown = shell.read_until(completed)
    assert shown, repr(shell.shown)


def test_plain_invoke_completes_too(project):
    import subprocess
    from pathlib import Path

    program = Path(sys.executable).with_name("invoke")
    done = subprocess.run(
        [program, "--complete", "--", "invoke", "stop", "de"],
        cwd=CODE / "docs",
        env=environment(project),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("demo\n", "")
