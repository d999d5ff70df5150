"""Which module of a multi-module run a row belongs to: `[MOD=NAME]` before what is asked, or a
record's own `module`, is kept at the end of the row's `source`.

Rows stay together until the split, so that duplicates are found across modules. `module_files`
then writes a train and a validation file for each.
"""

import re
from dataclasses import replace

from remote.contract.artifacts.rows import NotARow, Row, Turn

_PREFIX = re.compile(r"\s*\[MOD=([^\]\n]*)\][ \t]*\n?")
_AT_END = re.compile(r"(?:^| )\[MOD=([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\]$")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def module_of(row: Row) -> str:
    """The name of the row's module; empty where it has none."""
    found = _AT_END.search(row.source)
    return found[1] if found else ""


def is_name(name: str) -> bool:
    """Whether it may be a module's name, and a folder's."""
    return _NAME.fullmatch(name) is not None


def routed(row: Row, told: str = "", keep_prefix: bool = False) -> Row:
    """The row with its module in `source`: that of its prefix, or `told`. The prefix is taken out
    unless it is to be kept. Raises NotARow for a name that is none, and for two."""
    place = next((n for n, turn in enumerate(row.messages) if turn.role == "user"), -1)
    found = _PREFIX.match(row.messages[place].content if place >= 0 else row.text)
    name = found[1].strip() if found else told
    if not name and not found:
        return row
    if not _NAME.fullmatch(name):
        raise NotARow(f"`[MOD={name[:80]}]` names no module: letters, digits, `_`, `-` and `.`")
    if told and told != name:
        raise NotARow(f"its prefix says the module {name}, its field `module` {told[:80]}")
    if found and not keep_prefix:
        row = _without(row, place, found.end())
    return replace(row, source=f"{row.source} [MOD={name}]".strip())


def _without(row: Row, place: int, length: int) -> Row:
    if place < 0:
        return replace(row, text=row.text[length:])
    turn = row.messages[place]
    shorter = Turn(turn.role, turn.content[length:], turn.is_learnt)
    return replace(row, messages=(*row.messages[:place], shorter, *row.messages[place + 1 :]))
