"""The first files of a project: written by answers or flags, never over another one, and right from
the start."""

import os
import pty
import subprocess

import pytest

from remote.contract.job.exits import Exit
from remote.control import project
from remote.control.commands.tree import ns
from tests.integration.typed import command_of, environment, in_process


@pytest.mark.parametrize(
    "flags",
    [
        "--provider embedded",
        "--provider embedded --name mine",
        "--provider ec2",
        "--provider ec2 --name a100 --region eu-west-1 --type p4d.24xlarge",
        "--provider static --host gpu.example.org",
        "--provider static --name lab --host 10.0.0.5 --user me",
    ],
)
def test_what_init_writes_passes_check(capsys, flags):
    code, out, _ = in_process(capsys, ns, f"init {flags}")
    written = (project.root() / "inventory.yaml").read_text()
    assert code == 0 and "next: `./inv check`" in out and written.count("\n") < 35
    assert (project.root() / ".gitignore").read_text() == "/.windlass/\n/runs/\n"
    assert in_process(capsys, ns, "check")[0] == 0


def test_init_never_writes_over_an_inventory(capsys):
    file = project.root() / "inventory.yaml"
    file.write_text("mine")
    code, _, err = in_process(capsys, ns, "init --provider embedded")
    assert code == Exit.USAGE and "exists; nothing was written" in err
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "--provider NAME"),
        ("--provider azure", "there is no provider `azure`"),
        ("--provider static", "--host HOST"),
        ("--provider static --host h --type g5.2xlarge", "takes no --type"),
        ("--provider ec2 --region here", "region"),
        ("--provider ec2 --name 'a: b'", "inventory.yaml"),
    ],
)
def test_what_makes_no_box_is_told_and_nothing_is_written(capsys, flags, said):
    code, _, err = in_process(capsys, ns, f"init {flags}")
    assert code in (Exit.USAGE, Exit.CONFIG) and said in err
    assert not list(project.root().iterdir())


def test_a_rehearsal_prints_the_file(capsys):
    code, out, _ = in_process(capsys, ns, "init --provider ec2 --dry-run")
    assert code == 0 and "region: us-east-1" in out and not list(project.root().iterdir())


def test_on_a_terminal_four_questions_are_asked(tmp_path):
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        command_of("init"), env=environment(tmp_path), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    heard = b""
    for asked, answer in (
        (b"Where is the box", b"2"),
        (b"box called", b""),
        (b"region", b"eu-west-1"),
        (b"instance type", b""),
    ):
        while asked not in heard:
            heard += os.read(ours, 1000)
        os.write(ours, answer + b"\n")
    assert started.wait(timeout=30) == 0
    written = (tmp_path / "inventory.yaml").read_text()
    assert "default_box: gpu" in written and "region: eu-west-1" in written
    assert "instance_type: g5.2xlarge" in written
    os.close(ours)


def test_a_recipe_and_its_playbook_pass_check(capsys):
    (project.root() / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    assert in_process(capsys, ns, "init --provider ec2")[0] == 0
    assert in_process(capsys, ns, "new recipe mine")[0] == 0
    assert in_process(capsys, ns, "new playbook mine --recipe mine --data rows.jsonl")[0] == 0
    assert in_process(capsys, ns, "new playbook other")[0] == 0
    for line in ("check", "check mine --box gpu", "check other --box gpu"):
        code, out, err = in_process(capsys, ns, line)
        assert code == 0, out + err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("new recipe demo", "ships with Windlass"),
        ("new recipe ../x", "no name of a recipe"),
        ("new recipes x", "did you mean `recipe`?"),
        ("new playbook x --recipe gone", "no recipe `gone`"),
        ("new playbook x --data gone.jsonl", "no file `gone.jsonl`"),
        ("new recipe x --data rows.jsonl", "takes no --data"),
        ("new recipe x --extends gone.yaml", "no recipe `gone.yaml`"),
        ("new recipe", "needs NAME"),
    ],
)
def test_what_cannot_be_written_is_told(capsys, line, said):
    code, _, err = in_process(capsys, ns, line)
    assert code == Exit.USAGE and said in err and not list(project.root().iterdir())


def test_new_never_writes_over_a_file(capsys):
    assert in_process(capsys, ns, "new recipe mine")[0] == 0
    file = project.root() / "playbooks/recipes/mine.yaml"
    file.write_text("mine")
    assert in_process(capsys, ns, "new recipe mine")[0] == Exit.USAGE
    assert file.read_text() == "mine"
