"""What a person typed after `./inv`, understood before Invoke sees it: a function of the words and
the commands there are.

It refuses what is off with the words that were meant, spells groups and help as Invoke does
(`cloud down` is `cloud.down`, `logs --help` is `--help logs`), and hands all that follows a box's
name after `ssh` on as one line for the box's shell.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote.contract.job.exits import Exit
from remote.control.errors import WindlassError
from remote.control.output.suggestion import suggestion

OVERVIEW, VERSION, INVOKE = "overview", "version", "invoke"
COMPLETION, COMPLETION_SCRIPT = "completion", "completion-script"
SHELLS = ("bash", "zsh")
"""Those whose completion there is a script for."""

_HELP = ("--help", "-h")
_OF_ALL = ("--list", "--help", "--version")
_INVOKES_OWN = ("--list", "-l", "--list-depth", "--list-format")


class CommandLineError(WindlassError):
    """The command line is off."""

    exit_code = Exit.USAGE


@dataclass(frozen=True)
class Command:
    """What may stand behind a command: `flags` as they are typed, with whether each takes a value
    (`None`: it may)."""

    name: str
    words: tuple[str, ...] = ()
    needed: int = 0
    takes_many: bool = False
    flags: Mapping[str, bool | None] = field(default_factory=dict)
    numbers: Mapping[str, type] = field(default_factory=dict)
    """The flags whose value is one, with its type."""
    rest: str = ""
    """The flag that gets all words behind the first one, as a line for a shell."""


@dataclass(frozen=True)
class Request:
    """What is to be done: show the overview or the version, complete `words` or print the script
    of that shell, or have Invoke run `words`."""

    kind: str
    words: list[str]


def understood(typed: Sequence[str], commands: Mapping[str, Command]) -> Request:
    """What these words ask for. Raises CommandLineError for words that ask for nothing there is."""
    words = _grouped(list(typed), commands)
    if not words or words in (["--help"], ["-h"], ["help"]):
        return Request(OVERVIEW, [])
    if words[0].startswith("-") or words[0] == "help":
        return _without_command(words, commands)
    return Request(
        INVOKE,
        ["--list", words[0]] if words[0] in groups_of(commands) else _all_read(words, commands),
    )


def _without_command(words: list[str], commands: Mapping[str, Command]) -> Request:
    flag = words[0].partition("=")[0]
    if flag in ("--version", "-V"):
        return Request(VERSION, [])
    if flag in (*_HELP, "help"):
        return Request(INVOKE, ["--help", _command(_grouped(words[1:], commands), commands).name])
    if flag == "--complete":
        return Request(COMPLETION, words[1:])
    if flag == "--print-completion-script":
        return Request(COMPLETION_SCRIPT, [_shell(words)])
    if flag in _INVOKES_OWN:
        return Request(INVOKE, _checked_list(words, commands))
    if behind := _behind(words, commands):
        raise CommandLineError(f"{words[0]} goes after the command", remedy=f"`./inv {behind}`")
    raise _no_flag(
        f"there is no flag {words[0]} before a command",
        words[0],
        _OF_ALL,
        "`./inv --list` shows the commands",
    )


def _shell(words: list[str]) -> str:
    shell = words[0].partition("=")[2] or "".join(words[1:2])
    if shell not in SHELLS:
        what = f"there is no completion for `{shell}`" if shell else f"{words[0]} needs a shell"
        raise CommandLineError(what, remedy="`./inv --print-completion-script bash`, or zsh")
    return shell


def _behind(words: list[str], commands: Mapping[str, Command]) -> str:
    """The right order, where a command's flag was typed before it: `--json status`."""
    flag, name = words[0], " ".join(_grouped(words[1:], commands)[:1])
    is_its = name in commands and flag.partition("=")[0] in commands[name].flags
    return f"{name} {flag}" if is_its else ""


def _checked_list(words: list[str], commands: Mapping[str, Command]) -> list[str]:
    named = words[1:] if words[0] in ("--list", "-l") else []
    if named and not named[0].startswith("-") and named[0] not in (groups := groups_of(commands)):
        remedy = suggestion(named[0], groups) or f"one of {', '.join(sorted(groups))}"
        raise CommandLineError(f"there is no group `{named[0]}`", remedy=remedy)
    return words


def _all_read(words: list[str], commands: Mapping[str, Command]) -> list[str]:
    told: list[str] = []
    while words:
        reading = _Reading(_command(words, commands), words[1:], commands)
        if reading.wants_help:
            return ["--help", reading.command.name]
        told += [reading.command.name, *reading.told]
        words = _grouped(reading.left, commands)
    return told


def commands_of(tree: Any) -> dict[str, Command]:
    """The commands of a tree of Invoke's tasks, by their names."""
    return {name: _of_task(name, tree[name]) for name in tree.task_names}


def usage(command: Command) -> str:
    """`Usage: ./inv ssh [NAME] [-- COMMAND ...] [FLAGS]`."""
    words = [
        _placeholder(name) if number < command.needed else f"[{_placeholder(name)}]"
        for number, name in enumerate(command.words)
    ]
    if command.takes_many:
        words[-1] = f"{words[-1][:-1]} ...]"
    rest = ["[-- COMMAND ...]"] if command.rest else []
    return " ".join(
        ["Usage: ./inv", command.name, *words, *rest, *(["[FLAGS]"] if command.flags else [])]
    )


def _of_task(name: str, task: Any) -> Command:
    helps = dict(task.help)  # Invoke takes the helps out as it reads them
    arguments = task.get_arguments()
    task.help = helps
    flags: dict[str, bool | None] = {}
    for argument in arguments:
        takes = None if argument.optional else bool(argument.takes_value)
        flags |= {f"--{word}" if len(word) > 1 else f"-{word}": takes for word in argument.names}
        if argument.kind is bool and argument.default is True:
            flags[f"--no-{argument.names[0]}"] = False
    numbers = {
        f"--{argument.names[0]}": argument.kind
        for argument in arguments
        if argument.kind in (int, float)
    }
    takes_many = any(
        argument.kind is list for argument in arguments if argument.name in task.words[-1:]
    )
    return Command(name, task.words, len(task.positional), takes_many, flags, numbers, task.rest)


def groups_of(commands: Mapping[str, Command]) -> set[str]:
    """The first parts of names such as `cloud.down`."""
    return {name.split(".")[0] for name in commands if "." in name}


def _grouped(words: list[str], commands: Mapping[str, Command]) -> list[str]:
    """`cloud down` as `cloud.down`."""
    is_pair = len(words) > 1 and words[0] in groups_of(commands) and not words[1].startswith("-")
    return [f"{words[0]}.{words[1]}", *words[2:]] if is_pair else words


def _command(words: Sequence[str], commands: Mapping[str, Command]) -> Command:
    word = words[0] if words else ""
    if word in commands:
        return commands[word]
    group, _, _rest = word.partition(".")
    if group in groups_of(commands):
        known = [name for name in commands if name.startswith(f"{group}.")]
        where = f"`./inv --list {group}` shows those of {group}"
    else:
        known, where = list(commands), "`./inv --list` shows the commands"
    meant = suggestion(word, known, most=3) or _meant_in_groups(words, known)
    raise CommandLineError(f"there is no command `{word}`", remedy=f"{meant} {where}".strip())


def _meant_in_groups(words: Sequence[str], known: Sequence[str]) -> str:
    """Commands whose last part is this word, `up`, or that a misspelt group was meant to begin."""
    word = words[0] if words else ""
    same = [name for name in known if name.partition(".")[2] == word]
    if same and word:
        return f"did you mean {' or '.join(f'`{name}`' for name in same)}?"
    groups = {name.partition(".")[0] for name in known if "." in name}
    return suggestion(".".join(words[:2]), known) or suggestion(word, groups)


def _no_flag(what: str, flag: str, known: Iterable[str], where: str) -> CommandLineError:
    meant = suggestion(
        flag.partition("=")[0], [name for name in known if name.startswith("--")], most=2
    )
    return CommandLineError(what, remedy=f"{meant} {where}".strip())


class _Reading:
    """One command with its words and flags: `told` is for Invoke, `left` the words of the next
    command."""

    def __init__(self, command: Command, words: list[str], commands: Mapping[str, Command]) -> None:
        self.command, self.told, self.left = command, list[str](), list(words)
        self.wants_help = False
        self._count, self._commands, self._given = 0, commands, set[str]()
        while self.left and not self.wants_help and self._takes(self.left[0]):
            pass
        if not self.wants_help:
            self._require_all()

    def _takes(self, word: str) -> bool:
        """Take the next word, with its value where it has one; False where it begins the next
        command."""
        if self.command.rest and (
            word == "--" or (self._count and word not in (*self.command.flags, *_HELP))
        ):
            self._take_rest()
        elif word in _HELP:
            self.wants_help = True
        elif word == "--":
            del self.left[0]
        elif word.startswith("-") and len(word) > 1:
            self._take_flag(word)
        elif self._count < len(self.command.words) or self.command.takes_many:
            self._take_word()
        elif word in self._commands or word in groups_of(self._commands):
            return False
        else:
            raise self._too_many(word)
        return True

    def _take(self, count: int) -> None:
        self.told += self.left[:count]
        del self.left[:count]

    def _take_word(self) -> None:
        """A word that has a default stands behind its flag: Invoke would take it for another
        command."""
        if self._count >= self.command.needed:
            self.told.append(
                f"--{self.command.words[min(self._count, len(self.command.words) - 1)]}"
            )
        self._count += 1
        self._take(1)

    def _take_rest(self) -> None:
        words = self.left[1:] if self.left[0] == "--" else self.left
        self.left = []
        if words:
            # One word is a line as the box's shell takes it, `df -h | tail -1`; several are a
            # program and its words, each kept whole.
            self.told += [self.command.rest, words[0] if len(words) == 1 else shlex.join(words)]

    def _take_flag(self, word: str) -> None:
        name = self._flag_of(word)
        self._given.add(name)
        takes = self.command.flags[name]
        if takes is False and "=" in word:
            raise CommandLineError(
                f"{name} of `{self.command.name}` takes no value", remedy=self._see()
            )
        has_value = "=" in word or not word.endswith(name[-1] if len(name) == 2 else name)
        if not takes or has_value:
            if "=" in word:
                self._check_number(name, word.partition("=")[2])
            self._take(1)
        elif len(self.left) < 2 or self.left[1] in self.command.flags:
            raise CommandLineError(
                f"{name} of `{self.command.name}` needs a value", remedy=self._see()
            )
        else:
            self._check_number(name, self.left[1])
            self._take(2)

    def _check_number(self, name: str, value: str) -> None:
        kind = self.command.numbers.get(name)
        try:
            if kind is not None:
                kind(value)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise CommandLineError(
                f"{name} of `{self.command.name}` is {expected}, not `{value}`", remedy=self._see()
            ) from None

    def _flag_of(self, word: str) -> str:
        """The flag that decides whether a value follows: of letters, `-yq`, the first that takes
        one, else the last."""
        name = word.partition("=")[0]
        letters = [name] if word.startswith("--") else [f"-{letter}" for letter in name[1:]]
        for flag in letters:
            if flag not in self.command.flags:
                raise self._unknown(flag)
            if self.command.flags[flag] is not False:
                return flag
        return letters[-1]

    def _unknown(self, flag: str) -> CommandLineError:
        return _no_flag(
            f"`{self.command.name}` has no flag {flag}", flag, self.command.flags, self._see()
        )

    def _too_many(self, word: str) -> CommandLineError:
        named = " ".join(map(_placeholder, self.command.words))
        takes = f"takes only {named}" if named else "takes no word"
        meant = suggestion(word, self._commands, most=2)
        return CommandLineError(
            f"`{self.command.name}` {takes}: what is `{word}`?",
            remedy=f"{meant} {self._see()}".strip(),
        )

    def _require_all(self) -> None:
        by_flag = {name for name in self.command.words if f"--{name}" in self._given}
        lacking = [
            name
            for name in self.command.words[: self.command.needed][self._count :]
            if name not in by_flag
        ]
        if lacking and self._count + len(by_flag) < self.command.needed:
            words = " ".join(map(_placeholder, lacking))
            what = f"`{self.command.name}` needs {words}"
            raise CommandLineError(
                what, remedy=f"`./inv {self.command.name} {words}`; {self._see()}"
            )

    def _see(self) -> str:
        return f"`./inv {self.command.name} --help` explains it"


def _placeholder(name: str) -> str:
    return name.upper()
