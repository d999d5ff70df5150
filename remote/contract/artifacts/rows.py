"""One row of a dataset: an instruction, what it works on, and the answer wanted. The words that
both sides put in front of the model."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from remote.contract.files import untrusted_json

MAX_CHARACTERS = 200_000
"""Longest row taken, over all fields: a longer one is a mistake of its maker (a whole file in a
field), not a lesson."""

_MEANT = ("system", "history", "messages", "conversations", "tools", "images", "audios", "videos")
"""Fields of other formats that belong to what the model is asked: a row without what they say would
teach something else."""


class BadRow(ValueError):
    """A line that is no row. `reason` says why, `where` is `file:line`."""

    def __init__(self, file: str, number: int, reason: str) -> None:
        super().__init__(f"{file}:{number}: {reason}")
        self.where, self.reason = f"{file}:{number}", reason


@dataclass(frozen=True)
class Row:
    """One lesson. Rows of one `group` (a profile, a document) never stand on both sides of the
    split; without one the text is its own."""

    instruction: str
    output: str
    input: str = ""
    group: str = ""

    def to_line(self) -> str:
        """The row as one line of JSON with exactly these four fields, newline included."""
        # ASCII: U+2028 inside a text would end the line for many a reader.
        return json.dumps(asdict(self), sort_keys=True) + "\n"


def user_message(row: Row) -> str:
    """What the user says: the instruction, and below it the input where there is one."""
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def parse_row(line: bytes | str, file: str, number: int) -> Row:
    """Read line `number` (from 1) of `file`; raises BadRow with the reason. Fields that say nothing
    to the model are dropped."""
    raw = _object(line, file, number)
    if meant := next((name for name in _MEANT if raw.get(name)), None):
        raise BadRow(
            file,
            number,
            f"has the field `{meant}`, which is not read: put what it says into `instruction` and"
            " `input`",
        )
    fields = {
        name: _text(raw, name, file, number) for name in ("instruction", "output", "input", "group")
    }
    for name in ("instruction", "output"):
        if not fields[name].strip():
            raise BadRow(
                file, number, f"`{name}` is empty" if name in raw else f"lacks the field `{name}`"
            )
    length = sum(map(len, fields.values()))
    if length > MAX_CHARACTERS:
        raise BadRow(file, number, f"too long: {length:,} characters, at most {MAX_CHARACTERS:,}")
    return Row(**fields)


def _object(line: bytes | str, file: str, number: int) -> dict[str, Any]:
    try:
        raw = untrusted_json.loads(
            line.decode("utf-8-sig") if isinstance(line, bytes) else line, lone_surrogates=True
        )
    except UnicodeDecodeError as error:
        raise BadRow(file, number, f"invalid UTF-8 at byte {error.start}") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise BadRow(file, number, f"not JSON: {reason}") from None
    if not isinstance(raw, dict):
        raise BadRow(file, number, f"not an object but {_kind(raw)}")
    return raw


def _text(raw: dict[str, Any], name: str, file: str, number: int) -> str:
    value = raw.get(name)
    if value is None and name in ("input", "group"):
        return ""
    if value is None and name not in raw:
        raise BadRow(file, number, f"lacks the field `{name}`")
    if name == "group" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadRow(file, number, f"`{name}` is {_kind(value)}, not text")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRow(file, number, f"`{name}` holds half a character (a lone surrogate)")
    return value


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return names[type(value)]
