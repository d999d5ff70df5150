"""Invoke as `./inv` runs it: our words for help and lists, and no letters that mean something else
before a command than behind it."""

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invoke import Collection, Exit, Program

from remote.control.commands import completion
from remote.control.commands.program import command_line, overview
from remote.control.commands.program.examples import EXAMPLES
from remote.control.commands.program.verb import answered
from remote.control.output import console
from remote.control.output.sanitize import folded

_COMPLETE = ("--complete", "--print-completion-script")
_LETTERS = ("h", "l", "V")
_HEADINGS: dict[str, tuple[str, ...]] = {
    "Arguments": (),
    "Options": (),
    "Safety": ("dry-run", "yes"),
    "Output": ("json", "follow", "raw", "docs"),
}
"""What a command's help groups its flags under; those that no heading names are options."""


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
        """Names with what they mean."""
        console.write("".join(f"{line}\n" for line in console.in_columns(tuples)))

    def print_task_help(self, name: str) -> None:
        """What one command does, its words and flags by their purpose, and an example."""
        command = command_line.commands_of(self.collection)[name]
        paragraphs = (inspect.getdoc(self.collection[name]) or "").split("\n\n")
        about = [command_line.usage(command), *(" ".join(each.split()) for each in paragraphs)]
        console.write(folded("\n\n".join(about), console.width()) + "\n")
        groups = _flags_by_purpose(command, self.parser.contexts[name])
        first = max((len(flag) for flags in groups.values() for flag, _ in flags), default=0)
        for heading, flags in groups.items():
            lines = console.in_columns(flags, first)
            console.write("\n".join(["", f"{heading}:", *lines, ""]))
        if example := EXAMPLES.get(name):
            console.write(f"\nExample:\n  {example}\n")


def _flags_by_purpose(command: command_line.Command, context: Any) -> dict[str, list[Any]]:
    """The flags as Invoke describes them, by the headings of the help; without empty headings."""
    groups: dict[str, list[Any]] = {heading: [] for heading in _HEADINGS}
    for argument in sorted(context.args.values(), key=lambda each: _place(command, each)):
        name = argument.names[0]
        shown, meaning = context.help_for(f"--{name}")
        is_word = name in command.words
        if argument.takes_value and not is_word and "=" not in shown:
            # Invoke names the kinds of values alone that it knows.
            shown += "=NUMBER" if argument.kind is float else "=STRING"
        if is_word:
            shown = f"{name.upper()}, {shown}"
        elif f"--{name}" == command.rest:
            shown = f"-- {name.upper()}, {shown}"
        groups[_heading(command, name)].append((shown, meaning))
    return {heading: flags for heading, flags in groups.items() if flags}


def _place(command: command_line.Command, argument: Any) -> tuple[int, str]:
    """Words stand in the order in which they are typed, flags by their names."""
    name = argument.names[0]
    return (command.words.index(name) if name in command.words else len(command.words), name)


def _heading(command: command_line.Command, name: str) -> str:
    if name in command.words or f"--{name}" == command.rest:
        return "Arguments"
    return next((heading for heading, names in _HEADINGS.items() if name in names), "Options")


def answer_plain_invoke(tree: Any) -> None:
    """Where `invoke launch gpu` was typed instead of `./inv launch gpu`: do the same, and leave.
    Invoke would take `gpu` for a command.

    What begins with a flag of Invoke's own is left to it, but for completion.
    """
    program = Path(sys.argv[0])
    is_invoke = program.name in ("invoke", "inv") or program.parts[-2:] == ("invoke", "__main__.py")
    first = "".join(sys.argv[1:2])
    is_ours = not first.startswith("-") or first.partition("=")[0] in _COMPLETE
    if is_invoke and first and is_ours:
        try:
            run(sys.argv[1:], tree)
        except Exit as leave:
            sys.exit(int(leave.code))
        sys.exit(0)


def run(typed: Sequence[str], tree: Any) -> None:
    """Do what was typed; leaves as Invoke does, by SystemExit or its Exit."""
    with answered("--json" in typed):
        commands = command_line.commands_of(tree)
        request = command_line.understood(typed, commands)
        if request.kind == command_line.OVERVIEW:
            console.write(f"{overview.text()}\n")
        elif request.kind == command_line.VERSION:
            console.write(f"Windlass {overview.version()}\n")
        elif request.kind == command_line.COMPLETION:
            _complete(request.words, commands)
        elif request.kind == command_line.COMPLETION_SCRIPT:
            console.write(completion.script(request.words[0], _program()))
        else:
            # Invoke keeps no bytecode unless it is told to, and would compile all of Windlass at
            # each call.
            own = [] if os.environ.get("PYTHONDONTWRITEBYTECODE") else ["--write-pyc"]
            Inv(namespace=_part(tree, request.words), binary="./inv").run(
                ["./inv", *own, *request.words]
            )


def _complete(words: Sequence[str], commands: Mapping[str, command_line.Command]) -> None:
    """Candidates for `-- ./inv WORDS`, one a line."""
    typed = words[2:] if words[:1] == ["--"] else words[1:]
    found = completion.candidates(typed, commands, completion.names_of)
    console.write("".join(f"{name}\n" for name in found))


def _program() -> str:
    """The name by which this program was called; `inv` where the wrapper called a module."""
    name = Path(sys.argv[0]).name
    return "inv" if name.endswith(".py") else name


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
