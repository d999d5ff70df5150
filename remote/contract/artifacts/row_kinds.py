"""What people already have, as rows: the kinds of objects that are read, how one is recognised, and
how it becomes a row.

`chat`: `messages` (OpenAI), or `conversations` of `from` and `value` (ShareGPT). `instruction`:
`instruction`, `output`, and maybe `input`, `system`, `history` (Alpaca). `completion`: `prompt` and
`completion` (or `response`), as text or as messages. `text`: `text`. `corpus`: `content`, with
maybe `domain`, `category`, `source_file`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from remote.contract.artifacts.rows import (
    BadRow,
    NotARow,
    Row,
    Turn,
    checked,
    kind_of_value,
    label_in,
    text_in,
    text_of,
)
from remote.contract.files import untrusted_json

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
}
COLUMNS = (
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "prompt",
    "completion",
    "response",
    "messages",
    "conversations",
    "text",
    "content",
    "group",
    "source",
    "weight",
)
"""The names of ours that a row may have its columns under."""

_OWN = frozenset({"chat", "text"})
"""What Windlass itself writes: both may stand in one file."""

_NOT_READ = frozenset({"tools", "images", "audios", "videos", "functions"})
"""What belongs to the question and cannot be taken: a row without it would teach something else."""


def kind_of(raw: Mapping[str, Any]) -> str:
    """Which kind an object is; empty where it is none."""
    return next((kind for kind, (fits, _) in _KINDS.items() if fits(raw)), "")


def kinds_of(raw: Mapping[str, Any]) -> list[str]:
    """Every kind that an object has the fields of, the one it is taken for first."""
    return [kind for kind, (fits, _) in _KINDS.items() if fits(raw)]


def renamed(raw: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The object with our names beside its own; `columns` maps ours to theirs."""
    return {**raw, **{ours: raw[theirs] for ours, theirs in columns.items() if theirs in raw}}


def likely_kind(objects: Iterable[Mapping[str, Any]]) -> str:
    """The kind that most of the objects are; empty where none is any."""
    counts: dict[str, int] = {}
    for raw in objects:
        if kind := kind_of(raw):
            counts[kind] = counts.get(kind, 0) + 1
    return max(counts, key=lambda kind: counts[kind], default="")


def row_of(raw: Mapping[str, Any], kind: str = "", columns: Mapping[str, str] | None = None) -> Row:
    """The row that an object is, of that `kind`, or whichever it is. `columns` maps our names to
    theirs. Raises NotARow, which names the kinds that would fit."""
    given = renamed(raw, columns) if columns else raw
    if not _NOT_READ.isdisjoint(given) and (
        meant := next((name for name in sorted(_NOT_READ) if given.get(name)), None)
    ):
        raise NotARow(f"has the field `{meant}`, which is not read: rows are text alone")
    found = kind if kind and _KINDS[kind][0](given) else kind_of(given)
    if not found:
        raise NotARow(unknown(given))
    if kind and kind != found and not {kind, found} <= _OWN:
        fitting = ", ".join(f"`{each}`" for each in kinds_of(given))
        raise NotARow(f"is no `{kind}` row; what would fit: {fitting}")
    row = _KINDS[found][1](given)
    weight = given.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise NotARow(f"`weight` is {kind_of_value(weight)}, not a number")
    return checked(
        Row(
            row.messages,
            row.text,
            label_in(given, "group"),
            row.source or _source(given),
            float(weight),
        )
    )


def _source(raw: Mapping[str, Any]) -> str:
    """A name; what else people keep there is theirs."""
    source = raw.get("source")
    return source if isinstance(source, str) and source.isprintable() else ""


def columns_of(text: str) -> dict[str, str]:
    """Our names for columns as one types them: `instruction=question,output=answer`. Raises
    ValueError."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    found = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    if len(found) < len(pairs) or not all(ours and theirs for ours, theirs in found.items()):
        raise ValueError("our names with theirs, such as `instruction=question,output=answer`")
    if foreign := next((ours for ours in found if ours not in COLUMNS), ""):
        raise ValueError(f"`{foreign}` is no name of ours: {', '.join(COLUMNS)}")
    return found


def unknown(raw: Mapping[str, Any]) -> str:
    """Why an object is no row, and what would make it one."""
    names = ", ".join(f"`{name}`" for name in list(raw)[:8]) or "nothing"
    texts = [name for name, value in raw.items() if isinstance(value, str) and value.strip()]
    likely = (
        f"; `--columns instruction={texts[0]},output={texts[-1]}` would take it as instruction rows"
        if len(texts) > 1
        else f"; `--columns text={texts[0]}` would take it as documents"
        if texts
        else ""
    )
    return (
        f"holds {names}: it needs `messages`, `conversations`, `instruction` and `output`, `prompt`"
        f" and `completion`, `text`, or `content`{likely}"
    )


def parse_row(line: bytes | str, file: str, number: int) -> Row:
    """Read line `number` (from 1) of `file`, of whichever kind; raises BadRow with the reason."""
    try:
        return row_of(parse_object(line))
    except NotARow as error:
        raise BadRow(file, number, str(error)) from None


def parse_object(line: bytes | str) -> dict[str, Any]:
    """The JSON object of a line. Raises NotARow for anything else, and for one that names something
    twice."""
    try:
        raw = untrusted_json.loads(
            line.decode("utf-8-sig") if isinstance(line, bytes) else line,
            lone_surrogates=True,
            unique=True,
        )
    except UnicodeDecodeError as error:
        raise NotARow(f"invalid UTF-8 at byte {error.start}") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise NotARow(f"not JSON: {reason}") from None
    if not isinstance(raw, dict):
        raise NotARow(f"not an object but {kind_of_value(raw)}")
    return raw


def _chat(raw: Mapping[str, Any]) -> Row:
    name = "messages" if raw.get("messages") else "conversations"
    turns = _turns(raw[name], name)
    if (system := raw.get("system")) and turns[0].role != "system":
        turns = [Turn("system", text_of(system, "`system`")), *turns]
    return Row(tuple(turns))


def _turns(told: Any, name: str) -> list[Turn]:
    if not isinstance(told, list) or not told:
        raise NotARow(f"`{name}` is {kind_of_value(told)}, not a list of messages")
    turns = [_turn(each, f"message {number} of `{name}`") for number, each in enumerate(told, 1)]
    while turns[-1].role == "user":  # nobody answers: nothing to learn there
        turns.pop()
        if not turns:
            raise NotARow("no message of the assistant: there is nothing to learn")
    return turns


def _turn(told: Any, name: str) -> Turn:
    if not isinstance(told, dict):
        raise NotARow(f"{name} is {kind_of_value(told)}, not an object")
    said = told.get("role", told.get("from"))
    role = _ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise NotARow(f"{name} is {said!r}'s: a role is system, user or assistant")
    if told.get("tool_calls") or told.get("function_call"):
        raise NotARow(f"{name} calls a tool, which is not read: rows are text alone")
    content = told.get("content", told.get("value"))
    return Turn(role, text_of(content, name), role == "assistant" and told.get("weight", 1) != 0)


def _instruction(raw: Mapping[str, Any]) -> Row:
    given = dict(raw)
    for name in ("instruction", "output"):
        if not text_in(given, name).strip():
            raise NotARow(f"`{name}` is empty")
    extra = text_in(given, "input", "")
    asked = f"{raw['instruction']}\n\n{extra}" if extra else raw["instruction"]
    turns = [*_history(raw.get("history")), Turn("user", asked)]
    if system := text_in(given, "system", ""):
        turns = [Turn("system", system), *turns]
    return Row((*turns, Turn("assistant", raw["output"], is_learnt=True)))


def _history(told: Any) -> list[Turn]:
    """Alpaca's earlier turns, pairs of question and answer; they are not learnt."""
    turns = []
    for number, pair in enumerate(told or (), 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise NotARow(f"entry {number} of `history` is no pair of question and answer")
        turns += [
            Turn("user", text_of(pair[0], f"entry {number} of `history`")),
            Turn("assistant", text_of(pair[1], f"entry {number} of `history`")),
        ]
    return turns


def _completion(raw: Mapping[str, Any]) -> Row:
    answer = raw.get("completion", raw.get("response"))
    if isinstance(answer, list):
        answer = _turns(answer, "completion")[-1].content
    answer = text_of(answer, "`completion`")
    prompt = raw["prompt"]
    asked = (
        [_turn(each, f"message {number} of `prompt`") for number, each in enumerate(prompt, 1)]
        if isinstance(prompt, list)
        else [Turn("user", text_of(prompt, "`prompt`"))]
    )
    earlier = [Turn(turn.role, turn.content) for turn in asked]
    return Row((*earlier, Turn("assistant", answer.strip(), is_learnt=True)))


def _document(raw: Mapping[str, Any]) -> Row:
    return Row(text=text_in(dict(raw), "text"))


def _corpus(raw: Mapping[str, Any]) -> Row:
    given = dict(raw)
    return Row(text=text_in(given, "content"), source=label_in(given, "source_file"))


_KINDS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Row]]]
_KINDS = {
    "chat": (lambda raw: bool(raw.get("messages") or raw.get("conversations")), _chat),
    "instruction": (lambda raw: "instruction" in raw, _instruction),
    "completion": (
        lambda raw: "prompt" in raw and ("completion" in raw or "response" in raw),
        _completion,
    ),
    "text": (lambda raw: "text" in raw, _document),
    "corpus": (lambda raw: "content" in raw, _corpus),
}

KINDS = tuple(_KINDS)
"""Every kind that is read."""
