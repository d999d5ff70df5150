"""Turns a chat into the prompt that the model reads.

By default with the GGUF's own Jinja template, as Ollama does from 0.30 on; llama.cpp renders it, in
the model's own process. A Modelfile's TEMPLATE is written in Go's template language; the part of it
that Modelfiles use is translated to Jinja: fields, `if`/`else if`/`else`/`end`, `range .Messages`,
`eq`, `ne`, `and`, `or`, `not`. Anything else is refused by name rather than rendered wrong.

A TEMPLATE comes from whoever made the model, so it is rendered in Jinja's sandbox, with nothing to
call, and only what the translation wrote becomes code: the delimiters are control characters, which
a template may not hold. One loop, over the messages, is all that there is; what it does and what it
writes are counted, and end at MAX_STEPS and MAX_PROMPT.
"""

import asyncio
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from remote.embedded.ollama.engine import Runner
from remote.embedded.ollama.store import Stored
from remote.embedded.ollama.wire import Refusal

Message = dict[str, str]

PLAIN = "{{ .Prompt }}"
"""Ollama's template for a model that brings none."""

MAX_TEMPLATE = 1 << 16
MAX_ACTIONS = 1000
MAX_DEPTH = 16
"""Of blocks within blocks and of brackets within brackets; Jinja and Python compile them
recursively."""
MAX_STEPS = 100_000
"""Fields looked up for one prompt. A template of ten actions and a chat of a thousand messages take
10,000."""
MAX_MESSAGES = 10_000
MAX_PROMPT = 16 << 20

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MAX_ACTION = 1000
_STEP_CHARACTERS, _STEP_ITEMS = 4096, 64
_TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|\$?\.\w+|\(|\)|\w+|\S)')
_FIELD = re.compile(r"(\$?)\.(Messages|System|Prompt|Response|Role|Content)")


class _Sandbox(ImmutableSandboxedEnvironment):
    """One prompt's environment: no globals, filters or tests, and a count of what the template
    looks up.

    Its delimiters are characters that `_checked` refuses in a template, so that no text of a
    request can become code.
    """

    def __init__(self) -> None:
        super().__init__(
            block_start_string="\x01%",
            block_end_string="%\x01",
            variable_start_string="\x01{",
            variable_end_string="}\x01",
            comment_start_string="\x01#",
            comment_end_string="#\x01",
            keep_trailing_newline=True,
            autoescape=False,
        )
        self.globals, self.filters, self.tests = {}, {}, {}
        self._steps = 0

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Jinja's hook for `object.attribute`: every field of a template passes here."""
        value = super().getattr(obj, attribute)
        # What is long costs more: comparing it, or writing it out, takes that much longer.
        self._steps += 1 + len(value) // (
            _STEP_ITEMS if isinstance(value, list) else _STEP_CHARACTERS
        )
        if self._steps > MAX_STEPS:
            raise Refusal(400, f"template error: more than {MAX_STEPS:,} steps for this chat")
        return value


def is_own(stored: Stored, template: str) -> bool:
    """Whether the GGUF's own template makes the prompt: it has one, and none goes before."""
    return not template and bool(stored.gguf.chat_template)


async def prompt_of(runner: Runner, messages: Sequence[Message], template: str) -> str:
    """The prompt of a chat by `template` (Go's language), or by the GGUF's own when that is
    empty."""
    if not is_own(runner.stored, template):
        return await asyncio.to_thread(render, template or PLAIN, messages)
    reply = await runner.ask("/apply-template", {"messages": list(messages)})
    return str(reply["prompt"])


def render(template: str, messages: Sequence[Message]) -> str:
    """A chat by a Modelfile's TEMPLATE, up to where the answer begins. Raises Refusal 400 for what
    is not understood, or too much."""
    if len(messages) > MAX_MESSAGES:
        raise Refusal(
            400, f"a chat of {len(messages):,} messages; at most {MAX_MESSAGES:,} are taken"
        )
    try:
        source, fields = _jinja(_checked(template))
        compiled = _Sandbox().from_string(source)
        if "Messages" in fields:
            listed = [
                {"Role": message["role"], "Content": message["content"]} for message in messages
            ]
            system = "\n\n".join(
                message["content"] for message in messages if message["role"] == "system"
            )
            return _bounded(
                _pieces(compiled, {"Messages": listed, "System": system, "Response": ""})
            )
        return _turn_by_turn(compiled, messages, "Response" in fields)
    except (TemplateError, SyntaxError, RecursionError) as error:
        raise Refusal(400, f"template error: {error}") from error


def check(template: str) -> None:
    """Refuse a template that could not be rendered later."""
    render(template, [{"role": "user", "content": "x"}])


def _checked(template: str) -> str:
    if len(template) > MAX_TEMPLATE:
        raise Refusal(
            400,
            f"template error: it has {len(template):,} characters; at most {MAX_TEMPLATE:,} are"
            " taken",
        )
    if found := _CONTROL.search(template):
        raise Refusal(400, f"template error: the control character {found[0]!r} at {found.start()}")
    return template


def _turn_by_turn(compiled: Template, messages: Sequence[Message], has_place: bool) -> str:
    """Each turn with its answer in its place, else behind it; the last one ends where its answer
    would begin."""
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    *answered, last = _turns(messages)
    # No message can hold it: it is new for each prompt.
    place = secrets.token_hex(16)

    def pieces() -> Iterable[str]:
        for turn, answer in zip(answered, answers, strict=True):
            yield from _pieces(compiled, {**turn, "Response": answer})
            yield "" if has_place else answer
        yield from _pieces(compiled, {**last, "Response": place})

    return _bounded(pieces()).partition(place)[0]


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """System and user text up to each answer, and after the last one."""
    turns: list[dict[str, list[str]]] = [{"System": [], "Prompt": []}]
    for message in messages:
        field = {"system": "System", "user": "Prompt"}.get(message["role"])
        if field:
            turns[-1][field].append(message["content"])
        elif message["role"] == "assistant":
            turns.append({"System": [], "Prompt": []})
    return [
        {field: "\n\n".join(filter(None, said)) for field, said in turn.items()} for turn in turns
    ]


def _pieces(compiled: Template, root: dict[str, Any]) -> Iterable[str]:
    return compiled.generate(root=root)


def _bounded(pieces: Iterable[str]) -> str:
    """The pieces as one text. Each is a stretch of the template or a field, so nothing large is
    made before it is counted."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_PROMPT:
            raise Refusal(
                400, f"template error: the prompt would have more than {MAX_PROMPT:,} characters"
            )
        kept.append(piece)
    return "".join(kept)


def _jinja(template: str) -> tuple[str, set[str]]:
    """The template in Jinja's language, and the fields that it uses.

    Searched by hand: a regular expression for actions would go over and over an unclosed one.
    """
    open_blocks: list[str] = []
    fields: set[str] = set()
    translated, at, actions = [], 0, 0
    while (start := template.find("{{", at)) >= 0:
        end = template.find("}}", start)
        if end < 0:
            raise Refusal(400, "template error: an action is not closed")
        actions += 1
        if actions > MAX_ACTIONS or end - start > _MAX_ACTION or len(open_blocks) > MAX_DEPTH:
            bounds = (
                f"{MAX_ACTIONS:,} actions, {MAX_DEPTH} levels, or {_MAX_ACTION:,} characters in one"
                " action"
            )
            raise Refusal(400, f"template error: more than {bounds}")
        action = template[start + 2 : end]
        translated += [template[at:start], _tag(action, open_blocks)]
        fields |= {found[2] for word in _TOKEN.findall(action) if (found := _FIELD.fullmatch(word))}
        at = end + 2
    if open_blocks:
        raise Refusal(400, "template error: an action is not closed")
    return "".join([*translated, template[at:]]), fields


def _tag(action: str, open_blocks: list[str]) -> str:
    before, after = "-" * action.startswith("-"), "-" * (len(action) > 1 and action.endswith("-"))
    kind, text = _translated(action.removeprefix("-").removesuffix("-").strip(), open_blocks)
    return f"\x01{kind}{before} {text} {after}{'}' if kind == '{' else kind}\x01"


def _translated(action: str, open_blocks: list[str]) -> tuple[str, str]:
    """One action as Jinja's kind of tag and its text; keeps count of the open blocks."""
    word, _, rest = action.partition(" ")
    in_range = "for" in open_blocks
    if action.startswith("/*"):
        return "#", ""
    if action == "end" and open_blocks:
        return "%", f"end{open_blocks.pop()}"
    if word == "else" and open_blocks:
        return "%", f"elif {_expression(rest[3:], in_range)}" if rest.startswith("if ") else "else"
    if word == "if":
        open_blocks.append("if")
        return "%", f"if {_expression(rest, in_range)}"
    if word == "range" and rest.strip() in (".Messages", "$.Messages") and not in_range:
        open_blocks.append("for")
        return "%", "for dot in root.Messages"
    return "{", _expression(action, in_range)


def _expression(text: str, in_range: bool) -> str:
    tokens = _TOKEN.findall(text)
    if tokens.count("(") > MAX_DEPTH:
        raise Refusal(400, f"template error: more than {MAX_DEPTH} brackets in one action")
    value = _call(tokens, in_range, text)
    if tokens:
        raise _unknown(text)
    return value


def _call(tokens: list[str], in_range: bool, text: str) -> str:
    """A function with its operands, or a single operand, taken off the front of `tokens`."""
    if not tokens or tokens[0] not in ("eq", "ne", "and", "or", "not"):
        return _operand(tokens, in_range, text)
    function, operands = tokens.pop(0), []
    while tokens and tokens[0] != ")":
        operands.append(_operand(tokens, in_range, text))
    if function == "not" and len(operands) == 1:
        return f"(not {operands[0]})"
    if (
        len(operands) < 2
        or (function in ("eq", "ne", "not") and len(operands) != 2)
        or function == "not"
    ):
        raise _unknown(text)
    sign = {"eq": "==", "ne": "!="}.get(function, function)
    return f"({f' {sign} '.join(operands)})"


def _operand(tokens: list[str], in_range: bool, text: str) -> str:
    word = tokens.pop(0) if tokens else ""
    if word == "(":
        inner = _call(tokens, in_range, text)
        if not tokens or tokens.pop(0) != ")":
            raise _unknown(text)
        return inner
    if found := _FIELD.fullmatch(word):
        return f"{'dot' if in_range and not found[1] else 'root'}.{found[2]}"
    if word.startswith('"') and len(word) > 1:
        return word
    raise _unknown(text)


def _unknown(text: str) -> Refusal:
    return Refusal(
        400,
        f"template error: the embedded Ollama does not know {{{{ {text} }}}}; leave TEMPLATE out to"
        " use the GGUF's own",
    )
