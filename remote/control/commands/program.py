"""Invoke as `./inv` runs it: our words for help and lists, and no letters that mean something else
before a command than behind it."""

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invoke import Collection, Exit, Program

from remote.control import console
from remote.control.commands import command_line, overview
from remote.control.commands.verb import answered

_LETTERS = ("h", "l", "V")


class Inv(Program):  # type: ignore[misc]
    """The program behind `./inv`."""

    def core_args(self) -> list[Any]:
        """Invoke's, by their long names; a letter where it has no other meaning."""
        arguments: list[Any] = super().core_args()
        for argument in arguments:
            argument.names = tuple(
                name for name in argument.names if len(name) > 1 or name in _LETTERS
            )
        return arguments

    def list_flat(self) -> None:
        """All commands, or those of a group, by their whole names."""
        root = f"{self.list_root}." if self.list_root else ""
        names = sorted(name for name in self.collection.task_names if name.startswith(root))
        self.print_columns(
            [
                (name, (inspect.getdoc(self.collection[name]) or "").partition("\n")[0])
                for name in names
            ]
        )

    def print_columns(self, tuples: Sequence[tuple[str, str | None]]) -> None:
        """Names with what they mean: folded to a terminal, and one line each where there is
        none."""
        first = max((len(name) for name, _ in tuples), default=0)
        width = (
            max(shutil.get_terminal_size().columns - first - 5, 20)
            if sys.stdout.isatty()
            else 10_000
        )
        for name, meaning in tuples:
            lines = textwrap.wrap(meaning or "", width) or [""]
            console.write(f"  {name:<{first}}  {lines[0]}".rstrip() + "\n")
            console.write("".join(f"{'':<{first + 4}}{line}\n" for line in lines[1:]))

    def print_task_help(self, name: str) -> None:
        """What one command does, and its words and flags."""
        command = command_line.commands_of(self.collection)[name]
        flags = self.parser.contexts[name].help_tuples()
        console.write(
            f"{command_line.usage(command)}\n\n{inspect.getdoc(self.collection[name])}\n\n"
        )
        if flags:
            self.print_columns(flags)


def answer_plain_invoke(tree: Any) -> None:
    """Where `invoke launch gpu` was typed instead of `./inv launch gpu`: do the same, and leave.
    Invoke would take `gpu` for a command.

    What begins with a flag of Invoke's own is left to it.
    """
    program = Path(sys.argv[0])
    is_invoke = program.name in ("invoke", "inv") or program.parts[-2:] == ("invoke", "__main__.py")
    if is_invoke and sys.argv[1:] and not sys.argv[1].startswith("-"):
        try:
            run(sys.argv[1:], tree)
        except Exit as leave:
            sys.exit(int(leave.code))
        sys.exit(0)


def run(typed: Sequence[str], tree: Any) -> None:
    """Do what was typed; leaves as Invoke does, by SystemExit or its Exit."""
    with answered("--json" in typed):
        request = command_line.understood(typed, command_line.commands_of(tree))
        if request.kind == command_line.OVERVIEW:
            console.write(f"{overview.text()}\n")
        elif request.kind == command_line.VERSION:
            console.write(f"Windlass {overview.version()}\n")
        else:
            # Invoke keeps no bytecode unless it is told to, and would compile all of Windlass at
            # each call.
            own = [] if os.environ.get("PYTHONDONTWRITEBYTECODE") else ["--write-pyc"]
            Inv(namespace=_part(tree, request.words), binary="./inv").run(
                ["./inv", *own, *request.words]
            )


def _part(tree: Any, words: Sequence[str]) -> Any:
    """What these words may mean of the tree. Invoke copies all that it is given twice, which takes
    longer than some commands do."""
    if words[0].startswith("-"):
        return tree
    part = Collection()
    for word in dict.fromkeys(words):
        group = word.partition(".")[0]
        if word in tree.tasks:
            part.add_task(tree.tasks[word], name=word)
        elif word != group and group in tree.collections and group not in part.collections:
            part.add_collection(tree.collections[group], name=group)
    return part
