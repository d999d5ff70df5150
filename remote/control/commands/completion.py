"""What the Tab key offers after `./inv`: commands, their flags, and the names that the project
knows.

A shell asks `./inv --complete -- WORDS`, as Invoke's own scripts do; the last word is the one that
is being typed, and may be empty. Invoke's own answer knows neither our words without flags nor any
name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from remote.control.commands.program.command_line import Command, groups_of

_BEFORE = ("--help", "--list", "--version")
_LEVELS = ("info", "warning", "error")

_BASH = """\
_complete_inv() {
    local IFS=$'\\n'
    COMPREPLY=( $("${COMP_WORDS[0]/#\\~/$HOME}" --complete -- \\
        "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null) )
}
complete -o default -F _complete_inv NAMES
"""

_ZSH = """\
if (( $+functions[compdef] )); then
    _complete_inv() {
        local -a found
        found=( ${(f)"$("${words[1]/#\\~/$HOME}" --complete -- \\
            "${(@)words[1,CURRENT]}" 2>/dev/null)"} )
        if (( $#found )); then compadd -a found; else _files; fi
    }
    compdef _complete_inv NAMES
else
    _complete_inv() {
        local -a typed; local at
        read -Ac typed; read -cn at
        reply=( ${(f)"$("${typed[1]/#\\~/$HOME}" --complete -- \\
            "${(@)typed[1,at]}" 2>/dev/null)"} )
    }
    compctl -K _complete_inv + -f NAMES
fi
"""


def script(shell: str, program: str) -> str:
    """What a shell is to read: it completes `inv` by whatever path it is typed, and `program`."""
    names = " ".join(dict.fromkeys(["inv", program]))
    return {"bash": _BASH, "zsh": _ZSH}[shell].replace("NAMES", names)


def candidates(
    words: Sequence[str],
    commands: Mapping[str, Command],
    names_of: Callable[[Command, str], Sequence[str]],
) -> list[str]:
    """What the last of these words may become; nothing where a file's name is as good as any.

    `names_of` tells the values of a command's flag or word.
    """
    line = _Line(commands)
    for word in words[:-1]:
        line.take(word)
    last = words[-1] if words else ""
    begun, head = ("", "") if last == "=" else (last, "")
    if line.command and not line.wanted and (found := re.match("(--[^=]+)=", last)):
        line.wanted, head, begun = found[1][2:], found[0], last[found.end() :]
    known: Sequence[str]
    if line.wanted and line.command:
        known = names_of(line.command, line.wanted)
    else:
        known = line.known(begun, names_of)
    return [head + name for name in known if name.startswith(begun)]


@dataclass
class _Line:
    """The words before the one that is being typed, as far as they can be understood."""

    commands: Mapping[str, Command]
    command: Command | None = None
    wanted: str = ""
    """The flag whose value comes next, without its dashes."""
    _group: str = ""
    _count: int = 0
    _given: set[str] = field(default_factory=set)
    _has_rest: bool = False
    _is_off: bool = False

    def take(self, word: str) -> None:
        """The next word. (Bash parts `--box=gpu` into three.)"""
        if word == "=" or self._has_rest or self._is_off:
            return
        if self.wanted:
            self.wanted = ""
        elif self.command is None or self._begins_next(word):
            self._take_command(word)
        elif word == "--" and self.command.rest:
            self._has_rest = True
        elif word.startswith("-"):
            self._take_flag(word)
        else:
            self._count += 1
            self._has_rest = bool(self.command.rest) and self._count > 1

    def known(self, begun: str, names_of: Callable[[Command, str], Sequence[str]]) -> Sequence[str]:
        """What may stand here, where no value of a flag does."""
        if self._has_rest or self._is_off:
            return ()
        if self.command is None:
            return self._beginnings(begun)
        command, count = self.command, self._count
        flags = [name for name in command.flags if name[:2] == "--" and name not in self._given]
        if begun.startswith("-"):
            return ["--help", *flags]
        if count < len(command.words) or command.takes_many:
            return names_of(command, command.words[min(count, len(command.words) - 1)])
        return flags if not command.rest else ()

    def _beginnings(self, begun: str) -> Sequence[str]:
        if self._group:
            parts = (name.partition(".") for name in self.commands)
            return sorted(name for group, _, name in parts if group == self._group and name)
        return _BEFORE if begun.startswith("-") else sorted(self.commands)

    def _begins_next(self, word: str) -> bool:
        assert self.command is not None
        is_full = self._count >= len(self.command.words) and not self.command.takes_many
        return is_full and (word in self.commands or word in groups_of(self.commands))

    def _take_command(self, word: str) -> None:
        whole = f"{self._group}.{word}" if self._group else word
        self.command, self._count, self._given = self.commands.get(whole), 0, set()
        is_group = word in groups_of(self.commands) and not self._group
        self._group = word if is_group else ""
        # Behind a word that is nothing, nothing is right.
        self._is_off = not (self.command or is_group or word in ("help", *_BEFORE))

    def _take_flag(self, word: str) -> None:
        assert self.command is not None
        name, is_whole, _ = word.partition("=")
        self._given.add(name)
        flag = name if name.startswith("--") else f"-{name[-1:]}"  # of letters, `-yb`, the last
        if self.command.flags.get(flag) and not is_whole:
            self.wanted = flag.lstrip("-")


def names_of(command: Command, word: str) -> Sequence[str]:
    """The values that the project knows for a command's flag or word: boxes, runs, playbooks."""
    if word == "on":
        return [*_boxes(), "local"]
    if word in ("box", "b") or (word in ("name", "names") and _is_of_boxes(command, word)):
        return [*_boxes(), *(_runs() if command.name == "logs" else ())]
    if word == "run":
        return _runs()
    if word == "level":
        return _LEVELS
    if word in ("playbook", "recipe"):
        return _files(word)
    return ()


def _is_of_boxes(command: Command, word: str) -> bool:
    return word in command.words and not command.name.startswith("model.")


def _boxes() -> list[str]:
    from remote.control.config.inventory import load_inventory
    from remote.control.errors import WindlassError

    try:
        inventory = load_inventory()
    except WindlassError:  # `./inv check` tells of it, not the Tab key
        return []
    return sorted({*inventory.boxes, *inventory.groups})


def _runs() -> list[str]:
    from remote.control.runs.ledger import all_runs

    return [ledger.folder.name for ledger in all_runs()]


def _files(kind: str) -> list[str]:
    from remote.control import project
    from remote.control.config import playbook, recipe

    return project.names_in({"playbook": playbook.FOLDER, "recipe": recipe.FOLDER}[kind])
