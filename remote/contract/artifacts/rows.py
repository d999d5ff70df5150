"""One row of a dataset, as every stage reads it: a conversation, or a document to be learnt whole.

A row is a JSON object a line. A conversation has `messages`, each with `role` (system, user,
assistant) and `content`; what the assistant says is learnt, unless its message has `"weight": 0`
(OpenAI's fine-tuning format). A document has `text`. Both may have `group`, `source` and `weight`.
What other tools write is read by `row_kinds`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_CHARACTERS = 200_000
"""Longest conversation taken: a longer one is a mistake of its maker (a whole file in a field), not
a lesson."""

MAX_DOCUMENT_CHARACTERS = 20_000_000
"""Longest document taken; `prepare` cuts it into chunks."""

ROLES = ("system", "user", "assistant")


class NotARow(ValueError):
    """An object that is no row; says why."""


class BadRow(ValueError):
    """A line that is no row. `reason` says why, `where` is `file:line`."""

    def __init__(self, file: str, number: int, reason: str) -> None:
        super().__init__(f"{file}:{number}: {reason}")
        self.where, self.reason = f"{file}:{number}", reason


@dataclass(frozen=True)
class Turn:
    """One message. Only an assistant's is ever learnt."""

    role: str
    content: str
    is_learnt: bool = False

    def to_json(self) -> dict[str, Any]:
        """The message as JSON."""
        skipped = {"weight": 0} if self.role == "assistant" and not self.is_learnt else {}
        return {"role": self.role, "content": self.content, **skipped}


@dataclass(frozen=True)
class Row:
    """One lesson: `messages`, or `text`. Rows of one `group` (a profile, a document) never stand on
    both sides of the split. `source` is where it comes from; `weight` how much it counts."""

    messages: tuple[Turn, ...] = ()
    text: str = ""
    group: str = ""
    source: str = ""
    weight: float = 1.0

    @classmethod
    def of(cls, asked: str, answer: str, group: str = "", system: str = "", **more: Any) -> "Row":
        """A conversation of one question and its answer."""
        turns = [Turn("system", system)] if system else []
        turns += [Turn("user", asked), Turn("assistant", answer, is_learnt=True)]
        return cls(tuple(turns), group=group, **more)

    @property
    def is_document(self) -> bool:
        """Whether it is learnt whole."""
        return not self.messages

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """All that stands before the last answer to learn: what a model is asked."""
        return self.messages[: self._last]

    @property
    def chat(self) -> list[dict[str, str]]:
        """The prompt as a chat API takes it."""
        return [{"role": turn.role, "content": turn.content} for turn in self.prompt]

    @property
    def answer(self) -> str:
        """The last answer to learn; empty for a document."""
        return self.messages[self._last].content if self.messages else ""

    @property
    def asked(self) -> str:
        """What is asked last, for people."""
        return next((turn.content for turn in reversed(self.prompt) if turn.role == "user"), "")

    @property
    def words(self) -> str:
        """All its text, turns parted by an empty line."""
        return self.text or "\n\n".join(turn.content for turn in self.messages)

    @property
    def _last(self) -> int:
        learnt = (number for number, turn in enumerate(self.messages) if turn.is_learnt)
        return max(learnt, default=0)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON; what it does not have is left out."""
        what: dict[str, Any] = (
            {"messages": [turn.to_json() for turn in self.messages]}
            if self.messages
            else {"text": self.text}
        )
        weight = {} if self.weight == 1.0 else {"weight": self.weight}
        named = {"group": self.group, "source": self.source}
        return {**what, **{name: value for name, value in named.items() if value}, **weight}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Row":
        """The row that `to_json` told. Not checked: for what Windlass itself has written."""
        turns = (
            Turn(
                told["role"],
                told["content"],
                told["role"] == "assistant" and told.get("weight", 1) != 0,
            )
            for told in raw.get("messages", ())
        )
        return cls(
            tuple(turns),
            raw.get("text", ""),
            raw.get("group", ""),
            raw.get("source", ""),
            raw.get("weight", 1.0),
        )

    def to_line(self) -> str:
        """The row as one line of JSON, newline included."""
        # ASCII: U+2028 inside a text would end the line for many a reader.
        return json.dumps(self.to_json(), sort_keys=True) + "\n"


def checked(row: Row) -> Row:
    """The row. Raises NotARow for one that teaches nothing, or is too long."""
    if row.messages:
        _check_turns(row.messages)
    elif not row.text.strip():
        raise NotARow("`text` is empty")
    limit = MAX_CHARACTERS if row.messages else MAX_DOCUMENT_CHARACTERS
    if (length := len(row.words)) > limit:
        raise NotARow(f"too long: {length:,} characters, at most {limit:,}")
    if not (math.isfinite(row.weight) and row.weight >= 0):
        raise NotARow("`weight` is no number from 0 up")
    return row


def text_in(raw: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """The text of a field. Raises NotARow where it is something else, or is missing and has no
    `default`."""
    if raw.get(name) is None and default is not None:
        return default
    if name not in raw:
        raise NotARow(f"lacks the field `{name}`")
    return text_of(raw[name], f"`{name}`")


def text_of(value: Any, name: str) -> str:
    """`value`, where it is text. Raises NotARow."""
    if not isinstance(value, str):
        raise NotARow(f"{name} is {kind_of_value(value)}, not text")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise NotARow(f"{name} holds half a character (a lone surrogate)")
    return value


def label_in(raw: Mapping[str, Any], name: str) -> str:
    """The text of a field that may be a whole number, or missing: `group`, `source`."""
    value = raw.get(name)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else text_in(raw, name, "")


def kind_of_value(value: Any) -> str:
    """What a JSON value is, for people."""
    names = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


def _check_turns(turns: tuple[Turn, ...]) -> None:
    """A system message only at the start; user and assistant in turns, the user first, an answer
    last: what chat templates of Mistral take."""
    spoken = turns[1:] if turns[0].role == "system" else turns
    for number, turn in enumerate(spoken):
        wanted = ("user", "assistant")[number % 2]
        if turn.role != wanted:
            raise NotARow(
                f"message {number + 1} is the {turn.role}'s, and the {wanted}'s is due there: user"
                " and assistant take turns, behind at most one system message"
            )
        if not turn.content.strip():
            raise NotARow(f"what the {turn.role} says in message {number + 1} is empty")
    if not spoken or spoken[-1].role != "assistant":
        raise NotARow("the last message is not the assistant's: there is nothing to learn")
    if not any(turn.is_learnt for turn in turns):
        raise NotARow("no message of the assistant is to be learnt: each has `weight` 0")
