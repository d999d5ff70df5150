"""Commands as a person types them: in a process of their own, or in this one."""

import os
import shlex
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from invoke import Collection, Exit

from remote.control.commands.program import program
from remote.control.project import CODE


def command_of(*words: str) -> list[str]:
    """The command line of `./inv WORDS`, without the making of its environment."""
    return [sys.executable, "-P", "-m", "remote.control.commands", *words]


def environment(project: Path | None = None) -> dict[str, str]:
    """This one's, for a project of one's own; the present one without."""
    named = {"WINDLASS_PROJECT": str(project)} if project else {}
    return os.environ | named | {"PYTHONPATH": str(CODE), "PYTHONWARNINGS": "default"}


def typed(
    *words: str, project: Path | None = None, seconds: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, without a terminal."""
    streams: Any = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(
        command_of(*words),
        env=environment(project),
        cwd=CODE,
        timeout=seconds,
        check=False,
        **streams,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def ended(commands: Collection, *words: str) -> int:
    """Run it here; its exit code."""
    try:
        program.run(
            words, deepcopy(commands)
        )  # Invoke takes the helps out of the tasks as it reads them
    except (SystemExit, Exit) as leave:
        return int(leave.code or 0)
    return 0


def in_process(capsys: Any, commands: Collection, line: str) -> tuple[int, str, str]:
    """Run it here; its exit code and both outputs."""
    code = ended(commands, *shlex.split(line))
    told = capsys.readouterr()
    return code, told.out, told.err
