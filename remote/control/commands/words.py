"""Words after a verb that may be left out: `inv launch` and `inv launch trainer`.

Invoke knows two kinds of arguments: positional ones, which must be given, and flags. A positional one with a default is
never filled, and its word is taken for another task: `inv deploy demo` would deploy, then run the task `demo`. So an optional
word here has no value while the words are handed out, and its default once the task's own words have ended.

One whose default is a tuple takes every word that follows, `inv stop a b trainers`: after it no other task can be named.

A command line that is off ends with exit code 2, never with a traceback; a misspelt flag is never taken for a word.
"""

import sys
from typing import Any, NoReturn

from invoke import Exit as Leave
from invoke import Program, Task
from invoke.parser import Argument
from invoke.parser.parser import ParseMachine

from remote.contract.exits import Exit
from remote.control.commands import output


class _Word(Argument):  # type: ignore[misc]
    """A positional argument with a default other than None."""

    _value: Any
    has_ended = False

    @property
    def value(self) -> Any:
        """The word given; before the task's words have ended None, which makes Invoke hand it the next one; then the default."""
        return self._value if self._value is not None or not self.has_ended else self.default

    @value.setter
    def value(self, given: str) -> None:
        self.set_value(given, cast=True)


class _Words(_Word):
    """A positional argument that takes any number of words; its default is a tuple."""

    @property
    def value(self) -> Any:
        """The words given, as a tuple; None before the task's words have ended, which makes Invoke hand it the next one."""
        return (self._value or self.default) if self.has_ended else None

    @value.setter
    def value(self, given: str) -> None:
        self.raw_value = given
        self._value = (*(self._value or ()), given)


SHORT = {"box": "b", "dry-run": "n", "follow": "f", "json": "j", "queue": "q", "yes": "y"}
"""The flags that have a letter too: each letter means the same wherever it is. (Invoke would take the first one that is free.)"""


class VerbTask(Task):  # type: ignore[misc]
    """A task whose positional arguments may have defaults. `rest` is the flag that gets all words behind the first one."""

    def __init__(self, *args: Any, rest: str = "", **options: Any) -> None:
        super().__init__(*args, auto_shortflags=False, **options)
        self.rest = rest

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Like Invoke's, with `_Word` or `_Words` in place of positional arguments that have a default."""
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            argument.names += tuple(SHORT[name] for name in argument.names if name in SHORT)
            if argument.positional and self._has_default(argument):
                argument.__class__ = _Words if argument.kind is tuple else _Word
        return arguments

    def _has_default(self, argument: Argument) -> bool:
        parameter = self.argspec(self.body).parameters[argument.name]
        return parameter.default is not parameter.empty


_complete_context = ParseMachine.complete_context
_see_positional_arg = ParseMachine.see_positional_arg
_see_value = ParseMachine.see_value
_parse_cleanup = Program.parse_cleanup


def _refuse(_machine: Any, words: str) -> NoReturn:
    raise Leave(f"error: {words}\n mend: `./inv --list` shows the commands, `./inv COMMAND --help` one of them", code=int(Exit.USAGE))


def _see_word(machine: Any, value: str) -> None:
    if value in ("--help", "-h"):
        _show_help(machine)
    elif value.startswith("-"):
        machine.error(f"{machine.context.name!r} has no flag {value}")
    else:
        _see_positional_arg(machine, value)


def _show_help(machine: Any) -> None:
    machine.initial.flags["--help"].value = machine.context.name
    for argument in machine.context.missing_positional_args:
        argument.value = ""


def _see_flag_value(machine: Any, value: str) -> None:
    try:
        _see_value(machine, value)
    except ValueError as error:
        machine.error(f"{value!r} after --{machine.flag.name}: {error}")


def _end_words(machine: Any) -> None:
    if machine.context:
        for argument in machine.context.positional_args:
            argument.has_ended = True
    _complete_context(machine)


def _list_or_help(program: Any) -> None:
    """What Invoke prints by itself, of which a reader may want the beginning alone."""
    try:
        try:
            _parse_cleanup(program)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        output.drop()
        raise Leave(code=0) from None


Program.parse_cleanup = _list_or_help
ParseMachine.complete_context = _end_words
ParseMachine.error = _refuse
ParseMachine.see_positional_arg = _see_word
ParseMachine.see_value = _see_flag_value
